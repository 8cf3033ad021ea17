#include "serve/client/result_guard.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/worst.h"
#include "ckks/noise_estimator.h"

namespace polyveil::serve {
namespace {

// One slot in this many results may pass a limit by chance.
constexpr double kResultsWithoutAlarm = 1e9;

// What a message may tell of a decrypted value: messages land in logs, and a server chooses what
// is decrypted.
double ToPowerOfTwo(double x) { return x > 0 ? std::exp2(std::ceil(std::log2(x))) : x; }

}  // namespace

ResultLimits MakeResultLimits(const ResultShape& shape, const ckks::Parameters& params) {
  const runtime::ResultNoise noise = runtime::PredictResultNoise(shape.bounds, shape.width, params);
  // Noise as large as the values is no noise to live with.
  const auto worst = [&](double error) {
    return std::min(ckks::NoiseEstimator::Worst(runtime::kNoiseAccuracy * error,
                                                params.slots() * kResultsWithoutAlarm),
                    1.0);
  };
  ResultLimits limits;
  limits.copies = worst(noise.copies);
  limits.imaginary = worst(noise.imaginary);
  limits.magnitude = 1 + limits.copies;
  limits.mean_square = shape.bounds.mean_square / (shape.unit * shape.unit);
  return limits;
}

// The largest of each kind; infinity for what is not finite.
struct ResultGuard::Seen {
  std::vector<double> means;
  double magnitude = 0, mean_square = 0, copies = 0, imaginary = 0, padding = 0;
};

ResultGuard::ResultGuard(const ResultShape& shape, const ckks::Parameters& params)
    : width_(static_cast<size_t>(shape.width)),
      period_(std::bit_ceil(width_)),
      unit_(shape.unit),
      limits_(MakeResultLimits(shape, params)) {}

ResultGuard::Seen ResultGuard::Look(std::span<const ckks::Complex> slots) const {
  Seen seen;
  seen.means.resize(period_);
  const double copies = static_cast<double>(slots.size() / period_);
  for (size_t j = 0; j < slots.size(); ++j) seen.means[j % period_] += slots[j].real() / copies;
  for (size_t j = 0; j < slots.size(); ++j) {
    seen.copies = Worse(seen.copies, std::abs(slots[j].real() - seen.means[j % period_]));
    seen.imaginary = Worse(seen.imaginary, std::abs(slots[j].imag()));
  }
  for (size_t i = 0; i < period_; ++i) {
    double& largest = i < width_ ? seen.magnitude : seen.padding;
    largest = Worse(largest, std::abs(seen.means[i]));
    seen.mean_square += seen.means[i] * seen.means[i] / static_cast<double>(width_);
  }
  seen.means.resize(width_);
  return seen;
}

Result<std::vector<double>> ResultGuard::Read(std::span<const ckks::Complex> slots,
                                              int token) const {
  PV_ASSIGN_OR_RETURN(auto texts, ReadTexts(slots, 1, 1, token));
  return std::move(texts.front());
}

Result<std::vector<std::vector<double>>> ResultGuard::ReadTexts(
    std::span<const ckks::Complex> slots, int texts, int count, int token) const {
  const auto room = static_cast<size_t>(texts), last = static_cast<size_t>(count) - 1;
  if (slots.empty() || slots.size() % (period_ * room) != 0)
    return MakeError(ErrorCode::kMismatch, "a result of {} slots, periods of {} for {} texts",
                     slots.size(), period_, texts);
  std::vector<std::vector<double>> residuals;
  for (size_t t = 0; t <= last; ++t) {
    // The last text's copies stand in the places that no text has.
    std::vector<ckks::Complex> copies;
    for (size_t place = t; place < (t == last ? room : t + 1); ++place)
      for (size_t at = place; at < slots.size(); at += room) copies.push_back(slots[at]);
    Seen seen = Look(copies);
    PV_RETURN_IF_ERROR(Judge(seen, token, count > 1 ? static_cast<int>(t) + 1 : 0));
    residuals.push_back(InUnit(std::move(seen.means)));
  }
  return residuals;
}

// A token's copies, one period after another. In blocks every slot holds two tokens; ciphertexts
// stand behind each other.
std::vector<ckks::Complex> ResultGuard::CopiesOf(const compile::TokenSlots& slots,
                                                 const compile::TokenLayout& layout, int tokens,
                                                 int t) const {
  const auto size = static_cast<size_t>(layout.size);
  const int half = layout.size / 2;
  std::vector<ckks::Complex> copies;
  for (int s = 0; s < (layout.blocks ? 2 * layout.size * layout.ciphertexts() : layout.size); ++s) {
    const int token = layout.blocks ? s : s % half;
    if ((!layout.blocks && token >= layout.tokens) || std::min(token, tokens - 1) != t) continue;
    const auto at = static_cast<size_t>(s);
    const std::vector<ckks::Complex>& there = slots[layout.blocks ? at / (2 * size) : 0];
    for (size_t f = 0; f < period_; ++f) {
      if (!layout.blocks) {
        copies.push_back(there[f * size + at]);
        continue;
      }
      const ckks::Complex both = there[at % size * (there.size() / size) + f];
      copies.emplace_back(at / size % 2 == 0 ? both.real() : both.imag());
    }
  }
  return copies;
}

Result<std::vector<std::vector<double>>> ResultGuard::ReadTokens(const compile::TokenSlots& slots,
                                                                 const compile::TokenLayout& layout,
                                                                 int tokens) const {
  if (slots.size() != static_cast<size_t>(layout.ciphertexts()))
    return MakeError(ErrorCode::kMismatch, "{} tokens in {} ciphertexts, not {}", tokens,
                     slots.size(), layout.ciphertexts());
  std::vector<std::vector<double>> residuals;
  for (int t = 0; t < tokens; ++t) {
    Seen seen = Look(CopiesOf(slots, layout, tokens, t));
    PV_RETURN_IF_ERROR(Judge(seen, t + 1));
    residuals.push_back(InUnit(std::move(seen.means)));
  }
  return residuals;
}

std::vector<double> ResultGuard::InUnit(std::vector<double> means) const {
  for (double& value : means) value *= unit_;
  return means;
}

Status ResultGuard::Judge(const Seen& seen, int token, int text) const {
  struct Check {
    const char* what;
    double seen, allowed;
  };
  const Check checks[] = {
      {"largest |value|", unit_ * seen.magnitude, unit_ * limits_.magnitude},
      {"mean square", unit_ * unit_ * seen.mean_square, unit_ * unit_ * limits_.mean_square},
      {"difference between copies", unit_ * seen.copies, unit_ * limits_.copies},
      {"imaginary part", unit_ * seen.imaginary, unit_ * limits_.imaginary},
      {"padding", unit_ * seen.padding, unit_ * limits_.imaginary}};
  for (const Check& check : checks)
    if (!(check.seen <= check.allowed))
      return MakeError(ErrorCode::kUntrustedResult,
                       "a value left its interval at token {}{}: {} up to {:.4g} > {:.4g}", token,
                       text > 0 ? fmt::format(" of text {}", text) : "", check.what,
                       ToPowerOfTwo(check.seen), check.allowed);
  return {};
}

}  // namespace polyveil::serve
