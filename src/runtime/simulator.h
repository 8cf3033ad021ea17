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
#include "compile/compiled_program.h"
#include "runtime/noise_model.h"

namespace polyveil::runtime {

// Values outside [-1, 1] where a polynomial or a bootstrap reads them.
struct EscapeReport {
  std::uint64_t slots = 0, escapes = 0;
  double worst = 0;  // largest |value| read
};

// Sees every value of a step: its slots, one period of them.
using SimulatorObserver =
    std::function<void(const compile::Node&, std::span<const compile::Complex>)>;

class Simulator {
 public:
  Simulator(std::shared_ptr<const compile::CompiledProgram> model, NoiseModel noise,
            std::uint64_t seed);

  // Forgets the text; escape counts stay.
  void Reset();
  // embedding: d_model values (not divided by the residual's bound). Returns the residual after the
  // last block.
  Result<std::vector<double>> Step(std::span<const double> embedding);
  int position() const { return position_; }
  const std::map<std::string, EscapeReport>& escapes() const { return escapes_; }
  void set_observer(SimulatorObserver observer) { observer_ = std::move(observer); }

 private:
  friend class SimulatorMachine;

  std::shared_ptr<const compile::CompiledProgram> model_;
  NoiseModel noise_;
  std::mt19937_64 random_;
  std::vector<std::vector<compile::Complex>> state_;
  int position_ = 0;
  std::map<std::string, EscapeReport> escapes_;
  SimulatorObserver observer_;
};

}  // namespace polyveil::runtime
