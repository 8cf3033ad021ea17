// One model for embedded and released shapes: what it shows is what it computes, in every form.
#include "train/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

#include "approx/remez.h"
#include "train/activation.h"
#include "train/calibrate.h"
#include "train/convert.h"
#include "train/distillation.h"
#include "train/optimizer.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

// Any width, norm, block, feed-forward and form.
Shape RandomShape(std::mt19937_64& random) {
  const auto draw = [&](int count) {
    return static_cast<int>(random() % static_cast<unsigned>(count));
  };
  Shape shape;
  shape.n_layers = 2;
  shape.n_kv_heads = 1 + draw(2);
  shape.n_heads = shape.n_kv_heads * (1 + draw(3));
  shape.head_width = 2 + 2 * draw(3);
  shape.d_model = 6 + draw(9);
  shape.d_ff = 5 + draw(9);
  shape.vocab_size = 20;
  shape.context = 11;
  shape.block = static_cast<model::BlockForm>(draw(3));
  const bool post = shape.block == model::BlockForm::kPostNorm;
  shape.ffn = static_cast<model::FeedForwardKind>(post ? 1 : draw(2));
  shape.norm = static_cast<model::NormKind>(draw(2));
  shape.activation = static_cast<model::Activation>(draw(4));
  shape.gated = draw(2) == 1;
  shape.qk_norm = draw(2) == 1;
  shape.length_agnostic = draw(2) == 1;
  shape.causal = draw(3) > 0;
  shape.prefix = shape.causal ? draw(3) : 0;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    shape.layer_attention.push_back(std::array{AttentionForm::kSoftmax, AttentionForm::kPowerMean,
                                               AttentionForm::kPointwise}[draw(3)]);
    std::vector<int>& powers = shape.layer_powers.emplace_back();
    for (int h = 0; h < shape.n_heads; ++h) powers.push_back(2 + 2 * draw(3));
  }
  return shape;
}

// Biases, an embedding norm, a head and rotary positions, where chance has them.
Transformer RandomModel(std::mt19937_64& random) {
  const Shape shape = RandomShape(random);
  torch::manual_seed(static_cast<std::int64_t>(random() >> 1));
  const Transformer start(shape, AttentionForm::kPowerMean, torch::kFloat64, random());
  Weights w = start.Clone(shape, AttentionForm::kPowerMean).weights;
  const auto vector = [](std::int64_t size) {
    return 0.1 * torch::randn({size}, torch::TensorOptions().dtype(torch::kFloat64));
  };
  for (Weights::Layer& layer : w.layers) {
    layer.norm1 = 1 + vector(shape.d_model);
    if (random() % 2) continue;
    layer.bqkv = vector(layer.wqkv.size(0));
    layer.bo = vector(shape.d_model);
    layer.norm1_bias = vector(shape.d_model);
    layer.b12 = vector(layer.w12.size(0));
    layer.bdown = vector(shape.d_model);
  }
  if (random() % 2) w.embedding_norm = 1 + vector(shape.d_model);
  if (random() % 2) w.head = torch::randn_like(w.embed);
  Tensor frequencies;
  if (random() % 2) {
    w.pos = Tensor();
    frequencies = torch::rand({1 + shape.head_width / 4}, w.embed.options());
    if (2 * frequencies.size(0) > shape.head_width) frequencies = frequencies.narrow(0, 0, 1);
  }
  return Transformer(shape, AttentionForm::kPowerMean, std::move(w), frequencies);
}

Batch RandomBatch(const Shape& shape) {
  const Tensor tokens = torch::randint(shape.vocab_size, {3, shape.context}, torch::kInt64);
  return {tokens, tokens.clone()};
}

// Interpolants around the seen ranges: far from exact, so that a place that is left out shows.
std::vector<LayerPolynomials> Interpolants(const Transformer& model, const Batch& batch) {
  const SiteRanges ranges = ObserveRanges(model, {batch});
  const Shape& shape = model.shape();
  std::vector<LayerPolynomials> out;
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    LayerPolynomials fits = UnfittedPolynomials(shape);
    VisitPolynomials(fits, [&](const std::string& key, const char* name, approx::Approximant& p) {
      const auto it = ranges.find(fmt::format("layer {} / {}", layer, name));
      if (it == ranges.end()) return;
      const ExactSite exact = ExactSiteOf(shape, key);
      const double far = std::max(std::abs(it->second.lo), std::abs(it->second.hi));
      p = exact.order == 0
              ? approx::Interpolate(ExactActivation(shape.activation), -2 * far, 2 * far, 4)
              : approx::Interpolate(
                    [&](double x) { return std::pow(x + exact.shift, -exact.order); },
                    it->second.lo / 2, 2 * it->second.hi, 3);
    });
    out.push_back(std::move(fits));
  }
  return out;
}

void ExpectClose(const Tensor& x, const Tensor& y) {
  EXPECT_LT((x - y).abs().max().item<double>(), 1e-9 * (1 + y.abs().max().item<double>()));
}

// Attention's plain form, which a recorder of everything asks for, is the fused one.
void ExpectSeenEqualsUnseen(const Transformer& model, const Batch& batch) {
  torch::NoGradGuard no_grad;
  std::set<std::string> sites;
  const auto record = [&](const std::string& site, const Tensor& values) {
    EXPECT_TRUE(values.isfinite().all().item<bool>()) << site;
    EXPECT_TRUE(sites.insert(site).second) << site << " twice";
  };
  const Tensor unseen = model.Forward(batch.inputs, {}).hidden;
  ExpectClose(model.Forward(batch.inputs, {}, record).hidden, unseen);
  const std::size_t everything = sites.size();
  sites.clear();
  EXPECT_TRUE(
      torch::equal(model.Forward(batch.inputs, {}, record, Detail::kIntervals).hidden, unseen));
  EXPECT_LT(sites.size(), everything);
}

TEST(Transformer, EveryShapeShowsWhatItComputes) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 40; ++round) {
    SCOPED_TRACE(round);
    Transformer model = RandomModel(random);
    const Batch batch = RandomBatch(model.shape());
    ExpectSeenEqualsUnseen(model, batch);
    model.polynomials = Interpolants(model, batch);
    model.clamp = round % 2;  // a later layer sees other inputs than the exact one did
    if (model.clamp > 0) ExpectSeenEqualsUnseen(model, batch);
  }
}

// Whatever stands in the polynomials' places, the constant prefix comes out as of exact functions.
TEST(Transformer, PolynomialsLeaveThePrefixAlone) {
  std::mt19937_64 random(8);
  int tested = 0;
  for (int round = 0; round < 40; ++round) {
    Transformer model = RandomModel(random);
    const Shape& shape = model.shape();
    if (shape.prefix == 0) continue;
    torch::NoGradGuard no_grad;
    const Batch batch = RandomBatch(shape);
    const auto prefix = [&] {
      return model.Forward(batch.inputs, {})
          .hidden.view({3, shape.context, -1})
          .narrow(1, 0, shape.prefix);
    };
    const Tensor exact = prefix();
    model.polynomials = Interpolants(model, batch);
    ExpectClose(prefix(), exact);
    ++tested;
  }
  EXPECT_GT(tested, 5);
}

// The choice for every site of every shape, and what it does: counted behind the prefix.
TEST(Transformer, PolynomialsAreChosenForEveryShape) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 8; ++round) {
    SCOPED_TRACE(round);
    Transformer model = RandomModel(random);
    const Batch batch = RandomBatch(model.shape());
    ConvertOptions options;
    options.norm_error = options.divisor_error = options.activation_error = 0.1;
    options.max_depth = 30;
    const auto conversion = ChoosePolynomials(model, ObserveRanges(model, {batch}), options);
    ASSERT_TRUE(conversion.ok()) << conversion.error().message;
    for (const SiteChoice& choice : conversion->choices) EXPECT_LE(choice.chosen.error, 0.1);
    model.polynomials = conversion->polynomials;
    const ConversionEffect effect = MeasureEffect(model, {batch});
    const auto behind =
        static_cast<std::uint64_t>(3 * (model.shape().context - model.shape().prefix));
    EXPECT_EQ(effect.escapes.positions, behind);
    EXPECT_TRUE(std::isfinite(effect.polynomial_nats));
  }
}

// Shapes without values: what would read a tensor's memory, or mix it with the CPU's, fails.
void RunWithoutValues(const Transformer& model, const Batch& batch) {
  const Shape& shape = model.shape();
  const Transformer there = model.On(torch::kMeta);
  for (const auto& [name, value, matrix, parts, ngrams] : there.parameters())
    value.set_requires_grad(true);
  Transformer::Pass pass(there);
  Tensor x = there.Get("embed").narrow(0, 0, 1).view({1, 1, -1}).expand({3, shape.context, -1});
  for (int i = 0; i < shape.n_layers; ++i) x = there.Block(i, x, pass);
  const Tensor hidden = there.Finish(x).view({-1, shape.d_model});
  Tensor text;
  HeadDistillation(hidden, there.HeadMatrix(), hidden, there.HeadMatrix(),
                   batch.targets.reshape({-1}), 0.5, &text)
      .backward();
  EXPECT_TRUE(there.Get("layers.0.wqkv").grad().is_meta());
}

TEST(Transformer, RunsOnADeviceThatIsNotTheCpu) {
  std::mt19937_64 random(11);
  int whole = 0;
  for (int round = 0; round < 60; ++round) {
    SCOPED_TRACE(round);
    Transformer model = RandomModel(random);
    const Batch batch = RandomBatch(model.shape());
    if (random() % 2) model.polynomials = Interpolants(model, batch);
    try {
      RunWithoutValues(model, batch);
      ++whole;
    } catch (const c10::NotImplementedError&) {  // LibTorch 1.13 has not every operation there
    }
  }
  EXPECT_GT(whole, 10);
}

TEST(Transformer, ACloneSharesNothing) {
  std::mt19937_64 random(10);
  const Transformer model = RandomModel(random);
  const Transformer copy = model.Clone(model.shape(), AttentionForm::kPowerMean);
  const auto a = model.parameters(), b = copy.parameters();
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].name, b[i].name);
    EXPECT_TRUE(torch::equal(a[i].value, b[i].value));
    EXPECT_FALSE(a[i].value.is_alias_of(b[i].value)) << a[i].name;
  }
}

}  // namespace
}  // namespace polyveil::train
