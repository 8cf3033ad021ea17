// Runs a compiled model's programs on ciphertexts, one token at a time. Public keys only.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ckks/evaluator.h"
#include "compile/compiled_model.h"

namespace polyveil::runtime {

// Time by component and by primitive; both add up to `total_seconds` (the remainder is listed as "other").
struct LatencyTable {
  struct Row {
    std::string name;
    int count = 0;
    double seconds = 0;
  };
  std::vector<Row> components, primitives;
  double total_seconds = 0;
  int steps = 0;

  void Add(const LatencyTable& other);
};

struct StepProgress {
  double done_seconds = 0, total_seconds = 0;  // of the planner's estimate: a weight, not a clock
  const std::string* operation = nullptr;      // "layer 2 / attention / scores"
};

struct StepOptions {
  std::function<void(const StepProgress&)> on_progress;  // called from the running thread, often
  const std::atomic<bool>* cancel = nullptr;             // kCancelled between operations; the session's state is as before the step
  LatencyTable* latency = nullptr;
};

// The evaluator, its encoder and bootstrappers for one client's keys: shared by that client's sessions.
class Engine {
 public:
  // Errors: kMissingKey when keys do not cover model->keys().
  static Result<std::shared_ptr<const Engine>> Create(std::shared_ptr<const compile::CompiledModel> model,
                                                      std::shared_ptr<const ckks::EvaluationKeys> keys);
  struct Impl;
  const Impl& impl() const { return *impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

// One text: its position and encrypted key-value cache.
class DecoderSession {
 public:
  explicit DecoderSession(std::shared_ptr<const Engine> engine);

  // One token in (level model.input_level(), scale params.scale(level), slots = embedding / residual_bound with period d_model), the
  // residual after the last block out, same layout and unit. Errors: kOutOfRange beyond the context, kMismatch of level or scale; the state
  // changes only on success.
  Result<ckks::Ciphertext> Step(const ckks::Ciphertext& token, const StepOptions& options);
  int position() const { return position_; }
  size_t state_bytes() const;

 private:
  std::shared_ptr<const Engine> engine_;
  std::vector<ckks::Ciphertext> state_;
  int position_ = 0;
};

}  // namespace polyveil::runtime
