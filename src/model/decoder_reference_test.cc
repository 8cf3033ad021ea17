// Blocks of a bundle and their float64 reference, against the formulas.
#include "model/decoder_reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "model/bundle_fixture.h"

namespace polyveil::model {
namespace {

// The whole sequence at once, from the formulas, without a cache and without the model's helpers.
using Rows = std::vector<std::vector<double>>;

double T(int k, double u) {
  return std::abs(u) <= 1 ? std::cos(k * std::acos(u))
                          : (u > 0 || k % 2 == 0 ? 1 : -1) * std::cosh(k * std::acosh(std::abs(u)));
}

double Poly(const Chebyshev& p, double x) {
  double sum = 0;
  for (int k = 0; k <= p.degree(); ++k)
    sum += p.coeffs[k] * T(k, (2 * x - p.a - p.b) / (p.b - p.a));
  return sum;
}

double Dot(const Matrix& w, int row, const std::vector<double>& x) {
  double sum = 0;
  for (int i = 0; i < w.cols; ++i) sum += w.at(row, i) * x[i];
  return sum;
}

double Variance(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value * value / kWidth;
  return sum;
}

void NaiveAttention(const LayerConfig& c, const BundleLayer& w, Rows& xs) {
  const Rows in = xs;
  for (std::size_t i = 0; i < in.size(); ++i) {
    std::vector<double> joined(kWidth);
    for (int h = 0; h < kHeads; ++h) {
      std::vector<double> a(i + 1);
      double y = 0;
      for (std::size_t k = 0; k <= i; ++k) {
        double s = 0;
        for (int e = 2 * h; e < 2 * h + 2; ++e)
          s += Dot(w.wq, e, in[i]) * Poly(c.norm1, Variance(in[i])) * Dot(w.wk, e, in[k]) *
               Poly(c.norm1, Variance(in[k]));
        a[k] = std::pow(s + c.shift[h], 4) / c.kappa[h] / static_cast<double>(i + 1);
        y += a[k];
      }
      for (int e = 2 * h; e < 2 * h + 2; ++e)
        for (std::size_t k = 0; k <= i; ++k)
          joined[e] += a[k] * Poly(c.divisor_inverse, y) * Dot(w.wv, e, in[k]) *
                       Poly(c.norm1, Variance(in[k]));
    }
    for (int e = 0; e < kWidth; ++e) xs[i][e] += Dot(w.wo, e, joined);
  }
}

void NaiveFeedForward(const LayerConfig& c, const BundleLayer& w, Rows& xs) {
  for (auto& x : xs) {
    std::vector<double> product;
    const double scale = Poly(c.norm2, Variance(x));
    for (int j = 0; j < kHidden; ++j)
      product.push_back(c.activation ? Poly(*c.activation, scale * Dot(w.w1, j, x))
                                     : Dot(w.w1, j, x) * Dot(w.w2, j, x) * scale);
    for (int e = 0; e < kWidth; ++e) x[e] += Dot(w.wdown, e, product);
  }
}

Rows Inputs() {
  std::mt19937_64 random(5);
  Rows out;
  for (int i = 0; i < kContext; ++i) out.push_back(RandomMatrix(1, kWidth, random).values);
  return out;
}

void ExpectEqualsNaive(const BodyBundle& bundle) {
  Rows expected = Inputs();
  for (int layer = 0; layer < kLayers; ++layer) {
    NaiveAttention(bundle.config.layers[layer], bundle.weights.layers[layer], expected);
    NaiveFeedForward(bundle.config.layers[layer], bundle.weights.layers[layer], expected);
  }
  DecoderReference model(DecoderOfBundle(bundle));
  for (int i = 0; i < kContext; ++i) {
    const auto x = model.Step(Inputs()[i]).value();
    for (int e = 0; e < kWidth; ++e) EXPECT_NEAR(x[e], expected[i][e], 1e-10) << i << " " << e;
  }
}

TEST(Reference, EqualsTheNaiveFormulas) { ExpectEqualsNaive(SmallBundle()); }
TEST(Reference, EqualsTheNaiveFormulasWithGelu) {
  ExpectEqualsNaive(SmallBundle(FeedForwardKind::kGelu));
}

TEST(Reference, ResetForgetsTheCache) {
  DecoderReference model(DecoderOfBundle(SmallBundle()));
  const auto first = model.Step(Inputs()[0]).value();
  ASSERT_TRUE(model.Step(Inputs()[1]).ok());
  EXPECT_EQ(model.position(), 2);
  model.Reset();
  EXPECT_EQ(model.Step(Inputs()[0]).value(), first);
}

TEST(Reference, ACopyGoesOnAlone) {
  DecoderReference model(DecoderOfBundle(SmallBundle()));
  ASSERT_TRUE(model.Step(Inputs()[0]).ok());
  DecoderReference copy = model;
  const auto next = model.Step(Inputs()[1]).value();
  ASSERT_TRUE(model.Step(Inputs()[2]).ok());
  EXPECT_EQ(copy.Step(Inputs()[1]).value(), next);
}

TEST(Reference, RefusesWrongPositionsAndWidths) {
  DecoderReference model(DecoderOfBundle(SmallBundle()));
  EXPECT_FALSE(model.Step(std::vector<double>(3)).ok());
  EXPECT_EQ(model.position(), 0);
  for (int i = 0; i < kContext; ++i) ASSERT_TRUE(model.Step(Inputs()[i]).ok());
  const auto beyond = model.Step(Inputs()[0]);
  ASSERT_FALSE(beyond.ok());
  EXPECT_EQ(beyond.error().code, ErrorCode::kOutOfRange);
}

TEST(Reference, ObserverSeesShapesAndEscapesAreCounted) {
  BodyBundle bundle = SmallBundle();
  bundle.config.layers[1].norm1.b = 0.11;  // [0.1, 0.11]
  DecoderReference model(DecoderOfBundle(bundle));
  std::map<std::string, std::size_t> sizes;
  model.set_observer(
      [&](const std::string& name, std::span<const double> v) { sizes[name] = v.size(); });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(model.Step(Inputs()[i]).ok());
  EXPECT_EQ(sizes.at("layer 1 / attention / scores"), 2u * 3);
  EXPECT_EQ(sizes.at("layer 0 / attention / divisor"), 2u);
  EXPECT_EQ(sizes.at("layer 0 / feed-forward / hidden 2"), 3u);
  EXPECT_EQ(sizes.at("layer 1 / feed-forward / residual"), 4u);
  const auto all = model.escapes();
  const EscapeCount& escapes = all.at("layer 1 / attention / variance");
  EXPECT_EQ(escapes.evaluations, 3u);
  EXPECT_EQ(escapes.seen.count, 3u);
  EXPECT_GT(escapes.escapes, 0u);
  EXPECT_GT(escapes.worst_ratio, 1);
  EXPECT_EQ(model.first_not_finite(), "");
}

TEST(Reference, NamesTheFirstInputThatIsNotFinite) {
  DecoderReference model(DecoderOfBundle(SmallBundle()));
  ASSERT_TRUE(model.Step(Inputs()[0]).ok());
  ASSERT_TRUE(model.Step(std::vector<double>(kWidth, 1e200)).ok());
  EXPECT_EQ(model.first_not_finite(), "layer 0 / attention / variance at position 1");
}

TEST(Decoder, OfABundleKeepsWhatTheProgramNeeds) {
  BodyBundle bundle = SmallBundle();
  bundle.config.calibration.margin = 1.5;
  bundle.config.tensors_sha256 = "abc";
  bundle.config.certificate = Certificate{};
  bundle.config.attention_eps = 0.25;
  const Decoder decoder = DecoderOfBundle(bundle, "small");
  EXPECT_EQ(decoder.name, "small");
  EXPECT_EQ(decoder.digest, "abc");
  EXPECT_EQ(decoder.context, kContext);
  EXPECT_EQ(decoder.margin, 1.5);
  EXPECT_EQ(decoder.residual_bound, 10);
  EXPECT_TRUE(decoder.certificate.has_value());
  ASSERT_EQ(decoder.blocks.size(), 2u);
  const Block& block = decoder.blocks[1];
  EXPECT_TRUE(block.shape.bilinear());
  EXPECT_EQ(block.shape.attention_eps, 0.25);
  EXPECT_EQ(block.weights->Load(), block.weights->Load());
  EXPECT_EQ(block.weights->Load()->down.values, bundle.weights.layers[1].wdown.values);
  EXPECT_TRUE(ValidateBlock(block, "block").ok());
  EXPECT_FALSE(DecoderOfBundle(SmallBundle(FeedForwardKind::kGelu)).blocks[0].shape.gated);
}

TEST(Block, RefusesWhatNoBlockComputes) {
  const Block good = DecoderOfBundle(SmallBundle()).blocks[0];
  const auto refused = [&](auto&& change, const char* part) {
    Block bad = good;
    change(bad);
    const Status status = ValidateBlock(bad, "block 3");
    ASSERT_FALSE(status.ok()) << part;
    EXPECT_NE(status.error().message.find(part), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("block 3"), std::string::npos) << status.error().message;
  };
  EXPECT_TRUE(ValidateBlock(good, "block 3").ok());
  refused([](Block& b) { b.shape.d_ff = 0; }, "d_ff = 0");
  refused([](Block& b) { b.shape.gated = false; }, "activation");
  refused([](Block& b) { b.shape.biases = true; }, "biases = true");
  refused([](Block& b) { b.shape.parallel = true; }, "parallel = true");
  refused([](Block& b) { b.shape.activation = BlockActivation::kSilu; }, "activation is missing");
  refused([](Block& b) { b.forms.activation = b.forms.norm1; }, "activation is present");
  refused([](Block& b) { b.forms.kappa = {1}; }, "kappa has 1 values");
  refused([](Block& b) { b.forms.kappa[0] = 0; }, "kappa holds 0");
  refused([](Block& b) { b.forms.attention.powers = {2, 3}; }, "powers holds 3");
  refused([](Block& b) { b.forms.norm2 = {}; }, "norm2");
}

}  // namespace
}  // namespace polyveil::model
