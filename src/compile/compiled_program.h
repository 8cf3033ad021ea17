// A program for a parameter set: the plan that every position shares, and the graph of each
// position.
#pragma once

#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "ckks/key_plan.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"
#include "compile/block_matrices.h"
#include "compile/cost_model.h"
#include "compile/graph.h"
#include "compile/level_stages.h"
#include "compile/units.h"
#include "model/public_context.h"

namespace polyveil::compile {

// What a run will cost; printed before it starts.
struct Estimate {
  double seconds_per_token = 0;
  double key_generation_seconds = 0;
  size_t key_bytes_wire = 0;     // seeded and packed
  size_t key_bytes_memory = 0;   // expanded, on the server
  size_t key_bytes_compact = 0;  // the same without their uniform half
  double compact_seconds = 0;    // that compact keys add to a token
  size_t server_bytes = 0;       // peak: expanded keys, state, working set, weight_bytes
  size_t weight_bytes = 0;       // plaintexts of weights, kept from token to token
  size_t weight_budget = 0;      // what they may take
  double make_seconds = 0;       // to make those of one token that are not kept
  double first_seconds = 0;      // that the first token takes longer, making those that are
  size_t token_bytes_up = 0, token_bytes_down = 0;
  int depth_per_token = 0;  // levels on the longest path of one step
  int bootstraps_per_token = 0;
  int rotations_per_token = 0;            // outside bootstraps
  int products_per_token = 0;             // ciphertext x ciphertext, outside bootstraps
  std::vector<double> component_seconds;  // by Component
  std::vector<LevelStage> levels;         // along the program
};

// The keys of circuits, which this layer does not see.
struct CircuitKeys {
  std::function<Result<ckks::KeyRequest>(int log_period, bool real)> bootstrap;
  // Of a linear map at this level.
  std::function<ckks::KeyRequest(const LinearMap& map, int level)> linear;
};

class CompiledProgram {
 public:
  virtual ~CompiledProgram() = default;

  const ckks::ParametersPtr& params() const { return params_; }
  // The program for the token at `position` (public), levels assigned. Same shape and levels at
  // every position and public context; constants differ. known: the text's public tokens, or null.
  // Errors: kOutOfRange beyond the context or for more public tokens than the program has room for,
  // kMismatch for a context of another model.
  // texts: of an encoder's program (LowerPrompt).
  Result<Graph> Program(int position,
                        const std::shared_ptr<const model::PublicContext>& known = nullptr,
                        std::span<const int> texts = {}) const;
  // Estimated seconds of one operation of a program: the weight of a progress bar.
  double EstimateSeconds(const Node& node) const;
  const ckks::KeyRequest& keys() const { return keys_; }
  // What a token reads of them, bootstraps included (each of their keys counted once a bootstrap).
  const ckks::KeyUses& key_uses() const { return key_uses_; }
  const Estimate& estimate() const { return estimate_; }
  // The same of MachineSpeed's own values: what programs are chosen by is alike on all machines.
  double usual_seconds() const { return usual_seconds_; }
  int input_level() const { return input_level_; }  // level at which the client encrypts a token
  int output_level() const { return output_level_; }
  // A token travels divided by units().input, a result by units().result().
  const ResidualUnits& units() const { return units_; }
  // BLAKE2b-256, hexadecimal, over the model's description, its tensors' digest, the parameters and
  // every level of the plan: client and server must agree on it.
  const std::string& digest() const { return digest_; }
  // One line per value: level, period, seconds, operation, name.
  Result<std::string> Dump(int position) const;

  // The diagonals of one of its maps.
  virtual MapDiagonals Diagonals(const LinearMap& map) const = 0;

  virtual int state_count() const = 0;  // ciphertexts kept between steps
  // Else an encoder's: it reads whole texts, one no wiser than the other.
  bool keeps_caches() const { return state_count() > 0; }
  // The kept values before a text, by state: keys and values of the constant prefix and of public
  // tokens (null: none) in their slots. Empty: zero. Errors: kMismatch for a context of another
  // number of blocks or keys, kOutOfRange for one that leaves no room (both values).
  virtual Result<std::vector<std::vector<Complex>>> KnownStates(
      const model::PublicContext* known) const = 0;
  // Whether every step's constants hold public tokens; otherwise the known states alone do.
  virtual bool reads_known() const = 0;
  // Tokens of a public context at most; and those of a text that begins with so many.
  virtual int most_known() const = 0;
  virtual int ContextBehind(int known) const = 0;
  virtual int context() const = 0;
  virtual int width() const = 0;  // values of a token and of a result
  virtual int texts() const = 0;  // that a step decodes together

 protected:
  // speed: of the estimates; the plan is the same on every machine.
  CompiledProgram(ckks::ParametersPtr params, const MachineSpeed& speed, ResidualUnits units);
  const MachineSpeed& speed() const { return speed_; }
  // Places bootstraps, assigns levels, collects keys. Errors: kOutOfRange when no placement fits
  // the levels, those of Lower.
  Status Plan(const CircuitKeys& circuits);
  // Another program runs on the same keys beside this one: they are its too.
  void ServeBeside(const CompiledProgram& other);
  // Bytes of weights' plaintexts that it may keep beside all that is known so far: half of what is
  // left, unless MachineSpeed says.
  size_t WeightRoom() const;
  // Which plaintexts it and others beside it, which use its store, keep in so much: this one's
  // first. The last step of making one.
  Status PlanWeights(size_t room, std::span<CompiledProgram* const> beside);
  // What the other keeps lies beside it.
  void KeepBeside(const CompiledProgram& other);

 private:
  // The graph of a step without bootstraps.
  virtual Result<Graph> Lower(int position,
                              const std::shared_ptr<const model::PublicContext>& known,
                              std::span<const int> texts) const = 0;
  // What the digest covers beside parameters and plan.
  virtual std::string Description() const = 0;

  Status CollectKeys(const Graph& plan, const CircuitKeys& circuits);
  void MakeEstimate(const Graph& plan);
  void EstimateKeys();
  // What a store of programs keeps, in the order of a token, as runtime::WeightStore does.
  struct Shelf {
    size_t room = 0, bytes = 0;
    std::set<PlaintextKey> kept{};
  };
  Status KeepOn(Shelf& shelf);
  void MakeDigest(const Graph& plan);

  ckks::ParametersPtr params_;
  const MachineSpeed speed_;
  CostModel cost_;
  ResidualUnits units_;
  std::vector<bool> bootstrapped_;  // by node of the lowered graph
  int input_level_ = 0, output_level_ = 0;
  ckks::KeyRequest keys_;
  ckks::KeyUses key_uses_;
  Estimate estimate_;
  // Of the largest matrix' operand and of a step's constants: most of all programs beside each
  // other.
  size_t running_bytes_ = 0;
  double usual_seconds_ = 0;
  std::string digest_;
};

}  // namespace polyveil::compile
