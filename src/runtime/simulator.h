// Runs a compiled model's programs on plain slot vectors, with the noise that ciphertexts would
// carry and a count of the values that leave a fitted interval: fast accuracy studies without keys.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "compile/compiled_decoder.h"
#include "runtime/noise_model.h"

namespace polyveil::runtime {

// Values outside [-1, 1] where a polynomial or a bootstrap reads them.
struct EscapeReport {
  std::uint64_t slots = 0, escapes = 0;  // what is not finite has escaped
  std::uint64_t not_finite = 0;
  double worst = 0;  // largest |value| read; infinity for NaN
  void Merge(const EscapeReport& other);
};

// Which slots a simulation keeps.
enum class SimulatedSlots {
  kOnePeriod,  // others hold the same values up to noise
  kAll,        // slower: for what the copies of a period tell
};

// Sees every value of a step: its slots, one period of them.
using SimulatorObserver =
    std::function<void(const compile::Node&, std::span<const compile::Complex>)>;

class Simulator {
 public:
  Simulator(std::shared_ptr<const compile::CompiledProgram> model, NoiseModel noise,
            std::uint64_t seed, SimulatedSlots slots = SimulatedSlots::kOnePeriod);

  // Forgets the text; escape counts stay. known: public tokens before the next one, or null.
  // Errors: those of KnownStates; the text is forgotten all the same.
  Status Reset(std::shared_ptr<const model::PublicContext> known = nullptr);
  // embedding: d_model values (not divided by the residual's bound). Returns the residual after the
  // last block.
  Result<std::vector<double>> Step(std::span<const double> embedding);
  // A token of each of several texts, up to the program's number of them.
  Result<std::vector<std::vector<double>>> StepTexts(
      std::span<const std::vector<double>> embeddings);
  // A prompt's tokens at once, at the beginning of a text, by a program of the same model for them.
  // Returns their residuals. texts: of an encoder (LowerPrompt). Errors: kInvalidArgument for a
  // text that has begun, those of Program.
  Result<std::vector<std::vector<double>>> Read(
      const std::shared_ptr<const compile::CompiledDecoder>& prompt,
      std::span<const std::vector<double>> embeddings, std::span<const int> texts = {});
  // The next token by a choice's program behind a step, which StepOnChosen feeds. noise:
  // model::ChoiceNoise, or none. Errors: those of Program.
  Status Choose(const compile::ChoiceProgram& choice, std::span<const double> noise = {});
  // The next token from its bits, as a client without an embedding sends them, which StepOnChosen
  // feeds. Errors: kOutOfRange for a token outside the vocabulary, those of Program.
  Status Embed(const compile::ChoiceProgram& choice, std::int32_t token);
  // The step of what was chosen. Returns its residual.
  Result<std::vector<double>> StepOnChosen();
  // Of the last choice: the pages that the client would decrypt, and the next step's input.
  const std::vector<std::vector<compile::Complex>>& pages() const { return pages_; }
  const std::vector<compile::Complex>& chosen_slots() const { return chosen_; }

  int position() const { return position_; }  // public tokens counted
  // What the client would decrypt of the last step: residuals / units().result(), one period of
  // them or all slots.
  const std::vector<compile::Complex>& result_slots() const { return results_.front(); }
  // The same of tokens at once: a ciphertext each.
  const std::vector<std::vector<compile::Complex>>& results() const { return results_; }
  const std::map<std::string, EscapeReport>& escapes() const { return escapes_; }
  void set_observer(SimulatorObserver observer) { observer_ = std::move(observer); }

 private:
  friend class SimulatorMachine;
  using Slots = std::vector<compile::Complex>;
  Status Run(const compile::CompiledProgram& program, int position, std::span<const Slots> inputs,
             std::span<const int> texts = {});
  // states: before and behind it. Returns the outputs.
  Result<std::vector<Slots>> RunGraph(const compile::CompiledProgram& program,
                                      const compile::Graph& graph, std::span<const Slots> inputs,
                                      std::vector<Slots>& states);

  std::shared_ptr<const compile::CompiledProgram> model_;
  NoiseModel noise_;
  std::shared_ptr<const model::PublicContext> known_;
  std::mt19937_64 random_;
  SimulatedSlots slots_;
  std::vector<std::vector<compile::Complex>> state_;
  std::vector<std::vector<compile::Complex>> results_{1};
  std::vector<std::vector<compile::Complex>> pages_, pages_before_;
  int chosen_position_ = -1;
  std::vector<compile::Complex> chosen_;
  int position_ = 0;
  std::map<std::string, EscapeReport> escapes_;
  SimulatorObserver observer_;
};

}  // namespace polyveil::runtime
