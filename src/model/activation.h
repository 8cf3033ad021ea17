// The exact activations, in float or double: polynomials stand in their place on ciphertexts.
#pragma once

#include <cmath>
#include <numbers>

namespace polyveil::model {

template <typename T>
T Gelu(T x) {
  return T(0.5) * x * (1 + std::erf(x / std::numbers::sqrt2_v<T>));
}

// GPT-2's approximation of it.
template <typename T>
T GeluTanh(T x) {
  constexpr T kRoot = static_cast<T>(0.79788456080286535588);  // sqrt(2 / pi)
  return T(0.5) * x * (1 + std::tanh(kRoot * (x + T(0.044715) * x * x * x)));
}

template <typename T>
T Silu(T x) {
  return x / (1 + std::exp(-x));
}

}  // namespace polyveil::model
