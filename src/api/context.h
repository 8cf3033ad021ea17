// What the public handles (include/polyveil/ckks.h) hold.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include "base/digest.h"
#include "base/thread_pool.h"
#include "circuits/bootstrapper.h"
#include "circuits/linear_transform.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "polyveil/ckks.h"

namespace polyveil {

struct Context::Impl {
  ckks::ParametersPtr params;
  ckks::Encoder encoder;
  circuits::BootstrapSpec bootstraps;
  std::unique_ptr<ThreadPool> pool;  // null: the process' own

  // Made by the first that asks. Thread-safe. Errors: those of Bootstrapper::Create.
  Result<const circuits::Bootstrapper*> bootstrapper() const;
  // level, or the fresh one for -1. Errors: kOutOfRange (field, both values).
  Result<int> LevelOf(int level) const;

  mutable std::mutex mutex;
  mutable std::optional<circuits::Bootstrapper> made;
};

struct Ciphertext::Impl {
  std::shared_ptr<const Context::Impl> context;
  ckks::Ciphertext value;
  Digest key_id{};  // of the secret key that it was made with
};

struct LinearTransform::Impl {
  std::shared_ptr<const Context::Impl> context;
  circuits::LinearTransform value;
  int dimension = 0;
};

struct EvaluationKeys::Impl {
  std::shared_ptr<const Context::Impl> context;
  ckks::EvaluationKeys value;
  Digest key_id{};
};

// Every key that the needs name, and relinearisation. Errors: those of Bootstrapper::Keys,
// kMismatch (a transform of other parameters).
Result<ckks::KeyRequest> RequestOf(const Context::Impl& context, const KeyNeeds& needs);

}  // namespace polyveil
