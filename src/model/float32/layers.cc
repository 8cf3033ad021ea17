#include "model/float32/layers.h"

#include <cmath>
#include <numbers>

#include "base/check.h"
#include "base/thread_pool.h"
#include "model/activation.h"

namespace polyveil::model {
namespace {

void NormalizeRow(NormKind kind, double eps, const NormWeights& norm,
                  const approx::Approximant* root, std::span<float> x) {
  const auto n = static_cast<double>(x.size());
  double mean = 0, square = 0;
  if (kind == NormKind::kLayerNorm) {
    for (const float value : x) mean += value;
    mean /= n;
  }
  for (const float value : x) square += (value - mean) * (value - mean);
  const double scale = root ? (*root)(square / n) : 1 / std::sqrt(square / n + eps);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>((x[i] - mean) * scale) * norm.gain[i];
    if (!norm.bias.empty()) x[i] += norm.bias[i];
  }
}

template <float Function(float)>
void Map(FloatMatrix& x, const RowPolynomial& polynomial) {
  ParallelFor(static_cast<std::size_t>(x.rows), [&](std::size_t r) {
    const approx::Approximant* p = polynomial.Of(r);
    for (float& value : x.row(static_cast<int>(r)))
      value = p ? static_cast<float>((*p)(value)) : Function(value);
  });
}

float Relu(float x) { return x > 0 ? x : 0; }

// Wavelengths above the original context are stretched by the factor, those well below it are kept,
// the ones between are blended (Llama 3.1's model code).
double ScaleFrequency(const Rotary::Llama3& s, double frequency) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  const double turns = s.original_context / wavelength;
  if (turns > s.high_freq_factor) return frequency;
  if (turns < s.low_freq_factor) return frequency / s.factor;
  const double kept = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - kept) * frequency / s.factor + kept * frequency;
}

}  // namespace

void Normalize(NormKind kind, double eps, const NormWeights& norm, FloatMatrix& x,
               const RowPolynomial& root) {
  PV_CHECK(static_cast<int>(norm.gain.size()) == x.cols, "{} gains, width {}", norm.gain.size(),
           x.cols);
  ParallelFor(static_cast<std::size_t>(x.rows), [&](std::size_t r) {
    NormalizeRow(kind, eps, norm, root.Of(r), x.row(static_cast<int>(r)));
  });
}

void Activate(Activation activation, FloatMatrix& x, const RowPolynomial& polynomial) {
  switch (activation) {
    case Activation::kGelu:
      return Map<Gelu<float>>(x, polynomial);
    case Activation::kGeluTanh:
      return Map<GeluTanh<float>>(x, polynomial);
    case Activation::kSilu:
      return Map<Silu<float>>(x, polynomial);
    case Activation::kRelu:
      return Map<Relu>(x, polynomial);
  }
}

RotaryTable::RotaryTable(const Rotary& rotary, std::span<const float> factors)
    : pairs_(rotary.pairs) {
  const int half = rotary.dims / 2;
  PV_CHECK(factors.empty() || static_cast<int>(factors.size()) == half, "{} factors, {} pairs",
           factors.size(), half);
  for (int i = 0; i < half; ++i) {
    double frequency = std::pow(rotary.theta, -2.0 * i / rotary.dims) / rotary.linear_factor;
    if (rotary.llama3) frequency = ScaleFrequency(*rotary.llama3, frequency);
    if (!factors.empty()) frequency /= factors[static_cast<std::size_t>(i)];
    frequencies_.push_back(static_cast<float>(frequency));
  }
}

void RotaryTable::Rotate(int position, float* first_head, int heads, int stride) const {
  const std::size_t half = frequencies_.size();
  const bool halves = pairs_ == RotaryPairs::kHalves;
  for (std::size_t i = 0; i < half; ++i) {
    const float angle = static_cast<float>(position) * frequencies_[i];
    const float c = std::cos(angle), s = std::sin(angle);
    const std::size_t x_at = halves ? i : 2 * i, y_at = halves ? i + half : 2 * i + 1;
    float* head = first_head;
    for (int h = 0; h < heads; ++h, head += stride) {
      const float x = head[x_at], y = head[y_at];
      head[x_at] = x * c - y * s;
      head[y_at] = x * s + y * c;
    }
  }
}

}  // namespace polyveil::model
