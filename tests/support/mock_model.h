// The answers of an honest server, without a model behind it: a hostile one starts from them.
#pragma once

#include <map>
#include <mutex>
#include <random>

#include "ckks/parameters.h"
#include "serve/protocol.h"
#include "support/mock_server.h"
#include "wire/ciphertext_format.h"

namespace polyveil::testing {

class MockModel {
 public:
  explicit MockModel(std::uint64_t seed = 1);

  // The whole reply to a request; a test may send it, or something made from it.
  std::string Reply(const MockRequest& request);
  // The reply's body to a step: frames.
  wire::Bytes StepBody(const MockRequest& request);
  // A result for the step's position and key, of random residues or of a test's own.
  wire::Bytes Result(const MockRequest& request, const ckks::Ciphertext& result) const;
  ckks::Ciphertext RandomResult();
  // What an honest server of a model that changes nothing returns: the token itself, at the output
  // level; random residues for a request that holds none.
  ckks::Ciphertext HonestResult(const MockRequest& request);

  const ckks::ParametersPtr& params() const { return params_; }
  serve::ModelInfo& info() { return info_; }

 private:
  const ckks::ParametersPtr params_;
  serve::ModelInfo info_;
  mutable std::mutex mutex_;
  Digest key_id_{};         // guarded by mutex_: of the last upload
  std::mt19937_64 random_;  // guarded by mutex_
};

std::string AsText(const wire::Bytes& bytes);

}  // namespace polyveil::testing
