// What bounds may come from: values that no input outside its interval has touched; and what every
// step of a stranger's journey refuses.
#include <gtest/gtest.h>

#include <cmath>

#include "model/client/language_model.h"
#include "support/toy_training.h"
#include "train/convert.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

Tensor Row(std::vector<double> values) {  // one text, one value a position
  const auto count = static_cast<std::int64_t>(values.size());
  return torch::tensor(values, torch::kFloat64).view({1, count, 1});
}

std::vector<LayerPolynomials> OnOneToTwo() {
  const approx::Approximant p(1, 2, {1});
  return {LayerPolynomials{p, p, p, {}, {}, {}}};
}

bool Names(const Error& error, const std::string& part) {
  return error.message.find(part) != std::string::npos;
}

TEST(Observer, LeavesOutWhatAnInputOutsideHasTouched) {
  const auto fits = OnOneToTwo();
  Observer observer(&fits, true);
  const Recorder record = observer.NextBatch(1, 4);
  record("layer 0 / attention / input", Row({1, 2, 100, 3}));
  record("layer 0 / attention / variance", Row({1.5, 1.1, 7, 1.2}));
  record("layer 0 / attention / inverse root", Row({1, 2, 1e9, 1e8}));
  const auto heads = torch::tensor({1.0, 1.9, 5e5, 1e6, 1.5, 1.5, 9.0, 9.0}, torch::kFloat64);
  record("layer 0 / attention / divisor", heads.view({1, 2, 4}));
  record("layer 0 / attention / residual", Row({-3, 1, -1e30, 1e30}));
  const Observation seen = observer.Take();
  const auto hi = [&](const char* rest) {
    return seen.ranges.at(std::string("layer 0 / attention / ") + rest).hi;
  };
  EXPECT_EQ(hi("input"), 100);  // before anything was outside
  EXPECT_EQ(hi("variance"), 1.5);
  EXPECT_EQ(hi("inverse root"), 2);
  EXPECT_EQ(hi("divisor"), 1.9);
  EXPECT_EQ(seen.ranges.at("layer 0 / attention / residual").lo, -3);
  EXPECT_EQ(hi("residual"), 1);
  EXPECT_EQ(seen.inputs.at("layer 0 / attention / variance").hi, 7);
  EXPECT_EQ(seen.inputs.at("layer 0 / attention / divisor").hi, 1.9);
  EXPECT_EQ(seen.first.by_site.size(), 1u);  // the divisors outside follow from the variance
  EXPECT_EQ(seen.first.escapes, 1u);
  EXPECT_DOUBLE_EQ(seen.first.worst_ratio, 3.5);
  EXPECT_EQ(seen.first.positions, 4u);
  EXPECT_EQ(seen.out_of_range, 2u);
  EXPECT_EQ(seen.left_out, 2u);
  EXPECT_DOUBLE_EQ(seen.LeastMargin(fits), 2.0 / 7);
  EXPECT_EQ(seen.Sites(), "layer 0 / attention / variance (1, worst 3.5)");
  EXPECT_TRUE(seen.CheckFinite().ok());
}

TEST(Observer, EarlierPositionsReadLaterOnesInAnEncoder) {
  const auto fits = OnOneToTwo();
  Observer observer(&fits, false);
  const Recorder record = observer.NextBatch(2, 2);
  record("layer 0 / attention / variance",
         torch::tensor({1.5, 3.0, 1.0, 2.0}, torch::kFloat64).view({2, 2, 1}));
  record("layer 0 / attention / residual",
         torch::tensor({50.0, 60.0, 7.0, 8.0}, torch::kFloat64).view({2, 2, 1}));
  const Observation seen = observer.Take();
  EXPECT_EQ(seen.left_out, 2u);
  EXPECT_EQ(seen.ranges.at("layer 0 / attention / residual").hi, 8);
}

TEST(Observer, NanIsNamedUnlessAnInputOutsideExplainsIt) {
  const auto fits = OnOneToTwo();
  for (const double bad : {double{NAN}, double{INFINITY}}) {
    Observer observer(&fits, true);
    Recorder record = observer.NextBatch(1, 3);
    record("layer 0 / attention / variance", Row({1, 1, 1}));
    record("layer 0 / attention / powers", Row({1, bad, 1}).view({1, 1, 3, 1}));
    record("layer 0 / attention / divisor", Row({1, bad, 1}).view({1, 1, 3}));
    const Observation seen = observer.Take();
    const Status status = seen.CheckFinite();
    ASSERT_FALSE(status.ok());
    EXPECT_TRUE(Names(status.error(), "layer 0 / attention / powers")) << status.error().message;
    EXPECT_FALSE(CheckRanges(seen, {}, true).ok());
    // A sum multiplies later keys by zero: their overflow reaches positions before them.
    record = observer.NextBatch(1, 3);
    record("layer 0 / attention / variance", Row({1, 1, 9}));
    record("layer 0 / attention / powers", Row({bad, 2, 1}).view({1, 1, 3, 1}));
    const Observation explained = observer.Take();
    EXPECT_TRUE(explained.CheckFinite().ok());
    EXPECT_EQ(explained.left_out, 3u);
    EXPECT_EQ(explained.ranges.count("layer 0 / attention / powers"), 1u);
    EXPECT_EQ(explained.ranges.at("layer 0 / attention / powers").count, 0u);
  }
}

TEST(Servable, RefusesWhatNoProgramCanServeByThePlansReason) {
  TrainConfig config;
  EXPECT_TRUE(CheckServable(config).ok());
  const auto refuses = [](const TrainConfig& bad, const char* part) {
    const Status status = CheckServable(bad);
    ASSERT_FALSE(status.ok()) << part;
    EXPECT_TRUE(Names(status.error(), part)) << status.error().message;
  };
  TrainConfig wide = config;
  wide.shape.d_model = 96;
  refuses(wide, "d_head = 24: the block layout needs a power of two");
  wide.shape.d_model = 1 << 16;
  refuses(wide, "d_model = 65536 > 32768 slots");
  wide.attention = AttentionForm::kSoftmax;
  EXPECT_TRUE(CheckServable(wide).ok());  // a teacher
  TrainConfig hidden = config;
  hidden.shape.d_ff = 40000;
  refuses(hidden, "d_ff = 40000");
  hidden.shape.d_ff = 384;
  EXPECT_TRUE(CheckServable(hidden).ok());
  TrainConfig many = config;
  many.shape.context = 256;  // two ciphertexts of keys
  EXPECT_TRUE(CheckServable(many).ok());
}

class JourneyTest : public ToyTraining {
 protected:
  std::string Checkpoint(const std::string& run) const { return folder_ + "/" + run + "/last.pt"; }

  Result<ConvertResult> ConvertRun(const std::string& run, double margin = 1.3) const {
    ConvertRequest request{Checkpoint(run), folder_ + "/data", folder_, "converted", 2, {}};
    request.replace = true;
    request.options.margin = margin;
    return ConvertCheckpoint(request);
  }

  Result<ExportSummary> Export(const std::string& run, ExportOptions options = {}) const {
    options.parameters = "test12";
    return ExportBundle(Checkpoint(run), folder_ + "/data", folder_ + "/bundle", options);
  }

  // The model of a run with a divisor's interval that ends below what the text reads, at the same
  // polynomial inside.
  void Narrow(const std::string& run) const {
    auto loaded = LoadModel(Checkpoint(run)).value();
    const auto data = LoadDataset(folder_ + "/data").value();
    const SiteRanges ranges =
        ObserveRanges(*loaded.model, HeldoutBatches(data, 8, loaded.config.shape.context));
    approx::Approximant& p = (*loaded.model->polynomials)[1].divisor_inverse;
    p = approx::Interpolate([](double x) { return 1 / (x + 1e-3); }, p.a,
                            ranges.at("layer 1 / attention / divisor").hi / 1.05, 7);
    ASSERT_TRUE(SaveCheckpoint(Checkpoint(run), *loaded.model, nullptr, loaded.info).ok());
  }
};

TEST_F(JourneyTest, AShortRunBecomesABundleWithItsCertificate) {
  TrainConfig config = Tiny("parent");
  config.steps = 60;
  Run(config);
  for (const double margin : {1.02, 1.3}) {
    const auto converted = ConvertRun("parent", margin);
    ASSERT_TRUE(converted.ok()) << converted.error().message;
    EXPECT_EQ(converted->seen.out_of_range, 0u);
    EXPECT_GE(converted->least_margin, margin * (1 - 2e-3));
    const auto exported = Export("converted");
    ASSERT_TRUE(exported.ok()) << exported.error().message;
    const auto bundle = model::LoadLanguageModel(folder_ + "/bundle").value();
    ASSERT_TRUE(bundle.body.config.certificate.has_value());
    const model::Certificate& certificate = *bundle.body.config.certificate;
    EXPECT_EQ(certificate.heldout_out_of_range, 0u);
    EXPECT_GT(certificate.heldout_positions, 0u);
    EXPECT_EQ(certificate.left_out_positions, 0u);
    EXPECT_GE(certificate.least_margin, margin * (1 - 2e-3));
    EXPECT_GT(certificate.predicted_logit_error, 0);
    EXPECT_LT(certificate.predicted_logit_error, model::kLargestLogitError);
  }
}

TEST_F(JourneyTest, ExportRefusesInputsOutOfRangeOrLeavesThemOut) {
  TrainConfig config = Tiny("parent");
  config.steps = 60;
  Run(config);
  ASSERT_TRUE(ConvertRun("parent").ok());
  ASSERT_TRUE(Export("converted").ok());
  const double usual = model::LoadBodyBundle(folder_ + "/bundle")->config.residual_bound;
  std::filesystem::remove_all(folder_ + "/bundle");
  Narrow("converted");
  const auto refused = Export("converted");
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(Names(refused.error(), "layer 1 / attention / divisor")) << refused.error().message;
  EXPECT_TRUE(Names(refused.error(), "out of range"));
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/bundle"));
  const auto written = Export("converted", {.leave_out = true, .largest_error = 1e9});
  ASSERT_TRUE(written.ok()) << written.error().message;
  EXPECT_GT(written->certificate.left_out_positions, 0u);
  EXPECT_LT(written->certificate.least_margin, 1);
  EXPECT_GT(written->certificate.worst_outside, 1);
  EXPECT_LE(model::LoadBodyBundle(folder_ + "/bundle")->config.residual_bound, 1.02 * usual);
}

TEST_F(JourneyTest, ExportRefusesALargePredictedError) {
  Run(Tiny("parent"));
  ASSERT_TRUE(ConvertRun("parent").ok());
  const auto refused = Export("converted", {.largest_error = 1e-12});
  ASSERT_FALSE(refused.ok());
  EXPECT_TRUE(Names(refused.error(), "predicted error")) << refused.error().message;
  EXPECT_FALSE(std::filesystem::exists(folder_ + "/bundle"));
}

TEST_F(JourneyTest, ConvertNamesTheSiteThatNoPolynomialServes) {
  Run(Tiny("parent"));
  auto loaded = LoadModel(Checkpoint("parent")).value();
  {
    torch::NoGradGuard no_grad;
    loaded.model->Get("layers.1.wqkv").mul_(40);  // scores, powers and divisors of any size
  }
  ASSERT_TRUE(SaveCheckpoint(Checkpoint("parent"), *loaded.model, nullptr, loaded.info).ok());
  const auto converted = ConvertRun("parent");
  ASSERT_FALSE(converted.ok());
  EXPECT_TRUE(Names(converted.error(), "layer 1 / attention / divisor"))
      << converted.error().message;
  EXPECT_TRUE(Names(converted.error(), "train longer")) << converted.error().message;
  EXPECT_FALSE(std::filesystem::exists(Checkpoint("converted")));
}

TEST_F(JourneyTest, NanIsAFailureThatNamesItsSite) {
  TrainConfig config = Tiny("diverges");
  config.optimizer.adam_lr = 1e25;
  config.optimizer.grad_clip = 1e30;
  config.optimizer.warmup = 0;
  const auto trained = RunTrain(config, {folder_ + "/data", folder_, false, 0, {}});
  ASSERT_FALSE(trained.ok());
  EXPECT_TRUE(Names(trained.error(), "layer ") || Names(trained.error(), "gradient"))
      << trained.error().message;
  Run(Tiny("parent"));
  auto loaded = LoadModel(Checkpoint("parent")).value();
  {
    torch::NoGradGuard no_grad;
    loaded.model->Get("layers.1.w12").fill_(NAN);
  }
  ASSERT_TRUE(SaveCheckpoint(Checkpoint("parent"), *loaded.model, nullptr, loaded.info).ok());
  const auto data = LoadDataset(folder_ + "/data").value();
  const Status evaluated = CheckEvaluation(Evaluate(*loaded.model, data), *loaded.model, data);
  ASSERT_FALSE(evaluated.ok());
  EXPECT_TRUE(Names(evaluated.error(), "layer 1 / feed-forward / hidden"))
      << evaluated.error().message;
  const auto converted = ConvertRun("parent");
  ASSERT_FALSE(converted.ok());
  EXPECT_TRUE(Names(converted.error(), "layer 1 / feed-forward / hidden"))
      << converted.error().message;
}

}  // namespace
}  // namespace polyveil::train
