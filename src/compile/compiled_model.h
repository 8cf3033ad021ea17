// A model compiled for a parameter set: the plan that every position shares, and the program of
// each position.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "ckks/key_plan.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"
#include "compile/cost_model.h"
#include "compile/graph.h"
#include "compile/layout.h"
#include "compile/units.h"
#include "model/bundle.h"

namespace polyveil::compile {

// What a run will cost; printed before it starts.
struct Estimate {
  double seconds_per_token = 0;
  double key_generation_seconds = 0;
  size_t key_bytes_wire = 0;     // seeded and packed
  size_t key_bytes_memory = 0;   // expanded, on the server
  size_t key_bytes_compact = 0;  // the same without their uniform half
  double compact_seconds = 0;    // that compact keys add to a token
  size_t server_bytes = 0;       // peak: expanded keys, state, working set
  size_t token_bytes_up = 0, token_bytes_down = 0;
  int depth_per_token = 0;  // levels on the longest path of one step
  int bootstraps_per_token = 0;
  int rotations_per_token = 0;            // outside bootstraps
  int products_per_token = 0;             // ciphertext x ciphertext, outside bootstraps
  std::vector<double> component_seconds;  // by Component
};

// The keys of a bootstrap of this period: asked of the circuits, which this layer does not see.
using BootstrapKeys = std::function<Result<ckks::KeyRequest>(int log_period, bool real)>;

class CompiledModel {
 public:
  // Lowers, places bootstraps, assigns levels; callers above the circuits use
  // runtime::CompileModel. Errors: kOutOfRange when no placement fits the levels or when the ring
  // has too few slots for the model's shape, kInvalidArgument for a model form that has no program.
  static Result<std::shared_ptr<const CompiledModel>> Create(
      std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
      const MachineSpeed& speed, const BootstrapKeys& bootstrap_keys);

  const model::BodyBundle& bundle() const { return *bundle_; }
  const ckks::ParametersPtr& params() const { return params_; }
  const Layout& layout() const { return layout_; }
  // The program for the token at `position` (public), levels assigned. Same shape and levels at
  // every position; constants differ. Errors: kOutOfRange beyond the context.
  Result<Graph> Program(int position) const;
  // Estimated seconds of one operation of a program: the weight of a progress bar.
  double EstimateSeconds(const Node& node) const;
  const ckks::KeyRequest& keys() const { return keys_; }
  // What a token reads of them, bootstraps included (each of their keys counted once a bootstrap).
  const ckks::KeyUses& key_uses() const { return key_uses_; }
  const Estimate& estimate() const { return estimate_; }
  int input_level() const { return input_level_; }  // level at which the client encrypts a token
  int output_level() const { return output_level_; }
  int state_count() const { return bundle_->config.n_layers; }  // ciphertexts kept between steps
  int context() const { return bundle_->config.context; }
  // A token travels divided by units().input, a result by units().result().
  const ResidualUnits& units() const { return units_; }
  // BLAKE2b-256, hexadecimal, over the model's description, its tensors' digest, the parameters and
  // every level of the plan: client and server must agree on it.
  const std::string& digest() const { return digest_; }
  // One line per value: level, period, bootstraps, name.
  Result<std::string> Dump(int position) const;

 private:
  CompiledModel(std::shared_ptr<const model::BodyBundle> bundle, ckks::ParametersPtr params,
                const MachineSpeed& speed);
  Status CollectKeys(const Graph& plan, const BootstrapKeys& bootstrap_keys);
  void MakeEstimate(const Graph& plan);
  void MakeDigest(const Graph& plan);

  std::shared_ptr<const model::BodyBundle> bundle_;
  ckks::ParametersPtr params_;
  CostModel cost_;
  Layout layout_;
  ResidualUnits units_;
  std::vector<bool> bootstrapped_;  // by node of the lowered graph
  int input_level_ = 0, output_level_ = 0;
  ckks::KeyRequest keys_;
  ckks::KeyUses key_uses_;
  Estimate estimate_;
  std::string digest_;
};

}  // namespace polyveil::compile
