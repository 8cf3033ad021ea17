// A model compiled for a parameter set: the plan that every position shares, and the program of each position.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"
#include "compile/cost_model.h"
#include "compile/graph.h"
#include "model/bundle.h"

namespace polyveil::compile {

// What a run will cost; printed before it starts.
struct Estimate {
  double seconds_per_token = 0;
  double key_generation_seconds = 0;
  size_t key_bytes_wire = 0;    // seeded
  size_t key_bytes_memory = 0;  // expanded, on the server
  size_t server_bytes = 0;      // peak: keys, state, working set
  size_t token_bytes_up = 0, token_bytes_down = 0;
  int levels_per_token = 0;     // multiplicative depth of one step
  int bootstraps_per_token = 0;
  int rotations_per_token = 0;
  int products_per_token = 0;   // ciphertext x ciphertext
  std::vector<double> component_seconds;  // by Component
};

class CompiledModel {
 public:
  // Lowers, places bootstraps, assigns levels. Errors: kOutOfRange when no placement fits the levels, when the ring has too few slots
  // for the model's shape, or when a calibrated range has no margin.
  static Result<std::shared_ptr<const CompiledModel>> Create(std::shared_ptr<const model::Bundle> bundle,
                                                             ckks::ParametersPtr params, const MachineSpeed& speed);

  const model::Bundle& bundle() const { return *bundle_; }
  const ckks::ParametersPtr& params() const { return params_; }
  // The program for the token at `position` (public). Same shape and levels at every position; constants differ.
  Graph Program(int position) const;
  const ckks::KeyRequest& keys() const { return keys_; }
  const Estimate& estimate() const { return estimate_; }
  int input_level() const;   // level at which the client encrypts a token
  int output_level() const;
  int state_count() const;   // ciphertexts kept between steps
  int context() const;
  // Residuals travel divided by this bound, so that every slot lies in [-1, 1].
  double residual_bound() const;
  // BLAKE2b-256 over the bundle's tensors, the parameters and the plan: client and server must agree on it.
  std::string digest() const;
  // One line per value: name, level, magnitude, period.
  std::string Dump(int position) const;

 private:
  CompiledModel() = default;

  std::shared_ptr<const model::Bundle> bundle_;
  ckks::ParametersPtr params_;
  Graph plan_;                      // position 0's program with bootstraps and levels
  std::vector<bool> bootstrapped_;  // by node of the lowered graph
  ckks::KeyRequest keys_;
  Estimate estimate_;
};

}  // namespace polyveil::compile
