#include "circuits/linear_transform.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/thread_pool.h"
#include "circuits/level_modulus.h"
#include "ring/kernels.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;
using ckks::ExtendedCiphertext;

// Words of each expanded diagonal that wait in the cache for their product.
constexpr size_t kBlockWords = 1024;

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
    return MakeError(ErrorCode::kInvalidArgument, "linear transform: log_period = {}, expected 0..{}",
                     matrix.log_period, params.log_slots());
  }
  if (level < 1 || level > params.max_level()) {
    return MakeError(ErrorCode::kInvalidArgument, "linear transform: level = {}, expected 1..{}",
                     level, params.max_level());
  }
  std::set<int> reduced;
  for (const auto& [index, diagonal] : matrix.diagonals) {
    if (diagonal.size() != static_cast<size_t>(matrix.period())) {
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
                                                int baby_steps) {
  const ckks::Parameters& params = *encoder.params();
  PV_RETURN_IF_ERROR(CheckMatrix(params, matrix, level));
  LinearTransform result;
  result.level_ = level;
  result.input_scale_ = input_scale;
  result.output_scale_ = output_scale;
  const double scale = output_scale * LevelModulus(params, level) / input_scale;
  const BsgsSplit split =
      SplitRotations(params, Indices(matrix), matrix.log_period, level, baby_steps);
  for (const auto& [giant, row] : split.giants) {
    for (const auto& [baby, index] : row) {
      const auto diagonal = RotatedBack(matrix.diagonals.at(index), giant);
      PV_ASSIGN_OR_RETURN(CompactPlaintext plain,
                          CompactPlaintext::Create(encoder, diagonal, level, scale));
      result.giants_[giant].emplace(baby, std::move(plain));
    }
  }
  return result;
}

void LinearTransform::AddKeys(ckks::KeyRequest& request, int slots) const {
  for (const auto& [giant, row] : giants_) {
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

Result<LinearTransform::Babies> LinearTransform::RotateBabies(const ckks::Evaluator& evaluator,
                                                              const Ciphertext& x) const {
  std::set<int> rotations;
  for (const auto& [giant, row] : giants_)
    for (const auto& [baby, plain] : row) rotations.insert(baby);
  Babies babies;
  if (rotations.erase(0) > 0) babies.emplace(0, evaluator.Extend(x));
  if (rotations.empty()) return babies;
  PV_ASSIGN_OR_RETURN(const ckks::HoistedDigits digits, evaluator.Decompose(x));
  for (const int rotation : rotations) {
    PV_ASSIGN_OR_RETURN(ExtendedCiphertext rotated,
                        evaluator.RotateHoistedLazy(x, digits, rotation));
    babies.emplace(rotation, std::move(rotated));
  }
  return babies;
}

// One limb of sum = sum_b plain_b baby_b, expanded block by block, in groups that one kernel call can take.
void LinearTransform::MultiplyLimb(const ckks::Parameters& params, const Row& row,
                                   const Babies& babies, size_t limb,
                                   ExtendedCiphertext& sum) const {
  const ring::Kernels& kernels = ring::ActiveKernels();
  const ring::Modulus& q = params.extended_table(level_, static_cast<int>(limb)).modulus();
  const size_t n = params.n();
  const bool whole = std::any_of(row.begin(), row.end(),
                                 [](const auto& entry) { return entry.second.in_coefficients(); });
  const size_t block = whole ? n : std::min(n, kBlockWords);
  const size_t group = std::min<size_t>(row.size(), whole ? 8 : ring::kMaxProducts);
  Buffer expanded(group * block), partial(2 * block);
  for (size_t begin = 0; begin < n; begin += block) {
    u64 *out0 = sum.c0.ptr(limb) + begin, *out1 = sum.c1.ptr(limb) + begin;
    for (auto entry = row.begin(); entry != row.end();) {
      const bool first = entry == row.begin();
      std::array<const u64*, ring::kMaxProducts> plain, b0, b1;
      size_t count = 0;
      for (; count < group && entry != row.end(); ++count, ++entry) {
        u64* words = expanded.data() + count * block;
        entry->second.ExpandBlock(params, level_, limb, begin, {words, block});
        const ExtendedCiphertext& baby = babies.at(entry->first);
        plain[count] = words;
        b0[count] = baby.c0.ptr(limb) + begin;
        b1[count] = baby.c1.ptr(limb) + begin;
      }
      u64* to0 = first ? out0 : partial.data();
      u64* to1 = first ? out1 : partial.data() + block;
      kernels.inner_product2(to0, to1, plain.data(), b0.data(), b1.data(), count, block, q);
      if (first) continue;
      kernels.add(out0, out0, to0, block, q);
      kernels.add(out1, out1, to1, block, q);
    }
  }
}

ExtendedCiphertext LinearTransform::MultiplyRow(const ckks::Parameters& params, const Row& row,
                                                const Babies& babies) const {
  const size_t limbs = params.extended_limbs(level_), n = params.n();
  ExtendedCiphertext sum{ring::RnsPoly(limbs, n), ring::RnsPoly(limbs, n), level_,
                         output_scale_ * LevelModulus(params, level_)};
  ParallelFor(limbs, [&](size_t limb) { MultiplyLimb(params, row, babies, limb, sum); });
  return sum;
}

Result<Ciphertext> LinearTransform::Apply(const ckks::Evaluator& evaluator,
                                          const Ciphertext& x) const {
  if (x.level < level_ || !ckks::SameScale(x.scale, input_scale_)) {
    return MakeError(ErrorCode::kMismatch,
                     "linear transform: ciphertext level {}, scale {:.10g}; expected level {}, scale {:.10g}",
                     x.level, x.scale, level_, input_scale_);
  }
  Ciphertext input = x;
  PV_RETURN_IF_ERROR(evaluator.DropLevelInplace(input, level_));
  PV_ASSIGN_OR_RETURN(const Babies babies, RotateBabies(evaluator, input));
  const ckks::Parameters& params = evaluator.params();
  ExtendedCiphertext sum;
  if (const auto zero = giants_.find(0); zero != giants_.end()) {
    sum = MultiplyRow(params, zero->second, babies);
  } else {
    const size_t limbs = params.extended_limbs(level_), n = params.n();
    sum = {ring::RnsPoly::Zero(limbs, n), ring::RnsPoly::Zero(limbs, n), level_,
           output_scale_ * LevelModulus(params, level_)};
  }
  for (const auto& [giant, row] : giants_) {
    if (giant == 0) continue;
    const ExtendedCiphertext inner = MultiplyRow(params, row, babies);
    PV_RETURN_IF_ERROR(evaluator.RotateAccumulate(sum, inner, giant));
  }
  PV_ASSIGN_OR_RETURN(Ciphertext result, evaluator.ModDownRescale(sum));
  result.scale = output_scale_;
  return result;
}

size_t LinearTransform::plaintext_bytes() const {
  size_t bytes = 0;
  for (const auto& [giant, row] : giants_)
    for (const auto& [baby, plain] : row) bytes += plain.bytes();
  return bytes;
}

}  // namespace polyveil::circuits
