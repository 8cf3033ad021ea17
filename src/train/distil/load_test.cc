// The trainable model against the float32 reference, architecture by architecture, in every form.
#include "train/distil/load.h"

#include <gtest/gtest.h>

#include "approx/remez.h"
#include "model/float32/reference.h"
#include "train/convert.h"
#include "train/distil/export.h"
#include "train/distil/start.h"
#include "train/distil/toy.h"
#include "train/series.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

// float32 against float32: outputs of size 1 after about 100 rounded operations each, and weights
// that are quotients of rounded sums.
constexpr double kTolerance = 1e-4;

Tensor TokenTensor(const std::vector<model::TokenId>& tokens) {
  return torch::tensor(std::vector<std::int64_t>(tokens.begin(), tokens.end())).unsqueeze(0);
}

model::FloatMatrix ReferenceOutputs(const model::Checkpoint& checkpoint,
                                    const std::vector<model::TokenId>& tokens) {
  const model::FloatReference reference(checkpoint);
  const model::Sequence sequence{tokens};
  model::FloatMatrix hidden = reference.Hidden(std::span(&sequence, 1)).value();
  return checkpoint.architecture.head == model::HeadKind::kCausalLm ? reference.Logits(hidden)
                                                                    : hidden;
}

void ExpectEqual(const Transformer& model, const model::Checkpoint& checkpoint,
                 const std::vector<model::TokenId>& tokens) {
  torch::NoGradGuard no_grad;
  Tensor out = model.Forward(TokenTensor(tokens), {}).hidden;
  if (checkpoint.architecture.head == model::HeadKind::kCausalLm)
    out = torch::linear(out, model.HeadMatrix());
  model::FloatMatrix wanted = ReferenceOutputs(checkpoint, tokens);
  const Tensor other =
      torch::from_blob(wanted.values.data(), {wanted.rows, wanted.cols}, torch::kFloat32);
  EXPECT_LT((out - other).abs().max().item<double>(), kTolerance);
}

std::vector<model::TokenId> Tokens() { return {1, 7, 3, 28, 0, 11, 5, 5, 19, 2, 26, 14}; }

TEST(ReleasedModel, SoftmaxEqualsTheReferenceOfEveryArchitecture) {
  for (const auto& vectors : model::ReadVectors("logits.json")) {
    SCOPED_TRACE(vectors["name"].get<std::string>());
    const model::TemporaryFolder folder;
    model::WriteModel(vectors, folder.path());
    const auto checkpoint = model::LoadCheckpoint(folder.path()).value();
    if (checkpoint->architecture.head == model::HeadKind::kClassifier) {
      EXPECT_FALSE(LoadReleased(*checkpoint).ok());
    } else {
      ExpectEqual(LoadReleased(*checkpoint).value(), *checkpoint, Tokens());
    }
  }
}

TEST(ReleasedModel, SoftmaxEqualsTheReferenceOfGgufFiles) {
  for (const char* name : {"bert", "gpt2", "gpt_neox", "llama"}) {
    SCOPED_TRACE(name);
    const auto checkpoint =
        model::LoadCheckpoint(model::VectorPath(std::string(name) + ".gguf")).value();
    ExpectEqual(LoadReleased(*checkpoint).value(), *checkpoint, Tokens());
  }
}

SiteRanges Observed(const Transformer& model, const Tensor& tokens) {
  torch::NoGradGuard no_grad;
  Observer observer(nullptr, model.shape().causal);
  model.Forward(tokens, {},
                observer.NextBatch(tokens.size(0), tokens.size(1) - model.shape().prefix));
  return observer.Take().ranges;
}

// Interpolants of degree 3 on the seen ranges with a margin: far from exact, and tame a
// little beyond them.
LayerPolynomials Interpolants(const SiteRanges& ranges, int index) {
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

Transformer Converted(const model::Checkpoint& checkpoint, const std::vector<int>& prefix,
                      const std::vector<model::TokenId>& tokens, bool polynomials) {
  torch::NoGradGuard no_grad;
  const Transformer released = LoadReleased(checkpoint, static_cast<int>(prefix.size())).value();
  Transformer model = released.Clone(released.shape(), AttentionForm::kPowerMean);
  int salt = 0;
  for (Weights::Layer& layer : model.weights.layers) {
    layer.shift.copy_(torch::linspace(1.5, 2.5, layer.shift.size(0)) + 0.1 * ++salt);
    layer.log_kappa.copy_(4 * layer.shift.log());
  }
  if (!polynomials) return model;
  const SiteRanges ranges = Observed(model, TokenTensor(tokens));
  std::vector<LayerPolynomials> fits;
  for (int i = 0; i < checkpoint.architecture.n_layers; ++i)
    fits.push_back(Interpolants(ranges, i));
  model.polynomials = std::move(fits);
  return model;
}

std::vector<model::TokenId> TokensBehind(const std::vector<int>& prefix) {
  std::vector<model::TokenId> tokens = Tokens();
  std::copy(prefix.begin(), prefix.end(), tokens.begin());
  return tokens;
}

void ExpectFolderEqual(const model::Checkpoint& source, const std::vector<int>& prefix,
                       bool polynomials) {
  const model::TemporaryFolder folder;
  const std::vector<model::TokenId> tokens = TokensBehind(prefix);
  const Transformer model = Converted(source, prefix, tokens, polynomials);
  DistilCalibration calibration{Observed(model, TokenTensor(tokens)), 12, 1.5};
  ASSERT_TRUE(WriteReleasedFolder(model, source, prefix, calibration, folder.path()).ok());
  const auto converted = model::LoadCheckpoint(folder.path());
  ASSERT_TRUE(converted.ok()) << converted.error().message;
  EXPECT_TRUE((*converted)->unused.empty());
  ExpectEqual(model, **converted, tokens);
  if (prefix.empty()) return;
  const std::vector<model::TokenId> other = {2, 2, 2};
  const model::Sequence sequence{other};
  const auto refused = model::FloatReference(**converted).Hidden(std::span(&sequence, 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("prefix"), std::string::npos);
}

TEST(ReleasedModel, ExportedFoldersEqualTheTrainedModelInEveryForm) {
  for (const char* name : {"gpt2", "gpt_neox", "gpt_neox sequential", "llama", "llama 3", "bert"}) {
    const model::TemporaryFolder folder;
    const auto source = WriteToyModel(name, folder.path());
    for (const bool polynomials : {false, true}) {
      SCOPED_TRACE(fmt::format("{} {}", name, polynomials));
      const std::vector<int> prefix =
          source->architecture.causal ? std::vector<int>{1, 9} : std::vector<int>{};
      ExpectFolderEqual(*source, prefix, polynomials);
    }
  }
}

TEST(ReleasedModel, AGgufModelBecomesAFolder) {
  const auto source = model::LoadCheckpoint(model::VectorPath("llama.gguf")).value();
  ExpectFolderEqual(*source, {3}, true);
}

// The fused kernel with shared keys, or without a mask, against LibTorch's operations; gradients by
// both ways.
TEST(ReleasedModel, GroupedAndBidirectionalAttentionEqualsPlainOperations) {
  for (const bool causal : {true, false}) {
    torch::manual_seed(5);
    const auto options = torch::TensorOptions().dtype(torch::kFloat64);
    const int heads = 6, kv = 2, d = 5, n = 9;
    Tensor qkv = torch::randn({2, n, (heads + 2 * kv) * d}, options).set_requires_grad(true);
    Tensor shift = (torch::rand({heads}, options) + 2).set_requires_grad(true);
    Tensor log_kappa = torch::rand({heads}, options).set_requires_grad(true);
    AttentionOptions attention{AttentionForm::kPowerMean, heads, 4, 1e-3};
    attention.n_kv_heads = kv;
    attention.causal = causal;
    attention.exact_rows = 2;
    attention.inverse = approx::Chebyshev{0.5, 20, {0.5, -0.2, 0.1}};
    const AttentionResult fused = FusedAttention(qkv, shift, log_kappa, attention);

    const Tensor split = qkv.view({2, n, -1, d}).transpose(1, 2);
    const Tensor keys = split.narrow(1, heads, kv).repeat_interleave(heads / kv, 1);
    const Tensor values = split.narrow(1, heads + kv, kv).repeat_interleave(heads / kv, 1);
    const Tensor ones = torch::ones({n, n}, options), mask = causal ? ones.tril() : ones;
    const Tensor z = torch::matmul(split.narrow(1, 0, heads), keys.transpose(2, 3)) /
                         std::sqrt(static_cast<double>(d)) +
                     shift.view({1, -1, 1, 1});
    const Tensor u = IntegerPower(z, 4) * mask /
                     (log_kappa.exp().view({1, -1, 1, 1}) * mask.sum(1).view({1, 1, -1, 1}));
    const Tensor y = u.sum(-1, true);
    const Tensor inverse =
        torch::cat({1 / (1e-3 + y.narrow(2, 0, 2)),
                    EvaluateApproximant(*attention.inverse, y.narrow(2, 2, n - 2))},
                   2);
    const Tensor plain =
        torch::matmul(u * inverse, values).transpose(1, 2).reshape({2, n, heads * d});
    const double largest = plain.abs().max().item<double>();
    EXPECT_LT((plain - fused.output).abs().max().item<double>(), 1e-12 * largest);

    const Tensor weights = torch::randn({2, n, heads * d}, options);
    const auto gradients = [&](const Tensor& out) {
      return torch::autograd::grad({(out * weights).sum()}, {qkv, shift, log_kappa});
    };
    const auto a = gradients(fused.output), b = gradients(plain);
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double scale = b[i].abs().max().item<double>();
      EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), 1e-11 * scale) << i;
    }
  }
}

TEST(ReleasedModel, FusedSeriesHaveTheSeriesValuesAndGradients) {
  const approx::Approximant p(approx::Chebyshev{-3, 5, {0.5, 1, -0.25, 0.125, 0.3}});
  for (const double clamp : {0.0, 1.0, 1.25}) {
    const auto options = torch::TensorOptions().dtype(torch::kFloat64);
    Tensor x = (torch::linspace(-5, 8, 203, options)).set_requires_grad(true);
    const Tensor a = FusedSeries(p, x, clamp), b = EvaluateApproximant(p, x, clamp);
    EXPECT_LT((a - b).abs().max().item<double>(), 1e-10);
    const Tensor da = torch::autograd::grad({a.sum()}, {x})[0];
    const Tensor db = torch::autograd::grad({b.sum()}, {x})[0];
    EXPECT_LT((da - db).abs().max().item<double>(), 1e-9);
  }
}

// A head whose scores hardly differ is near (1 + s/c)^p for every large c; sharp ones want a small
// one.
TEST(ReleasedModel, TheStartIsNearerToSoftmaxThanAFixedShift) {
  const model::TemporaryFolder folder;
  const auto source = WriteToyModel("llama", folder.path());
  torch::NoGradGuard no_grad;
  const Transformer teacher = LoadReleased(*source).value();
  Transformer student = teacher.Clone(teacher.shape(), AttentionForm::kPowerMean);
  const auto start = StartPower(teacher, student, {TokenTensor(Tokens())});
  ASSERT_EQ(start.size(), 2u);
  const Tensor x = teacher.Embed(TokenTensor(Tokens()));
  Transformer::Pass a(teacher), b(student);
  const Tensor wanted = teacher.Attention(0, x, a), got = student.Attention(0, x, b);
  const Transformer fixed = student.Clone(student.shape(), AttentionForm::kPowerMean);
  for (const Weights::Layer& layer : fixed.weights.layers) layer.shift.fill_(0.5);
  Transformer::Pass c(fixed);
  EXPECT_LT((got - wanted).norm().item<double>(),
            (fixed.Attention(0, x, c) - wanted).norm().item<double>());
  for (const auto& heads : start)
    for (const HeadStart& head : heads) EXPECT_LT(head.error, 0.5);
}

// A position escapes when any of its heads does, whether or not the divisors keep their key axis.
TEST(DistilEscapes, MarkPositionsOfEveryShape) {
  torch::Tensor outside = torch::zeros({2, 3, 5}, torch::kBool);
  outside.index_put_({1, 2, 4}, true);
  torch::Tensor wanted = torch::zeros({2, 5}, torch::kBool);
  wanted.index_put_({1, 4}, true);
  const std::string divisor = "layer 0 / attention / divisor";
  EXPECT_TRUE(torch::equal(MarkedPositions(divisor, outside), wanted));
  EXPECT_TRUE(torch::equal(MarkedPositions(divisor, outside.unsqueeze(3)), wanted));
  const torch::Tensor hidden = outside.transpose(1, 2).contiguous();  // [batch, context, features]
  EXPECT_TRUE(torch::equal(MarkedPositions("layer 0 / feed-forward / hidden", hidden), wanted));
}

}  // namespace
}  // namespace polyveil::train
