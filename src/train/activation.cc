#include "train/activation.h"

#include <algorithm>

#include "base/check.h"
#include "model/activation.h"

namespace polyveil::train {

torch::Tensor Activate(model::Activation activation, const torch::Tensor& x) {
  switch (activation) {
    case model::Activation::kGelu:
      return torch::gelu(x);
    case model::Activation::kGeluTanh:
      return torch::gelu(x, "tanh");
    case model::Activation::kSilu:
      return torch::silu(x);
    case model::Activation::kRelu:
      return torch::relu(x);
  }
  PV_CHECK(false, "activation {}", static_cast<int>(activation));
}

approx::Function ExactActivation(model::Activation activation) {
  switch (activation) {
    case model::Activation::kGelu:
      return model::Gelu<double>;
    case model::Activation::kGeluTanh:
      return model::GeluTanh<double>;
    case model::Activation::kSilu:
      return model::Silu<double>;
    case model::Activation::kRelu:
      return [](double x) { return std::max(0.0, x); };
  }
  PV_CHECK(false, "activation {}", static_cast<int>(activation));
}

}  // namespace polyveil::train
