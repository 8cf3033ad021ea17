// Muon for the blocks' matrices, Adam for the rest; the whole state can be saved and restored.
#pragma once

#include <torch/torch.h>

#include <string>
#include <vector>

#include "train/rows.h"
#include "train/transformer.h"

namespace polyveil::train {

// Nearest semi-orthogonal matrix, roughly: five quintic Newton-Schulz steps (singular values end in
// about 0.7..1.2). Source: Jordan et al. 2024, Muon; coefficients 3.4445, -4.7750, 2.0315.
// Under kBf16 the steps' products have bfloat16 operands.
torch::Tensor Orthogonalise(const torch::Tensor& gradient,
                            Precision precision = Precision::kFloat32);

// The rate's factor at `step` of `steps`.
double ScheduleFactor(const Schedule& schedule, std::int64_t step, std::int64_t steps);

// One step of Adam by LibTorch's own operations, on any device (rows.h has the CPU's).
namespace plain {
void Adam(const AdamStep& step, const torch::Tensor& gradient, torch::Tensor& m, torch::Tensor& v,
          torch::Tensor& w);
}  // namespace plain

class Optimizer {
 public:
  Optimizer(const std::vector<Transformer::Parameter>& parameters, const OptimizerOptions& options,
            Precision precision = Precision::kFloat32);

  // Clips the global norm of the gradients, updates every parameter, clears the gradients. Returns
  // the norm before clipping.
  double Step(double factor);

  // Named state tensors, in a fixed order.
  std::vector<std::pair<std::string, torch::Tensor>> State() const;
  std::int64_t steps_done() const { return steps_done_; }
  void set_steps_done(std::int64_t steps) { steps_done_ = steps; }

 private:
  struct Slot {
    Transformer::Parameter parameter;
    torch::Tensor first, second;  // Muon keeps a momentum only
  };
  // One matrix on its way: its part of a parameter, and the direction that becomes orthogonal.
  struct MuonPart {
    torch::Tensor target, direction;
  };
  std::vector<MuonPart> PrepareMuon(Slot& slot, const torch::Tensor& gradient, double factor);
  void StepMuon(std::vector<MuonPart>& parts, double factor);
  void StepAdam(Slot& slot, const torch::Tensor& gradient, double clip, double factor);

  OptimizerOptions options_;
  Precision precision_;
  std::vector<Slot> slots_;
  std::int64_t steps_done_ = 0;
};

}  // namespace polyveil::train
