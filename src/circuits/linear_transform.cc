#include "circuits/linear_transform.h"

#include <bit>
#include <optional>
#include <set>

#include "base/thread_pool.h"
#include "circuits/level_modulus.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;
using ckks::ExtendedCiphertext;

std::vector<int> Indices(const DiagonalMatrix& matrix) {
  std::vector<int> indices;
  for (const auto& [index, diagonal] : matrix.diagonals) indices.push_back(index);
  return indices;
}

// Giant steps rotate sums, so their diagonals go in rotated back: entry j is diagonal[j - giant].
std::vector<Complex> RotatedBack(const std::vector<Complex>& diagonal, int giant) {
  std::vector<Complex> result(diagonal.size());
  for (size_t j = 0; j < result.size(); ++j)
    result[j] = diagonal[(j - static_cast<size_t>(giant)) & (diagonal.size() - 1)];
  return result;
}

Status CheckMatrix(const ckks::Parameters& params, const DiagonalMatrix& matrix, int level) {
  if (matrix.diagonals.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "linear transform without diagonals");
  }
  if (matrix.log_period < 0 || matrix.log_period > params.log_slots()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "linear transform: log_period = {}, expected 0..{}", matrix.log_period,
                     params.log_slots());
  }
  if (level < 1 || level > params.max_level()) {
    return MakeError(ErrorCode::kInvalidArgument, "linear transform: level = {}, expected 1..{}",
                     level, params.max_level());
  }
  std::set<int> reduced;
  for (const auto& [index, diagonal] : matrix.diagonals) {
    if (!std::has_single_bit(diagonal.size()) ||
        diagonal.size() > static_cast<size_t>(matrix.period())) {
      return MakeError(ErrorCode::kInvalidArgument, "diagonal {}: {} entries, period {}", index,
                       diagonal.size(), matrix.period());
    }
    if (!reduced.insert(index & (matrix.period() - 1)).second) {
      return MakeError(ErrorCode::kInvalidArgument, "diagonal {} occurs twice modulo the period {}",
                       index, matrix.period());
    }
  }
  return {};
}

}  // namespace

Result<LinearTransform> LinearTransform::Create(const ckks::Encoder& encoder,
                                                const DiagonalMatrix& matrix, int level,
                                                double input_scale, double output_scale,
                                                int baby_steps, CoefficientWords words) {
  const ckks::Parameters& params = *encoder.params();
  PV_RETURN_IF_ERROR(CheckMatrix(params, matrix, level));
  LinearTransform result;
  result.level_ = level;
  result.input_scale_ = input_scale;
  result.output_scale_ = output_scale;
  result.plain_scale_ = output_scale * LevelModulus(params, level) / input_scale;
  const BsgsSplit split =
      SplitRotations(params, Indices(matrix), matrix.log_period, level, baby_steps);
  PV_RETURN_IF_ERROR(result.EncodeRows(encoder, matrix, split, words));
  return result;
}

Status LinearTransform::EncodeRows(const ckks::Encoder& encoder, const DiagonalMatrix& matrix,
                                   const BsgsSplit& split, CoefficientWords words) {
  struct Task {
    int giant, baby, index;
  };
  std::vector<Task> tasks;
  for (const auto& [giant, row] : split.giants)
    for (const auto& [baby, index] : row) tasks.push_back({giant, baby, index});
  std::vector<std::optional<Result<CompactPlaintext>>> plains(tasks.size());
  ParallelFor(tasks.size(), [&](size_t i) {
    const auto diagonal = RotatedBack(matrix.diagonals.at(tasks[i].index), tasks[i].giant);
    plains[i] = CompactPlaintext::Create(encoder, diagonal, level_, plain_scale_, words);
  });
  for (size_t i = 0; i < tasks.size(); ++i) {
    PV_ASSIGN_OR_RETURN(CompactPlaintext plain, std::move(*plains[i]));
    rows_[tasks[i].giant].emplace(tasks[i].baby, std::move(plain));
  }
  return {};
}

void LinearTransform::AddKeys(ckks::KeyRequest& request, int slots) const {
  for (const auto& [giant, row] : rows_) {
    request.AddRotation(giant, slots, level_);
    for (const auto& [baby, plain] : row) request.AddRotation(baby, slots, level_);
  }
}

void LinearTransform::AddKeys(ckks::KeyRequest& request, const ckks::Parameters& params,
                              const DiagonalMatrix& matrix, int level, int baby_steps) {
  const BsgsSplit split =
      SplitRotations(params, Indices(matrix), matrix.log_period, level, baby_steps);
  for (const int rotation : split.NonzeroRotations())
    request.AddRotation(rotation, params.slots(), level);
}

ExtendedCiphertext LinearTransform::Zero(const ckks::Parameters& params) const {
  const size_t limbs = params.extended_limbs(level_), n = params.n();
  return {ring::RnsPoly::Zero(limbs, n), ring::RnsPoly::Zero(limbs, n), level_,
          input_scale_ * plain_scale_};
}

Result<ExtendedCiphertext> LinearTransform::Sum(const ckks::Evaluator& evaluator,
                                                const Ciphertext& x) const {
  if (x.level < level_ || !ckks::SameScale(x.scale, input_scale_)) {
    return MakeError(
        ErrorCode::kMismatch,
        "linear transform: ciphertext level {}, scale {:.10g}; expected level {}, scale {:.10g}",
        x.level, x.scale, level_, input_scale_);
  }
  Ciphertext input = x;
  input.scale = input_scale_;
  PV_RETURN_IF_ERROR(evaluator.DropLevelInplace(input, level_));
  PV_ASSIGN_OR_RETURN(auto sums, MultiplyRows(evaluator, input, rows_, plain_scale_));
  auto unrotated = sums.extract(0);
  ExtendedCiphertext sum = unrotated ? std::move(unrotated.mapped()) : Zero(evaluator.params());
  for (auto& [giant, row] : sums) {
    PV_RETURN_IF_ERROR(evaluator.RotateAccumulate(sum, row, giant));
    row = {};
  }
  return sum;
}

Result<Ciphertext> LinearTransform::Apply(const ckks::Evaluator& evaluator,
                                          const Ciphertext& x) const {
  PV_ASSIGN_OR_RETURN(const ExtendedCiphertext sum, Sum(evaluator, x));
  return Finish(evaluator, sum);
}

Result<Ciphertext> LinearTransform::Finish(const ckks::Evaluator& evaluator,
                                           const ExtendedCiphertext& sum) const {
  PV_ASSIGN_OR_RETURN(Ciphertext result, evaluator.ModDownRescale(sum));
  result.scale = output_scale_;
  return result;
}

size_t LinearTransform::plaintext_bytes() const {
  size_t bytes = 0;
  for (const auto& [giant, row] : rows_)
    for (const auto& [baby, plain] : row) bytes += plain.bytes();
  return bytes;
}

}  // namespace polyveil::circuits
