// Test support: the trainable model beside the float32 reference, under forms of some kind.
#pragma once

#include <gtest/gtest.h>

#include "approx/remez.h"
#include "model/float32/reference.h"
#include "train/calibrate.h"
#include "train/distil/load.h"

namespace polyveil::train {

// float32 against float32: outputs of size 1 after about 100 rounded operations each, and weights
// that are quotients of rounded sums.
inline constexpr double kTolerance = 1e-4;

inline torch::Tensor TokenTensor(const std::vector<model::TokenId>& tokens) {
  return torch::tensor(std::vector<std::int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
}

inline model::FloatMatrix ReferenceOutputs(const model::Checkpoint& checkpoint,
                                           const std::vector<model::TokenId>& tokens) {
  const model::FloatReference reference(checkpoint);
  const model::Sequence sequence{tokens};
  model::FloatMatrix hidden = reference.Hidden(std::span(&sequence, 1)).value();
  return checkpoint.architecture.head == model::HeadKind::kCausalLm ? reference.Logits(hidden)
                                                                    : hidden;
}

inline void ExpectEqual(const Transformer& model, const model::Checkpoint& checkpoint,
                        const std::vector<model::TokenId>& tokens) {
  torch::NoGradGuard no_grad;
  torch::Tensor out = model.Forward(TokenTensor(tokens), {}).hidden;
  if (checkpoint.architecture.head == model::HeadKind::kCausalLm)
    out = torch::linear(out, model.HeadMatrix());
  model::FloatMatrix wanted = ReferenceOutputs(checkpoint, tokens);
  const torch::Tensor other =
      torch::from_blob(wanted.values.data(), {wanted.rows, wanted.cols}, torch::kFloat32);
  EXPECT_LT((out - other).abs().max().item<double>(), kTolerance);
}

inline std::vector<model::TokenId> Tokens() { return {1, 7, 3, 28, 0, 11, 5, 5, 19, 2, 26, 14}; }

inline SiteRanges Observed(const Transformer& model, const torch::Tensor& tokens) {
  torch::NoGradGuard no_grad;
  Observer observer(nullptr, model.shape().causal);
  model.Forward(tokens, {},
                observer.NextBatch(tokens.size(0), tokens.size(1) - model.shape().prefix));
  return observer.Take().ranges;
}

// Interpolants of degree 3 on the seen ranges with a margin: far from exact, and tame a
// little beyond them.
inline LayerPolynomials Interpolants(const SiteRanges& ranges, int index) {
  LayerPolynomials fits;
  fits.activation.emplace();
  VisitPolynomials(fits, [&](const std::string& key, const char* site, approx::Approximant& p) {
    const approx::Range seen = ranges.at(fmt::format("layer {} / {}", index, site));
    const double order = key == "divisor_inverse" ? 1 : 0.5;
    p = key == "activation"
            ? approx::Interpolate([](double x) { return x / (1 + std::exp(-x)); }, 3 * seen.lo,
                                  3 * seen.hi, 3)
            : approx::Interpolate([=](double x) { return std::pow(x + 1e-3, -order); }, seen.lo / 3,
                                  3 * seen.hi, 3);
  });
  return fits;
}

// Forms of a model that powers weigh in; with polynomials those on what the tokens show.
inline void SetForms(Transformer& model, const std::vector<model::TokenId>& tokens,
                     bool polynomials) {
  torch::NoGradGuard no_grad;
  int salt = 0;
  for (Weights::Layer& layer : model.weights.layers) {
    layer.shift.copy_(torch::linspace(1.5, 2.5, layer.shift.size(0)) + 0.1 * ++salt);
    layer.log_kappa.copy_(4 * layer.shift.log());
  }
  if (!polynomials) return;
  const SiteRanges ranges = Observed(model, TokenTensor(tokens));
  std::vector<LayerPolynomials> fits;
  for (int i = 0; i < model.shape().n_layers; ++i) fits.push_back(Interpolants(ranges, i));
  model.polynomials = std::move(fits);
}

inline std::vector<model::TokenId> TokensBehind(const std::vector<int>& prefix) {
  std::vector<model::TokenId> tokens = Tokens();
  std::copy(prefix.begin(), prefix.end(), tokens.begin());
  return tokens;
}

}  // namespace polyveil::train
