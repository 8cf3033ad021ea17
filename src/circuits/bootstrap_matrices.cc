#include "circuits/bootstrap_matrices.h"

#include "circuits/dft_matrices.h"

namespace polyveil::circuits {
namespace {

using ckks::LevelRole;

// z of period 2n -> z_j + i z_(j+n), of period n.
DiagonalMatrix FoldHalves(const BootstrapShape& shape) {
  DiagonalMatrix fold{shape.log_size + 1, {}};
  fold.diagonals[0] = Halves(shape, 1, Complex(0, 1));
  fold.diagonals[shape.transform_size()] = Halves(shape, Complex(0, 1), 1);
  return fold;
}

}  // namespace

BootstrapShape ShapeOf(const ckks::Parameters& params, const BootstrapSpec& spec) {
  if (spec.complex_slots) return {spec.log_period, spec.log_period < params.log_slots()};
  // Folded full slots would give the last factor diagonals of full period, whose transforms on use
  // cost more than the stage that folding saves.
  if (spec.log_period == 0 || spec.log_period == params.log_slots())
    return {spec.log_period, false};
  return {spec.log_period - 1, true};
}

std::vector<Complex> Halves(const BootstrapShape& shape, Complex first, Complex second) {
  std::vector<Complex> halves(shape.transform_size(), first);
  halves.resize(2 * halves.size(), second);
  return halves;
}

std::vector<DiagonalMatrix> SlotsToCoeffsMatrices(const ckks::Parameters& params,
                                                  const BootstrapSpec& spec) {
  const BootstrapShape shape = ShapeOf(params, spec);
  auto factors =
      SlotsToCoeffsFactors(shape.log_size, params.LevelsWithRole(LevelRole::kSlotsToCoeffs));
  if (shape.folds(spec))
    factors[0] = Compose(ScaleRows(factors[0], Halves(shape, 1, 1)), FoldHalves(shape));
  return factors;
}

std::vector<DiagonalMatrix> CoeffsToSlotsMatrices(const ckks::Parameters& params,
                                                  const BootstrapSpec& spec) {
  const BootstrapShape shape = ShapeOf(params, spec);
  auto factors =
      CoeffsToSlotsFactors(shape.log_size, params.LevelsWithRole(LevelRole::kCoeffsToSlots));
  // Re(w) in the first period, Re(-i w) = Im(w) in the second.
  if (shape.packed) factors.back() = ScaleRows(factors.back(), Halves(shape, 1, Complex(0, -1)));
  return factors;
}

}  // namespace polyveil::circuits
