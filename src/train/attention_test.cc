// Kernels against LibTorch's own operations, in float64.
#include "train/attention.h"

#include <gtest/gtest.h>

#include "approx/choose.h"
#include "approx/remez.h"
#include "train/cross_entropy.h"
#include "train/distillation.h"
#include "train/series.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

struct Inputs {
  Tensor qkv, shift, log_kappa, out_weight, divisor_weight;
};

Inputs RandomInputs(int batch, int context, int heads, int d_head) {
  torch::manual_seed(3);
  const auto f64 = torch::TensorOptions().dtype(torch::kFloat64);
  return {torch::randn({batch, context, 3 * heads * d_head}, f64).requires_grad_(true),
          (2 + 0.3 * torch::randn({heads}, f64)).requires_grad_(true),
          (2.5 + 0.2 * torch::randn({heads}, f64)).requires_grad_(true),
          torch::randn({batch, context, heads * d_head}, f64),
          torch::randn({batch, heads, context}, f64)};
}

struct Outcome {
  Tensor output, divisor, d_qkv, d_shift, d_kappa;
};

Outcome Differentiate(const Inputs& in, const AttentionOptions& options, bool fused) {
  for (const Tensor& x : {in.qkv, in.shift, in.log_kappa}) x.mutable_grad() = Tensor();
  const AttentionResult r = fused ? FusedAttention(in.qkv, in.shift, in.log_kappa, options)
                                  : PlainAttention(in.qkv, in.shift, in.log_kappa, options);
  Tensor loss = (r.output * in.out_weight).sum();
  if (r.divisor.defined()) loss = loss + (r.divisor * in.divisor_weight).sum();
  loss.backward();
  return {r.output.detach(), r.divisor, in.qkv.grad(), in.shift.grad(), in.log_kappa.grad()};
}

void ExpectClose(const Tensor& x, const Tensor& y, const char* what) {
  ASSERT_EQ(x.defined(), y.defined()) << what;
  if (!x.defined()) return;
  const double scale = std::max(1.0, y.abs().max().item<double>());
  EXPECT_LT((x - y).abs().max().item<double>() / scale, 1e-10) << what;
}

void ExpectSame(const Outcome& x, const Outcome& y, bool softmax = false) {
  ExpectClose(x.output, y.output, "output");
  ExpectClose(x.d_qkv, y.d_qkv, "gradient of qkv");
  if (softmax) return;
  ExpectClose(x.divisor.detach(), y.divisor.detach(), "divisor");
  ExpectClose(x.d_shift, y.d_shift, "gradient of shift");
  ExpectClose(x.d_kappa, y.d_kappa, "gradient of kappa");
}

TEST(Attention, FusedSoftmaxEqualsPlain) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  const AttentionOptions options{AttentionForm::kSoftmax, 3, 4, 1e-3, {}};
  ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false), true);
}

TEST(Attention, FusedPowerEqualsPlainAtEveryPower) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  for (const int power : {2, 4, 6, 8}) {
    const AttentionOptions options{AttentionForm::kPowerMean, 3, power, 1e-3, {}};
    ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false));
  }
}

TEST(Attention, FusedEqualsPlainWithPowersByHeadAndAsASum) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  for (const bool mean : {true, false}) {
    AttentionOptions options{AttentionForm::kPowerMean, 3, 4, 1e-3};
    options.head_powers = {2, 12, 6};
    options.mean = mean;
    ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false));
    AttentionOptions stable = options;
    stable.form = AttentionForm::kPowerStable;
    ExpectSame(Differentiate(in, stable, false), Differentiate(in, options, false));
  }
}

TEST(Attention, FusedPointwiseEqualsPlain) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  const AttentionOptions options{AttentionForm::kPointwise, 3, 4, 1e-3};
  const Outcome fused = Differentiate(in, options, true), plain = Differentiate(in, options, false);
  EXPECT_FALSE(fused.divisor.defined());
  ExpectSame(fused, plain, true);
  ExpectClose(fused.d_shift, plain.d_shift, "gradient of shift");
  ExpectClose(fused.d_kappa, plain.d_kappa, "gradient of kappa");
}

TEST(Attention, FusedPowerEqualsPlainThroughThePolynomial) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  const auto inverse = approx::MinimaxInverse(0.1, 20, 7).value().series;
  const AttentionOptions options{AttentionForm::kPowerMean, 3, 4, 1e-3, inverse};
  ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false));
}

// Every refinement, and clamped inputs: values and gradients of the kernel are those of autograd.
TEST(Attention, FusedPowerEqualsPlainThroughEveryApproximant) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  for (const approx::Candidate& c :
       approx::Candidates(approx::Target::kInverse, 0.3, 3, 1e-3, {0.05, 16}))
    for (const double clamp : {0.0, 1.0, 1.5}) {
      AttentionOptions options{AttentionForm::kPowerMean, 3, 4, 1e-3, c.polynomial};
      options.clamp = clamp;
      ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false));
    }
}

// Grouped keys, no mask, rows that divide exactly: the plain form has what the fused one has.
TEST(Attention, FusedEqualsPlainInReleasedShapes) {
  const auto inverse = approx::MinimaxInverse(0.1, 20, 7).value().series;
  for (const bool causal : {true, false})
    for (const int kv : {1, 2, 4}) {
      AttentionOptions options{AttentionForm::kPowerMean, 4, 4, 1e-3, inverse};
      options.n_kv_heads = kv;
      options.causal = causal;
      options.exact_rows = 2;
      Inputs in = RandomInputs(2, 9, 4, 5);
      in.qkv = in.qkv.detach().narrow(2, 0, (4 + 2 * kv) * 5).contiguous().requires_grad_(true);
      ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false));
      options.form = AttentionForm::kSoftmax;
      ExpectSame(Differentiate(in, options, true), Differentiate(in, options, false), true);
    }
}

TEST(Attention, StableFormIsTheSameFunction) {
  const Inputs in = RandomInputs(2, 9, 3, 4);
  const AttentionOptions mean{AttentionForm::kPowerMean, 3, 4, 1e-3, {}};
  AttentionOptions stable = mean;
  stable.form = AttentionForm::kPowerStable;
  ExpectSame(Differentiate(in, stable, false), Differentiate(in, mean, false));
}

TEST(Attention, StableFormSurvivesHugeScores) {
  Inputs in = RandomInputs(1, 5, 1, 4);
  const auto big = (in.qkv.detach() * 1e5).to(torch::kFloat32);
  const auto shift = in.shift.detach().narrow(0, 0, 1).to(torch::kFloat32);
  const AttentionOptions options{AttentionForm::kPowerStable, 1, 8, 1e-3, {}};
  const auto out = PlainAttention(big, shift, shift, options).output;
  EXPECT_TRUE(torch::isfinite(out).all().item<bool>());
}

TEST(Attention, ChebyshevEqualsApprox) {
  const approx::Approximant p{0.5, 4, {1, -0.5, 0.25, -0.1}};
  const Tensor x = torch::linspace(0.2, 5, 9, torch::kFloat64);
  const Tensor y = EvaluateApproximant(p, x);
  for (int i = 0; i < 9; ++i) EXPECT_NEAR(y[i].item<double>(), p(x[i].item<double>()), 1e-12);
}

// Against LibTorch's own operations; a teacher that is the student itself leaves the text's loss.
TEST(Distillation, EqualsTorchWithGradients) {
  torch::manual_seed(5);
  const auto f64 = torch::TensorOptions().dtype(torch::kFloat64);
  const Tensor hidden = torch::randn({600, 6}, f64).requires_grad_(true);
  const Tensor embed = torch::randn({11, 6}, f64).requires_grad_(true);
  const Tensor teacher = torch::randn({600, 4}, f64), teacher_embed = torch::randn({11, 4}, f64);
  const Tensor targets = torch::randint(0, 11, {600}, torch::kInt64);
  Tensor text;
  const Tensor loss = HeadDistillation(hidden, embed, teacher, teacher_embed, targets, 0.3, &text);
  loss.backward();
  const Tensor d_hidden = hidden.grad().clone(), d_embed = embed.grad().clone();
  hidden.mutable_grad() = Tensor(), embed.mutable_grad() = Tensor();
  const auto expect_same = [&](const Tensor& expected, const Tensor& ce, const char* whose) {
    SCOPED_TRACE(whose);
    expected.backward();
    ExpectClose(loss.detach(), expected.detach(), "loss");
    ExpectClose(text, ce.detach(), "loss of the text");
    ExpectClose(d_hidden, hidden.grad(), "gradient of hidden");
    ExpectClose(d_embed, embed.grad(), "gradient of embed");
    hidden.mutable_grad() = Tensor(), embed.mutable_grad() = Tensor();
  };
  const Tensor student = torch::log_softmax(torch::mm(hidden, embed.t()), 1);
  const Tensor wanted = torch::log_softmax(torch::mm(teacher, teacher_embed.t()), 1);
  const Tensor ce = torch::nll_loss(student, targets);
  expect_same(0.7 * ce + 0.3 * (wanted.exp() * (wanted - student)).sum(1).mean(), ce, "by hand");
  Tensor plain_text;
  const Tensor plain_loss =
      plain::HeadDistillation(hidden, embed, teacher, teacher_embed, targets, 0.3, &plain_text);
  expect_same(plain_loss, plain_text, "plain");
}

// Logits of size 1 err by 2^-8 of the products' sizes, some units: a hundredth of the loss.
TEST(Distillation, Bf16IsNearFloat32AndLeavesPrefixesOut) {
  torch::manual_seed(6);
  const Tensor hidden = torch::randn({300, 16}).requires_grad_(true),
               embed = torch::randn({50, 16});
  const Tensor teacher = hidden.detach() + 0.3 * torch::randn({300, 16});
  Tensor targets = torch::randint(0, 50, {300}, torch::kInt64), text, text16;
  targets[0] = targets[299] = -100;
  const Tensor loss = HeadDistillation(hidden, embed, teacher, embed, targets, 1, &text);
  loss.backward();
  const Tensor wide = hidden.grad().clone();
  hidden.mutable_grad() = Tensor();
  const Tensor loss16 =
      HeadDistillation(hidden, embed, teacher, embed, targets, 1, &text16, Precision::kBf16);
  loss16.backward();
  EXPECT_NEAR(loss.item<double>(), loss16.item<double>(), 0.02 * loss.item<double>());
  EXPECT_NEAR(text.item<double>(), text16.item<double>(), 0.02);
  EXPECT_LT((wide - hidden.grad()).norm().item<double>(), 0.02 * wide.norm().item<double>());
  EXPECT_EQ(hidden.grad()[0].abs().sum().item<double>(), 0);
  EXPECT_EQ(hidden.grad()[299].abs().sum().item<double>(), 0);
}

TEST(CrossEntropy, EqualsTorchWithGradients) {
  torch::manual_seed(4);
  const auto f64 = torch::TensorOptions().dtype(torch::kFloat64);
  const Tensor hidden = torch::randn({700, 6}, f64).requires_grad_(true);
  const Tensor embed = torch::randn({11, 6}, f64).requires_grad_(true);
  Tensor targets = torch::randint(0, 11, {700}, torch::kInt64);
  targets[3] = -100;
  const Tensor loss = HeadCrossEntropy(hidden, embed, targets);
  (2 * loss).backward();
  const Tensor d_hidden = hidden.grad().clone(), d_embed = embed.grad().clone();
  hidden.mutable_grad() = Tensor(), embed.mutable_grad() = Tensor();
  const Tensor expected = torch::nn::functional::cross_entropy(
      torch::mm(hidden, embed.t()), targets,
      torch::nn::functional::CrossEntropyFuncOptions().ignore_index(-100));
  (2 * expected).backward();
  ExpectClose(loss.detach(), expected.detach(), "loss");
  ExpectClose(d_hidden, hidden.grad(), "gradient of hidden");
  ExpectClose(d_embed, embed.grad(), "gradient of embed");
  const LossSum sum = HeadLossSum(hidden, embed, targets);
  EXPECT_EQ(sum.count, 699);
  EXPECT_NEAR(sum.nats / 699, expected.item<double>(), 1e-10);
}

}  // namespace
}  // namespace polyveil::train
