// Runs a compiled model's programs on ciphertexts, one token at a time. Public keys only.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/memory_report.h"
#include "base/result.h"
#include "ckks/ciphertext.h"
#include "ckks/keys.h"
#include "compile/compiled_program.h"
#include "runtime/latency_table.h"
#include "runtime/weight_store.h"

namespace polyveil::runtime {

struct EngineParts;

struct StepProgress {
  double done = 0;                         // of the step's estimated work, in [0, 1]
  const std::string* operation = nullptr;  // "layer 2 / attention / scores"
};

struct StepOptions {
  std::function<void(const StepProgress&)>
      on_progress;  // before each operation, from the running thread
  const std::atomic<bool>* cancel =
      nullptr;  // kCancelled between operations; the session's state is as before the step
  LatencyTable* latency = nullptr;
};

// The evaluator, its encoder and bootstrappers for one client's keys: shared by that client's
// sessions.
class Engine {
 public:
  // program: of the store's model, null for the store's own. Errors: kMissingKey when keys do not
  // cover the program's.
  static Result<std::shared_ptr<const Engine>> Create(
      std::shared_ptr<WeightStore> weights, std::shared_ptr<const ckks::EvaluationKeys> keys,
      std::shared_ptr<const compile::CompiledProgram> program = nullptr);
  ~Engine();
  const EngineParts& parts() const { return *parts_; }
  // Keys and permutation tables.
  void Report(MemoryReport& report) const;

 private:
  Engine() = default;
  std::unique_ptr<const EngineParts> parts_;
};

// One text: its position and encrypted key-value cache.
class DecoderSession {
 public:
  // known: public tokens before the text, or null.
  explicit DecoderSession(std::shared_ptr<const Engine> engine,
                          std::shared_ptr<const model::PublicContext> known = nullptr)
      : engine_(std::move(engine)),
        known_(std::move(known)),
        position_(known_ ? known_->tokens : 0) {}

  // One token in: level model.input_level(), scale params.scale(level), slots = embedding /
  // units().input with period d_model. The residual after the last block out, divided by
  // units().result(), same layout, at model.output_level(). Errors: kOutOfRange beyond the context,
  // kMismatch of level or scale, kCancelled; the state changes only on success.
  Result<ckks::Ciphertext> Step(const ckks::Ciphertext& token, const StepOptions& options);
  // A prompt's first `count` tokens at once, at the beginning of a text without public tokens, by
  // the engine of a prompt's program (CompiledDecoder::prompts) of the same keys. tokens: as
  // PackTokens lays them out, at that program's input level. Returns their residuals in the same
  // layout. texts: of an encoder (compile::LowerPrompt), which reads at any time and keeps nothing.
  // Errors: as Step's, kInvalidArgument where a decoder's text has begun, kMismatch for another
  // number of ciphertexts than the program's.
  Result<std::vector<ckks::Ciphertext>> Read(const Engine& prompt,
                                             std::span<const ckks::Ciphertext> tokens, int count,
                                             const StepOptions& options,
                                             std::span<const int> texts = {});
  int position() const { return position_; }  // the public tokens counted
  // Goes back to before the last step, whose answer may have been lost; false when there is none to
  // go back to (each step can be taken back once).
  bool UndoStep();
  int undo_position() const { return can_undo_ ? previous_position_ : -1; }  // -1: cannot
  size_t state_bytes() const;

  // What a session is between two steps, to be kept elsewhere and gone on with.
  struct State {
    int position = 0;
    std::vector<ckks::Ciphertext> values;  // some may be empty; the program's, in its order
  };
  const std::vector<ckks::Ciphertext>& values() const { return state_; }
  const std::vector<ckks::Ciphertext>& undo_values() const { return previous_state_; }
  // previous: what UndoStep goes back to, or nothing. Requires a session that has made no step.
  void Restore(State now, std::optional<State> previous);

 private:
  Result<std::vector<ckks::Ciphertext>> Run(const EngineParts& parts, const compile::Graph& graph,
                                            std::span<const ckks::Ciphertext> inputs, int position,
                                            const StepOptions& options);
  // What is known of the caches, in trivial encryptions; nothing where all are zero.
  Status Start(const compile::Graph& graph);

  std::shared_ptr<const Engine> engine_;
  std::shared_ptr<const model::PublicContext> known_;
  bool started_ = false;
  std::vector<ckks::Ciphertext> state_, previous_state_;
  bool can_undo_ = false;
  int position_ = 0, previous_position_ = 0;
};

}  // namespace polyveil::runtime
