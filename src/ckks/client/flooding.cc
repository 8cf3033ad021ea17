#include "ckks/client/flooding.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace polyveil::ckks {
namespace {

constexpr double kGridPerSigma = 1024;

Status CheckNoise(double noise, double sigma) {
  if (noise > 0 && std::isfinite(sigma) && std::isnormal(sigma / kGridPerSigma)) return {};
  return MakeError(ErrorCode::kOutOfRange,
                   "noise flooding: a noise of {:.3g} and a sigma of {:.3g}, expected both finite "
                   "and above 0",
                   noise, sigma);
}

}  // namespace

Result<Flooding> Flooding::Create(int bits, u64 queries) {
  if (bits < kMinBits || bits > kMaxBits)
    return MakeError(ErrorCode::kOutOfRange, "noise flooding: {} bits, expected {} to {}", bits,
                     kMinBits, kMaxBits);
  if (queries == 0)
    return MakeError(ErrorCode::kOutOfRange, "noise flooding: 0 decryptions, expected 1 or more");
  return Flooding(bits, queries);
}

Flooding::Flooding(int bits, u64 queries)
    : bits_(bits),
      queries_(queries),
      factor_(std::sqrt(12 * static_cast<double>(queries)) * std::exp2(bits / 2.0)) {}

// Box and Muller's. Bits enough for |x| < 8.7; the rest has a mass below 2^-58.
double Flooding::Normal() {
  const auto uniform = [&] {
    return (static_cast<double>(random_.Next64() >> 11) + 0.5) * 0x1p-53;
  };
  const double radius = std::sqrt(-2 * std::log(uniform()));
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

Status Flooding::Flood(std::span<double> values, double noise) {
  const double sigma = Sigma(noise);
  PV_RETURN_IF_ERROR(CheckNoise(noise, sigma));
  if (used_ == queries_)
    return MakeError(ErrorCode::kOutOfRange, "noise flooding: more than {} decryptions", queries_);
  for (size_t i = 0; i < values.size(); ++i)
    if (!std::isfinite(values[i]))
      return MakeError(ErrorCode::kOutOfRange, "noise flooding: value {} is {}", i, values[i]);
  ++used_;
  const double grid = std::exp2(std::floor(std::log2(sigma / kGridPerSigma)));
  for (double& value : values) value = std::round((value + sigma * Normal()) / grid) * grid;
  return {};
}

Result<double> Flooding::Flood(double value, double noise) {
  PV_RETURN_IF_ERROR(Flood(std::span(&value, 1), noise));
  return value;
}

}  // namespace polyveil::ckks
