// The trainable model against the float32 reference, architecture by architecture, in every form.
#include "train/distil/load.h"

#include <gtest/gtest.h>

#include "train/convert.h"
#include "train/distil/export.h"
#include "train/distil/forms_fixture.h"
#include "train/distil/start.h"
#include "train/distil/toy.h"
#include "train/series.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

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

void ExpectFolderEqual(const model::Checkpoint& source, const std::vector<int>& prefix,
                       bool polynomials) {
  const model::TemporaryFolder folder;
  const std::vector<model::TokenId> tokens = TokensBehind(prefix);
  const Transformer released = LoadReleased(source, static_cast<int>(prefix.size())).value();
  Transformer model = released.Clone(released.shape(), AttentionForm::kPowerMean);
  SetForms(model, tokens, polynomials);
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
