// Whole runs on a tiny model: determinism, resumption, and the exported form.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <random>
#include <set>

#include "model/client/language_model.h"
#include "model/ngram.h"
#include "support/toy_training.h"
#include "train/convert.h"
#include "train/softmax_baseline.h"

namespace polyveil::train {
namespace {

// Short polynomial stages: what is exported is looked at, whatever its range and error.
const ExportOptions kAny{.leave_out = true, .largest_error = 1e9, .parameters = "test12"};

class TrainTest : public ToyTraining {
 protected:
  void ExpectResumes(TrainConfig config, std::uint64_t seed);

  void ExpectEqualWeights(const std::string& x, const std::string& y) const {
    const auto a = LoadModel(folder_ + "/" + x + "/last.pt").value();
    const auto b = LoadModel(folder_ + "/" + y + "/last.pt").value();
    for (std::size_t i = 0; i < a.model->parameters().size(); ++i)
      EXPECT_TRUE(torch::equal(a.model->parameters()[i].value, b.model->parameters()[i].value))
          << a.model->parameters()[i].name;
  }

  void ExpectReferenceEquals(const Transformer& trained, model::Evaluation evaluation) const {
    const auto data = LoadDataset(folder_ + "/data").value();
    const Batch batch = DrawBatch(data, {}, 3, trained.shape().context, 99, 1);
    const auto ranges = ObserveRanges(trained, {batch});
    Transformer exportable = trained;  // shares the weights
    if (!exportable.polynomials) {
      const LayerPolynomials dummy{{0.1, 1, {1}}, {0.1, 1, {1}}, {0.1, 1, {1}}, {}};
      exportable.polynomials.emplace(static_cast<std::size_t>(trained.shape().n_layers), dummy);
    }
    const Bundle bundle = ExportInMemory(exportable, ranges);
    const auto body = model::ParseBodyBundle(bundle.json, bundle.tensors).value();
    const auto client = model::ParseClientBundle(bundle.json, bundle.tensors).value();
    model::ReferenceLanguageModel reference(model::DecoderOfBundle(body), client, evaluation);
    torch::NoGradGuard no_grad;
    const torch::Tensor logits = trained.Logits(batch.inputs);
    double worst = 0;
    for (int row = 0; row < 3; ++row) {
      reference.Reset();
      for (int t = 0; t < trained.shape().context; ++t) {
        const auto step = reference.Step(batch.inputs[row][t].item<int>(), t).value();
        for (std::size_t i = 0; i < step.size(); ++i)
          worst = std::max(worst,
                           std::abs(step[i] - logits[row][t][static_cast<int>(i)].item<double>()));
      }
    }
    EXPECT_LT(worst, 1e-6);
    EXPECT_GT(logits.abs().max().item<double>(), 0.1);
  }
};

TEST_F(TrainTest, LearnsAndRepeats) {
  TrainConfig config = Tiny("a");
  config.steps = 60;
  const TrainSummary summary = Run(config);
  EXPECT_LT(summary.heldout.nats, 0.6 * std::log(280.0));
  EXPECT_GT(summary.heldout.bits_per_byte, 0);
  config.name = "b";
  Run(config);
  ExpectEqualWeights("a", "b");
}

TEST_F(TrainTest, ResumesToTheSameWeights) {
  Run(Tiny("whole"));
  Run(Tiny("parts"), false, 5);
  Run(Tiny("parts"), true);
  ExpectEqualWeights("whole", "parts");
}

// Cut twice at random steps, the second time after a crash that loses what the last checkpoint does
// not hold; ends as if it had run through.
void TrainTest::ExpectResumes(TrainConfig config, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto steps = static_cast<std::uint64_t>(config.steps);
  const auto first = static_cast<std::int64_t>(1 + random() % (steps - 2));
  const auto second = first + 1 + static_cast<std::int64_t>(random() % (steps - 1 - first));
  const std::string whole = config.name;
  Run(config);
  config.name += "-parts";
  const std::string last = folder_ + "/" + config.name + "/last.pt", saved = last + ".saved";
  Run(config, false, first);
  std::filesystem::copy_file(last, saved);
  Run(config, true, second);
  std::filesystem::rename(saved, last);
  Run(config, true);
  ExpectEqualWeights(whole, config.name);
  std::ifstream curve(folder_ + "/" + config.name + "/curve.jsonl");
  std::set<std::string> seen;
  for (std::string line; std::getline(curve, line);) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_TRUE(seen.insert(json.at("step").dump()).second) << line;
  }
}

TrainConfig WithNgrams(TrainConfig config) {
  config.shape.ngram_rows = {64, 32};
  config.ngram_dropout = 0.2;
  config.optimizer.ngram_decay = 0.1;
  return config;
}

TEST_F(TrainTest, EveryStageResumesToTheSameResult) {
  TrainConfig rounded = WithNgrams(Tiny("rounded"));
  rounded.precision = Precision::kBf16;
  ExpectResumes(rounded, 4);
  TrainConfig scratch = Tiny("scratch");
  scratch.accumulate = 2;
  ExpectResumes(scratch, 1);
  TrainConfig distilled = Tiny("distilled");
  distilled.seed = 5;
  distilled.distillation = DistillationOptions{"scratch/last.pt", 0.5};
  ExpectResumes(distilled, 2);
  TrainConfig polynomial = Tiny("polynomial");
  polynomial.init_from = "distilled/last.pt";
  polynomial.polynomial = PolynomialOptions{3, 3, 3, 15, 1.3, 3, 0.5, 1.5};
  ExpectResumes(polynomial, 3);
  polynomial.name = "refitted";
  polynomial.polynomial->refit_fraction = 0.5;
  polynomial.polynomial->divisor_ratio = 30;
  for (const int stop : {2, 3}) ExpectResumes(polynomial, stop);
}

// Two batches' gradients averaged: the same first step as one batch of both.
TEST_F(TrainTest, AccumulationAveragesGradients) {
  TrainConfig one = Tiny("one");
  one.float64 = true;
  one.steps = 1;
  one.range = {};
  TrainConfig two = one;
  two.name = "two";
  two.accumulate = 2;
  const TrainSummary a = Run(one), b = Run(two);
  EXPECT_EQ(2 * a.tokens, b.tokens);
  EXPECT_GT(b.gemm_fraction, 0);
  const auto x = LoadModel(folder_ + "/one/last.pt").value();
  const auto y = LoadModel(folder_ + "/two/last.pt").value();
  EXPECT_FALSE(torch::equal(x.model->Get("embed"), y.model->Get("embed")));
}

TEST_F(TrainTest, DistillationRefusesAnotherVocabulary) {
  Run(Tiny("teacher"));
  TrainConfig student = Tiny("student");
  student.shape.vocab_size = 300;
  student.distillation = DistillationOptions{"teacher/last.pt", 0.5};
  EXPECT_FALSE(RunTrain(student, {folder_ + "/data", folder_, false, 0, {}}).ok());
}

TEST_F(TrainTest, AParentHasTheSameParameters) {
  Run(Tiny("parent"));
  const auto refused = [&](const TrainConfig& config) {
    const auto run = RunTrain(config, {folder_ + "/data", folder_, false, 0, {}, nullptr, true});
    EXPECT_FALSE(run.ok());
    return run.ok() ? std::string() : run.error().message;
  };
  const auto expect = [](const std::string& message, const char* name, const char* counts) {
    for (const char* part : {"init_from", name, counts})
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
  };
  TrainConfig child = Tiny("child");
  child.init_from = "parent/last.pt";
  child.shape.n_layers = 3;
  expect(refused(child), "layers.2.norm1", "23 parameters, this model 33");
  child.shape.n_layers = 1;
  expect(refused(child), "layers.1.norm1", "23 parameters, this model 13");
  child.shape.n_layers = 2;
  child.source_weights = {{"toys", 1}};
  EXPECT_EQ(refused(child), "config.source_weights names \"toys\", no source; there are: toy");
  child.source_weights = {{"toy", 0}};
  EXPECT_EQ(refused(child), "config.source_weights: every source's weight is 0");
}

// Degree 3 far outside its interval explodes; clamped a norm goes on from the interval's end in
// proportion to 1/sqrt(v), so that what it normalises keeps its size.
TEST_F(TrainTest, ClampBoundsWhatEscapes) {
  Run(Tiny("parent"));
  TrainConfig config = Tiny("poly");
  config.init_from = "parent/last.pt";
  config.steps = 0;
  config.polynomial = PolynomialOptions{3, 3, 3, 15, 1.3, 3};
  Run(config);
  auto loaded = LoadModel(folder_ + "/poly/last.pt").value();
  Transformer& model = *loaded.model;
  torch::NoGradGuard no_grad;
  torch::Tensor embed = model.Get("embed");
  embed.mul_(1e4);
  const auto data = LoadDataset(folder_ + "/data").value();
  const Batch batch = DrawBatch(data, {}, 2, 24, 1, 1);
  double least_variance = 0;
  const auto largest = [&] {
    double value = 0;
    model.Forward(batch.inputs, {}, [&](const std::string& site, const torch::Tensor& x) {
      if (site == "layer 0 / attention / variance") least_variance = x.min().item<double>();
      if (site == "layer 0 / attention / inverse root") value = x.abs().max().item<double>();
    });
    return value;
  };
  const approx::Approximant& p = (*model.polynomials)[0].norm1;
  EXPECT_GT(largest(), 1e6);
  model.clamp = 1;
  const double clamped = largest();
  ASSERT_GT(least_variance, p.b);
  const double eps = model.shape().norm_eps;
  const double expected = std::abs(p(p.b)) * std::sqrt((p.b + eps) / (least_variance + eps));
  EXPECT_NEAR(clamped, expected, 1e-4 * expected);
}

TEST_F(TrainTest, ConvertsWithinTheBudget) {
  TrainConfig config = Tiny("parent");
  config.steps = 60;
  Run(config);
  ConvertRequest request{
      folder_ + "/parent/last.pt", folder_ + "/data", folder_, "converted", 5, {}};
  const auto converted = ConvertCheckpoint(request);
  ASSERT_TRUE(converted.ok()) << converted.error().message;
  EXPECT_EQ(converted->conversion.choices.size(), 6u);  // two layers of three sites
  for (const SiteChoice& choice : converted->conversion.choices) {
    EXPECT_LE(choice.chosen.error, choice.site.ends_with("divisor") ? 0.05 : 0.02) << choice.site;
    EXPECT_LE(choice.a * 1.3, choice.seen.lo * (1 + 1e-9));
    EXPECT_GE(choice.b, choice.seen.hi * 1.3 * (1 - 1e-9));
  }
  // Every position's change is bounded by what the counts say, and the parent is the checkpoint.
  const auto parent = LoadModel(request.checkpoint).value();
  const auto data = LoadDataset(folder_ + "/data").value();
  EXPECT_NEAR(converted->effect.parent_nats, Evaluate(*parent.model, data).nats, 1e-5);
  const auto loaded = LoadModel(converted->checkpoint).value();
  EXPECT_NEAR(converted->effect.polynomial_nats, Evaluate(*loaded.model, data).nats, 1e-5);
  EXPECT_GE(converted->effect.all.mean_kl, 0);
  EXPECT_EQ(converted->effect.escapes.positions > 0, true);
  request.options.family = "newton";
  request.replace = true;
  for (const SiteChoice& choice : ConvertCheckpoint(request).value().conversion.choices)
    EXPECT_EQ(choice.chosen.method, "newton") << choice.site;
  request.options.max_depth = 1;
  EXPECT_FALSE(ConvertCheckpoint(request).ok());
  request.checkpoint = converted->checkpoint;
  EXPECT_FALSE(ConvertCheckpoint(request).ok());  // polynomial already
}

TEST_F(TrainTest, SoftmaxBaselinesApproximateSoftmax) {
  TrainConfig config = Tiny("softmax");
  config.attention = AttentionForm::kSoftmax;
  config.steps = 60;
  Run(config);
  const auto softmax = LoadModel(folder_ + "/softmax/last.pt").value();
  const auto data = LoadDataset(folder_ + "/data").value();
  for (const auto kind :
       {model::AttentionKind::kExponential, model::AttentionKind::kNormaliseSquare}) {
    BaselineOptions options;
    options.kind = kind;
    options.error = options.norms.norm_error = 0.01;
    options.calibration_batches = 5;
    options.heldout_windows = 2;
    const auto baseline = MakeSoftmaxBaseline(softmax, data, options);
    ASSERT_TRUE(baseline.ok()) << baseline.error().message;
    EXPECT_EQ(baseline->positions, 48u);
    EXPECT_EQ(baseline->escapes, 0u);
    // Weights within a per cent and norms within one: the loss moves by their order at most.
    EXPECT_NEAR(baseline->polynomial_nats, baseline->softmax_nats, 0.05);
  }
  Run(Tiny("power"));
  EXPECT_FALSE(MakeSoftmaxBaseline(LoadModel(folder_ + "/power/last.pt").value(), data, {}).ok());
}

TEST_F(TrainTest, RefusesToResumeAnotherConfig) {
  Run(Tiny("a"), false, 4);
  TrainConfig other = Tiny("a");
  other.seed = 9;
  EXPECT_FALSE(RunTrain(other, {folder_ + "/data", folder_, true, 0, {}}).ok());
}

TEST_F(TrainTest, KeepsARunThatIsThere) {
  Run(Tiny("a"), false, 4);
  const RunOptions fresh{folder_ + "/data", folder_, false, 0, {}};
  const auto refused = RunTrain(Tiny("a"), fresh);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ReadCheckpointInfo(folder_ + "/a/last.pt")->step, 4);
  EXPECT_EQ(Run(Tiny("a"), true).steps, 12);
  ConvertRequest request{folder_ + "/a/last.pt", folder_ + "/data", folder_, "b"};
  request.options.norm_error = request.options.divisor_error = 0.2;
  request.calibration_batches = 2;
  ASSERT_TRUE(ConvertCheckpoint(request).ok());
  EXPECT_FALSE(ConvertCheckpoint(request).ok());
  request.replace = true;
  EXPECT_TRUE(ConvertCheckpoint(request).ok());
  request.name = "../evil";
  EXPECT_FALSE(ConvertCheckpoint(request).ok());
}

TEST_F(TrainTest, PolynomialStageEqualsTheReference) {
  for (const auto ffn : {model::FeedForwardKind::kBilinear, model::FeedForwardKind::kGelu}) {
    TrainConfig config = Tiny("parent");
    config.shape.ffn = ffn;
    config.float64 = true;
    Run(config);
    config.name = "poly";
    config.init_from = "parent/last.pt";
    config.steps = 4;
    config.polynomial = PolynomialOptions{7, 15, 7, 15, 1.5, 3};
    Run(config);
    const auto loaded = LoadModel(folder_ + "/poly/last.pt", torch::kFloat64).value();
    ASSERT_TRUE(loaded.model->polynomials.has_value());
    ExpectReferenceEquals(*loaded.model, model::Evaluation::kPolynomial);
  }
}

TEST_F(TrainTest, NgramsEqualTheReference) {
  TrainConfig config = WithNgrams(Tiny("parent"));
  config.float64 = true;
  const TrainSummary with = Run(config);
  const auto loaded = LoadModel(folder_ + "/parent/last.pt", torch::kFloat64).value();
  EXPECT_GT(loaded.model->Get("ngram3").abs().max().item<double>(), 0);
  ExpectReferenceEquals(*loaded.model, model::Evaluation::kExact);
  config.name = "without";
  config.shape.ngram_rows = {};
  EXPECT_NE(Run(config).heldout.nats, with.heldout.nats);
}

// A step's products differ by the rounding of their operands, what is measured between steps not
// at all.
TEST_F(TrainTest, Bf16IsForStepsAlone) {
  TrainConfig config = Tiny("rounded");
  config.precision = Precision::kBf16;
  const TrainSummary rounded = Run(config);
  const auto data = LoadDataset(folder_ + "/data").value();
  const auto loaded = LoadModel(rounded.checkpoint).value();
  EXPECT_EQ(Evaluate(*loaded.model, data).nats, rounded.heldout.nats);
  config.name = "whole";
  config.precision = Precision::kFloat32;
  const TrainSummary whole = Run(config);
  EXPECT_NE(whole.heldout.nats, rounded.heldout.nats);
  EXPECT_NEAR(whole.heldout.nats, rounded.heldout.nats, 0.05);
  config.precision = Precision::kBf16;
  config.float64 = true;
  EXPECT_FALSE(ParseTrainConfig(FormatTrainConfig(config)).ok());
}

// The power-stable trainer ends with the function that the reference evaluates exactly. The dummy
// polynomials only make it exportable: the trained form and the reference both use exact functions.
TEST_F(TrainTest, StableFormEqualsTheExactReference) {
  TrainConfig config = Tiny("stable");
  config.float64 = true;
  config.attention = AttentionForm::kPowerStable;
  Run(config);
  const auto loaded = LoadModel(folder_ + "/stable/last.pt", torch::kFloat64).value();
  ExpectReferenceEquals(*loaded.model, model::Evaluation::kExact);
}

TEST_F(TrainTest, ExportsABundleThatLoads) {
  Run(Tiny("parent"));
  TrainConfig config = Tiny("poly");
  config.init_from = "parent/last.pt";
  config.optimizer.muon_lr = 0.002;
  config.optimizer.adam_lr = 0.0003;
  config.polynomial = PolynomialOptions{7, 7, 7, 15, 2, 3};
  Run(config);
  const std::string out = folder_ + "/bundle";
  ASSERT_TRUE(ExportBundle(folder_ + "/poly/last.pt", folder_ + "/data", out, kAny).ok());
  const auto bundle = model::LoadLanguageModel(out).value();
  EXPECT_EQ(bundle.tokenizer.Format(), tokenizer_);
  model::ReferenceLanguageModel reference(model::DecoderOfBundle(bundle.body), bundle.client);
  const auto text = model::Generate(reference, bundle.tokenizer.Encode("the cat"), 8, {});
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->size(), 8u);
}

// Tables as bytes and the rest as halves: each embedding within what its roundings allow, and no
// text's embedding beyond the bound.
TEST_F(TrainTest, ExportsTablesOfNgrams) {
  Run(WithNgrams(Tiny("parent")));
  TrainConfig config = WithNgrams(Tiny("poly"));
  config.init_from = "parent/last.pt";
  config.polynomial = PolynomialOptions{7, 7, 7, 15, 2, 3};
  config.steps = 2;
  Run(config);
  const std::string out = folder_ + "/bundle";
  ASSERT_TRUE(ExportBundle(folder_ + "/poly/last.pt", folder_ + "/data", out, kAny).ok());
  const auto bundle = model::LoadLanguageModel(out).value();
  const auto trained = LoadModel(folder_ + "/poly/last.pt").value();
  const auto values = [&](const char* name, std::int64_t row) {
    return trained.model->Get(name)[row].detach().to(torch::kFloat64);
  };
  const double bound = bundle.body.config.residual_bound;
  std::mt19937_64 random(3);
  for (int i = 0; i < 200; ++i) {
    std::vector<model::TokenId> text;
    for (int t = 0; t < 3; ++t) text.push_back(static_cast<model::TokenId>(random() % 280));
    const auto x = model::Embed(bundle.client, text).value();
    const auto e = values("embed", text[2]), p = values("pos", 2);
    const auto two = values("ngram2", model::NgramRow(std::span(text).last(2), 64));
    const auto three = values("ngram3", model::NgramRow(text, 32));
    const double bytes = (two.abs().max() + three.abs().max()).item<double>() / 254;
    for (std::size_t k = 0; k < x.size(); ++k) {
      const auto at = static_cast<std::int64_t>(k);
      const double halves = (e[at].abs() + p[at].abs()).item<double>() * 0x1p-11 + 0x1p-23;
      EXPECT_NEAR(x[k], (e[at] + p[at] + two[at] + three[at]).item<double>(), bytes + halves);
      EXPECT_LE(std::abs(x[k]), bound * (1 + 0x1p-10));  // of halves
    }
  }
}

TEST(Calibrate, IntervalsReachTheRatioAskedForAndKeepTheMargin) {
  Shape shape;
  shape.n_layers = 1;
  const SiteRanges ranges = {{"layer 0 / attention / variance", {0.1, 0.4, 1}},
                             {"layer 0 / attention / divisor", {0.5, 2, 1}},
                             {"layer 0 / feed-forward / variance", {0.1, 1, 1}}};
  PolynomialOptions options;
  options.margin = 1.5;
  options.divisor_ratio = 64;
  options.variance_ratio = 16;
  const LayerPolynomials fit = FitPolynomials(shape, ranges, options).value().front();
  EXPECT_DOUBLE_EQ(fit.norm1.a, 0.05);  // 4 seen, stretched to 16
  EXPECT_DOUBLE_EQ(fit.norm1.b, 0.8);
  EXPECT_DOUBLE_EQ(fit.divisor_inverse.a, 0.125);
  EXPECT_DOUBLE_EQ(fit.divisor_inverse.b, 8);
  EXPECT_DOUBLE_EQ(fit.norm2.a, 0.1 / 1.5);  // 10 seen: the margin alone makes it 22.5
  EXPECT_DOUBLE_EQ(fit.norm2.b, 1.5);
  options.divisor_reach = 2;
  const auto further = FitPolynomials(shape, ranges, options).value().front().divisor_inverse;
  EXPECT_DOUBLE_EQ(further.a, 0.125);
  EXPECT_DOUBLE_EQ(further.b, 16);
}

TEST(TrainConfig, RoundTripsAndRefusesUnknownFields) {
  TrainConfig config;
  config.polynomial.emplace();
  config.source_weights = {{"x", 2}};
  config.distillation.emplace();
  config.shape.layer_attention.assign(4, AttentionForm::kPointwise);
  config.shape.layer_powers = {{2}, {4, 6, 8, 10}, {4}, {12}};
  config.shape.ngram_rows = {100, 7};
  config.precision = Precision::kBf16;
  const std::string text = FormatTrainConfig(config);
  EXPECT_EQ(FormatTrainConfig(ParseTrainConfig(text).value()), text);
  for (const char* bad : {"",
                          "[]",
                          "{\"stepz\":1}",
                          "{\"steps\":\"x\"}",
                          "{\"attention\":\"none\"}",
                          "{\"shape\":{\"layer_powers\":[[4]]}}",
                          "{\"shape\":{\"layer_powers\":4}}",
                          "{\"shape\":{\"layer_attention\":[\"x\"]}}",
                          "{\"accumulate\":0}",
                          "{\"shape\":{\"d_model\":10,\"n_heads\":4}}",
                          "{\"shape\":{\"power\":3}}",
                          "{\"batch\":0}",
                          "{\"name\":\"\"}",
                          "{\"name\":\"../../evil\"}",
                          "{\"name\":\".hidden\"}",
                          "{\"shape\":{\"n_layers\":4294967300}}",
                          "{\"steps\":1e999}",
                          "{\"optimizer\":{\"adam_lr\":-0.1}}",
                          "{\"optimizer\":{\"muon_lr\":1e999}}",
                          "{\"range\":{\"divisor\":{\"wieght\":1}}}",
                          "{\"source_weights\":{\"a\":\"b\"}}",
                          "{\"source_weights\":{\"a\":-1}}",
                          "{\"shape\":{\"ngram_rows\":[0]}}",
                          "{\"shape\":{\"ngram_rows\":[1,1,1,1]}}",
                          "{\"polynomial\":{\"refit_fraction\":1}}",
                          "{\"polynomial\":{\"margin\":0.9}}",
                          "{\"polynomial\":{\"variance_ratio\":-1}}",
                          "{\"ngram_dropout\":1}",
                          "{\"optimizer\":{\"ngram_decay\":-1}}"})
    EXPECT_FALSE(ParseTrainConfig(bad).ok()) << bad;
  const auto unknown = ParseTrainConfig("{\"precision\":\"bf8\"}");
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.error().message.find("precision"), std::string::npos);
}

TEST(Optimizer, OrthogonalisesAndSchedules) {
  torch::manual_seed(1);
  for (const auto& shape : {std::vector<std::int64_t>{8, 8}, {6, 12}, {12, 6}}) {
    const auto s = torch::linalg_svdvals(Orthogonalise(torch::randn(shape, torch::kFloat64)));
    EXPECT_LT(s.max().item<double>(), 1.3);
    EXPECT_GT(s.max().item<double>(), 0.6);
  }
  OptimizerOptions options;
  options.warmup = 10;
  options.decay_fraction = 0.5;
  options.final_fraction = 0.1;
  EXPECT_DOUBLE_EQ(ScheduleFactor(options, 4, 100), 0.5);
  EXPECT_DOUBLE_EQ(ScheduleFactor(options, 40, 100), 1);
  EXPECT_NEAR(ScheduleFactor(options, 75, 100), 0.55, 1e-12);
}

}  // namespace
}  // namespace polyveil::train
