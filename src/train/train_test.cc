// Whole runs on a tiny model: determinism, resumption, and the exported form.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "model/client/language_model.h"
#include "train/export.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

class TrainTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "polyveil-train-" + std::to_string(::getpid());
    std::filesystem::create_directories(folder_);
    Corpus corpus;
    for (int i = 0; i < 40; ++i) {
      std::string text;
      for (int k = 0; k < 30; ++k)
        text += fmt::format("the {} {} the {}. ", Word(i + k), k % 2 ? "saw" : "met", Word(i * k));
      corpus.train.push_back({"toy", std::to_string(i), text + "\n"});
    }
    corpus.heldout = {corpus.train[3]};
    std::vector<std::string> texts;
    for (const Document& d : corpus.train) texts.push_back(d.text);
    tokenizer_ = model::Tokenizer::Train(texts, 280).value().Format();
    const auto tokenizer = model::Tokenizer::Parse(tokenizer_).value();
    ASSERT_TRUE(
        SaveDataset(Tokenize(corpus, tokenizer), tokenizer, corpus, folder_ + "/data").ok());
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static const char* Word(int i) {
    static const char* kWords[] = {"cat", "dog", "fox", "hen", "owl"};
    return kWords[i % 5];
  }

  TrainConfig Tiny(const std::string& name) const {
    TrainConfig config;
    config.name = name;
    config.threads = 1;
    config.shape = {2, 16, 2, 24, model::FeedForwardKind::kBilinear, 280, 24, 4, 1e-3, 1e-5};
    config.batch = 8;
    config.steps = 12;
    config.optimizer.warmup = 2;
    config.range = {{0.3, 0.01, 3}, {0.3, 0.01, 2.5}, {0.1, 0, 6}, {}};
    config.checkpoint_every = 4;
    config.log_every = 4;
    return config;
  }

  TrainSummary Run(const TrainConfig& config, bool resume = false, std::int64_t stop = 0) const {
    auto summary = RunTrain(config, {folder_ + "/data", folder_, resume, stop, {}});
    EXPECT_TRUE(summary.ok()) << summary.error().message;
    return summary.ok() ? *summary : TrainSummary{};
  }

  void ExpectEqualWeights(const std::string& x, const std::string& y) const {
    const auto a = LoadModel(folder_ + "/" + x + "/last.pt").value();
    const auto b = LoadModel(folder_ + "/" + y + "/last.pt").value();
    for (std::size_t i = 0; i < a.model->parameters().size(); ++i)
      EXPECT_TRUE(torch::equal(a.model->parameters()[i].value, b.model->parameters()[i].value))
          << a.model->parameters()[i].name;
  }

  // Config, digest and tensors as the exporter writes them, but in F64, so that only the forms
  // differ.
  void ExpectReferenceEquals(const Transformer& trained, model::Evaluation evaluation) const {
    const auto data = LoadDataset(folder_ + "/data").value();
    const Batch batch = DrawBatch(data, {}, 3, trained.shape().context, 99, 1);
    const auto ranges = ObserveRanges(trained, {batch});
    Transformer exportable = trained;  // shares the weights
    if (!exportable.polynomials) {
      const LayerPolynomials dummy{{0.1, 1, {1}}, {0.1, 1, {1}}, {0.1, 1, {1}}, {}};
      exportable.polynomials.emplace(static_cast<std::size_t>(trained.shape().n_layers), dummy);
    }
    const std::string json = model::FormatModelConfig(MakeModelConfig(exportable, ranges, 1.25));
    const auto bytes = model::FormatSafetensors(FoldTensors(trained), model::TensorType::kF64);
    const auto body = model::ParseBodyBundle(json, bytes).value();
    const auto client = model::ParseClientBundle(json, bytes).value();
    model::ReferenceLanguageModel reference(body, client, evaluation);
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

  std::string folder_, tokenizer_;
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

TEST_F(TrainTest, RefusesToResumeAnotherConfig) {
  Run(Tiny("a"), false, 4);
  TrainConfig other = Tiny("a");
  other.seed = 9;
  EXPECT_FALSE(RunTrain(other, {folder_ + "/data", folder_, true, 0, {}}).ok());
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
  ASSERT_TRUE(ExportBundle(folder_ + "/poly/last.pt", folder_ + "/data", out).ok());
  const auto bundle = model::LoadLanguageModel(out).value();
  EXPECT_EQ(bundle.tokenizer.Format(), tokenizer_);
  model::ReferenceLanguageModel reference(bundle.body, bundle.client);
  const auto text = model::Generate(reference, bundle.tokenizer.Encode("the cat"), 8, {});
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text->size(), 8u);
}

TEST(TrainConfig, RoundTripsAndRefusesUnknownFields) {
  TrainConfig config;
  config.polynomial.emplace();
  config.source_weights = {{"x", 2}};
  const std::string text = FormatTrainConfig(config);
  EXPECT_EQ(FormatTrainConfig(ParseTrainConfig(text).value()), text);
  for (const char* bad :
       {"", "[]", "{\"stepz\":1}", "{\"steps\":\"x\"}", "{\"attention\":\"none\"}",
        "{\"shape\":{\"d_model\":10,\"n_heads\":4}}", "{\"shape\":{\"power\":3}}", "{\"batch\":0}",
        "{\"range\":{\"divisor\":{\"wieght\":1}}}", "{\"source_weights\":{\"a\":\"b\"}}"})
    EXPECT_FALSE(ParseTrainConfig(bad).ok()) << bad;
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
