#include "train/rows.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/target_clones.h"

namespace polyveil::train {
namespace {

#define PV_ROW_BODY     \
  template <typename T> \
  [[gnu::always_inline]] inline

// e^x, x <= 0, without branches or calls: 2^n e^r with |r| <= log(2) / 2 and Taylor's degree 7
// (2^-25 there). Relative error at most (|x| + 4) 2^-23, the first part from the rounding of n
// log 2.
[[gnu::always_inline]] inline float ExpNonPositive(float x) {
  const float bounded = std::max(x, -87.0f);
  const auto n = static_cast<std::int32_t>(bounded * 1.44269504f - 0.5f);  // to nearest: x <= 0
  const float r = bounded - static_cast<float>(n) * 0.693147181f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * std::bit_cast<float>((n + 127) << 23);
}
[[gnu::always_inline]] inline double ExpNonPositive(double x) { return std::exp(x); }

PV_ROW_BODY T PowerRowBody(const T* s, T* p, int n, T shift, T factor, int power) {
  T sum = 0;
  if (power == 4) {
#pragma omp simd reduction(+ : sum)
    for (int k = 0; k < n; ++k) {
      const T z = s[k] + shift, z2 = z * z;
      p[k] = z2 * z2 * factor;
      sum += p[k];
    }
    return sum;
  }
  for (int k = 0; k < n; ++k) {
    const T z2 = (s[k] + shift) * (s[k] + shift);
    T value = factor;
    for (int e = 0; e < power; e += 2) value *= z2;
    p[k] = value;
    sum += value;
  }
  return sum;
}

PV_ROW_BODY T PowerRowBackwardBody(const T* s, T* p, T* g, int n, T shift, T inv, T dy, int power,
                                   T* scale_grad) {
  T sum = 0, weighted = 0;
  const T order = static_cast<T>(power);
#pragma omp simd reduction(+ : sum, weighted)
  for (int k = 0; k < n; ++k) {
    const T dp = inv * g[k] + dy;
    const T z = s[k] + shift;
    const T safe = z == T(0) ? T(1) : z;  // p = 0 there: the quotient is 0 as it should be
    weighted += dp * p[k];
    g[k] = dp * order * p[k] / safe;
    sum += g[k];
    p[k] *= inv;
  }
  *scale_grad += weighted;
  return sum;
}

PV_ROW_BODY T LargestOfRow(const T* x, int n) {
  T largest = x[0];
#pragma omp simd reduction(max : largest)
  for (int k = 0; k < n; ++k) largest = x[k] > largest ? x[k] : largest;
  return largest;
}

// p = exp(s - top); returns the sum.
PV_ROW_BODY T ExpRow(const T* s, T* p, int n, T* top) {
  const T largest = LargestOfRow(s, n);
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int k = 0; k < n; ++k) {
    p[k] = ExpNonPositive(s[k] - largest);
    sum += p[k];
  }
  *top = largest;
  return sum;
}

PV_ROW_BODY void SoftmaxRowBody(const T* s, T* p, int n) {
  T top;
  const T inverse = 1 / ExpRow(s, p, n, &top);
  for (int k = 0; k < n; ++k) p[k] *= inverse;
}

PV_ROW_BODY T DotRowBody(const T* x, const T* y, int n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int k = 0; k < n; ++k) sum += x[k] * y[k];
  return sum;
}

PV_ROW_BODY void SoftmaxRowBackwardBody(const T* p, T* g, int n) {
  const T dot = DotRowBody(p, g, n);
  for (int k = 0; k < n; ++k) g[k] = p[k] * (g[k] - dot);
}

PV_ROW_BODY T CrossEntropyRowBody(T* x, int n, int target, T* sum) {
  const T wanted = x[target];
  T top;
  *sum = ExpRow(x, x, n, &top);
  return std::log(*sum) + top - wanted;
}

PV_ROW_BODY T DistilRowBody(T* s, T* t, int n, T weight, int target, T* text) {
  const T top = LargestOfRow(s, n), wanted_top = LargestOfRow(t, n), at_target = s[target] - top;
  T sum = 0, wanted_sum = 0, difference = 0;
#pragma omp simd reduction(+ : sum, wanted_sum, difference)
  for (int k = 0; k < n; ++k) {
    const T below = s[k] - top, wanted_below = t[k] - wanted_top;
    s[k] = ExpNonPositive(below);
    t[k] = ExpNonPositive(wanted_below);
    sum += s[k];
    wanted_sum += t[k];
    difference += t[k] * (wanted_below - below);
  }
  const T inverse = 1 / sum, wanted_inverse = weight / wanted_sum;
#pragma omp simd
  for (int k = 0; k < n; ++k) s[k] = s[k] * inverse - t[k] * wanted_inverse;
  *text = std::log(sum) - at_target;
  return difference / wanted_sum - std::log(wanted_sum) + std::log(sum);
}

PV_ROW_BODY void GainRowBody(const T* x, const T* gain, T factor, T* y, int n) {
#pragma omp simd
  for (int k = 0; k < n; ++k) y[k] = x[k] * gain[k] * factor;
}

PV_ROW_BODY T GainRowBackwardBody(const T* dy, const T* x, const T* gain, T factor, T* dx,
                                  T* d_gain, int n) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int k = 0; k < n; ++k) {
    const T scaled = dy[k] * factor;
    dx[k] = scaled * gain[k];
    d_gain[k] += scaled * x[k];
    sum += dy[k] * x[k] * gain[k];
  }
  return sum;
}

PV_ROW_BODY void HalvesRowBody(const T* x, T* y, int n) {
#pragma omp simd
  for (int k = 0; k < n; ++k) y[k] = x[k] * x[n + k];
}

PV_ROW_BODY void HalvesRowBackwardBody(const T* dy, const T* x, T* dx, int n) {
#pragma omp simd
  for (int k = 0; k < n; ++k) {
    dx[k] = dy[k] * x[n + k];
    dx[n + k] = dy[k] * x[k];
  }
}

PV_ROW_BODY void AddScaledRowBody(const T* x, const T* y, T factor, T* z, int n) {
#pragma omp simd
  for (int k = 0; k < n; ++k) z[k] = x[k] + y[k] * factor;
}

PV_ROW_BODY void AdamRowBody(const AdamStep& step, const T* g, T* m, T* v, T* w, std::int64_t n) {
  const T clip = static_cast<T>(step.clip), b1 = static_cast<T>(step.beta1);
  const T b2 = static_cast<T>(step.beta2), keep = static_cast<T>(step.keep);
  const T rate = static_cast<T>(step.rate), factor = static_cast<T>(step.root_factor);
  const T epsilon = static_cast<T>(step.epsilon);
#pragma omp simd
  for (std::int64_t k = 0; k < n; ++k) {
    const T gradient = clip * g[k];
    m[k] = b1 * m[k] + (1 - b1) * gradient;
    v[k] = b2 * v[k] + (1 - b2) * gradient * gradient;
    w[k] = keep * w[k] - rate * m[k] / (std::sqrt(v[k] * factor) + epsilon);
  }
}

}  // namespace

PV_TARGET_CLONES float PowerRow(const float* s, float* p, int n, float shift, float factor,
                                int power) {
  return PowerRowBody(s, p, n, shift, factor, power);
}
double PowerRow(const double* s, double* p, int n, double shift, double factor, int power) {
  return PowerRowBody(s, p, n, shift, factor, power);
}

PV_TARGET_CLONES float PowerRowBackward(const float* s, float* p, float* g, int n, float shift,
                                        float inv, float dy, int power, float* scale_grad) {
  return PowerRowBackwardBody(s, p, g, n, shift, inv, dy, power, scale_grad);
}
double PowerRowBackward(const double* s, double* p, double* g, int n, double shift, double inv,
                        double dy, int power, double* scale_grad) {
  return PowerRowBackwardBody(s, p, g, n, shift, inv, dy, power, scale_grad);
}

PV_TARGET_CLONES void SoftmaxRow(const float* s, float* p, int n) { SoftmaxRowBody(s, p, n); }
void SoftmaxRow(const double* s, double* p, int n) { SoftmaxRowBody(s, p, n); }

PV_TARGET_CLONES void SoftmaxRowBackward(const float* p, float* g, int n) {
  SoftmaxRowBackwardBody(p, g, n);
}
void SoftmaxRowBackward(const double* p, double* g, int n) { SoftmaxRowBackwardBody(p, g, n); }

PV_TARGET_CLONES float CrossEntropyRow(float* x, int n, int target, float* sum) {
  return CrossEntropyRowBody(x, n, target, sum);
}
double CrossEntropyRow(double* x, int n, int target, double* sum) {
  return CrossEntropyRowBody(x, n, target, sum);
}

PV_TARGET_CLONES float DistilRow(float* s, float* t, int n, float weight, int target, float* text) {
  return DistilRowBody(s, t, n, weight, target, text);
}
double DistilRow(double* s, double* t, int n, double weight, int target, double* text) {
  return DistilRowBody(s, t, n, weight, target, text);
}

PV_TARGET_CLONES float DotRow(const float* x, const float* y, int n) { return DotRowBody(x, y, n); }
double DotRow(const double* x, const double* y, int n) { return DotRowBody(x, y, n); }

PV_TARGET_CLONES void ScaleRow(const float* x, float* y, int n, float factor) {
  for (int k = 0; k < n; ++k) y[k] = x[k] * factor;
}
void ScaleRow(const double* x, double* y, int n, double factor) {
  for (int k = 0; k < n; ++k) y[k] = x[k] * factor;
}
PV_TARGET_CLONES void ScaleRow(const float* x, std::uint16_t* y, int n, float factor) {
  for (int k = 0; k < n; ++k) {
    const auto bits = std::bit_cast<std::uint32_t>(x[k] * factor);
    y[k] = static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
  }
}

PV_TARGET_CLONES void GainRow(const float* x, const float* gain, float factor, float* y, int n) {
  GainRowBody(x, gain, factor, y, n);
}
void GainRow(const double* x, const double* gain, double factor, double* y, int n) {
  GainRowBody(x, gain, factor, y, n);
}

PV_TARGET_CLONES float GainRowBackward(const float* dy, const float* x, const float* gain,
                                       float factor, float* dx, float* d_gain, int n) {
  return GainRowBackwardBody(dy, x, gain, factor, dx, d_gain, n);
}
double GainRowBackward(const double* dy, const double* x, const double* gain, double factor,
                       double* dx, double* d_gain, int n) {
  return GainRowBackwardBody(dy, x, gain, factor, dx, d_gain, n);
}

PV_TARGET_CLONES void HalvesRow(const float* x, float* y, int n) { HalvesRowBody(x, y, n); }
void HalvesRow(const double* x, double* y, int n) { HalvesRowBody(x, y, n); }

PV_TARGET_CLONES void HalvesRowBackward(const float* dy, const float* x, float* dx, int n) {
  HalvesRowBackwardBody(dy, x, dx, n);
}
void HalvesRowBackward(const double* dy, const double* x, double* dx, int n) {
  HalvesRowBackwardBody(dy, x, dx, n);
}

PV_TARGET_CLONES void AddScaledRow(const float* x, const float* y, float factor, float* z, int n) {
  AddScaledRowBody(x, y, factor, z, n);
}
void AddScaledRow(const double* x, const double* y, double factor, double* z, int n) {
  AddScaledRowBody(x, y, factor, z, n);
}

PV_TARGET_CLONES void AdamRow(const AdamStep& step, const float* g, float* m, float* v, float* w,
                              std::int64_t n) {
  AdamRowBody(step, g, m, v, w, n);
}
void AdamRow(const AdamStep& step, const double* g, double* m, double* v, double* w,
             std::int64_t n) {
  AdamRowBody(step, g, m, v, w, n);
}

}  // namespace polyveil::train
