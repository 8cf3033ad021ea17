// A whole conversion of a small random decoder and encoder; interrupted and resumed.
#include "train/distil/run.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "model/float32/reference.h"
#include "train/archive.h"
#include "train/distil/toy.h"

namespace polyveil::train {
namespace {

DistilConfig ToyConfig(bool decoder) {
  const std::string text = R"({"name": "toy", "threads": 1, "context": 16, "batch": 3,
    "start_batches": 2, "log_every": 2, "eval_every": 3, "checkpoint_every": 3,
    "evaluation": {"heldout_rows": 4}, "stages": [
      {"name": "match", "kind": "match", "steps": 8, "rate": 1e-3, "attention_only": true,
       "range": {"divisor": {"weight": 0.1}}},
      {"name": "distil", "steps": 7, "rate": 1e-3, "hidden_weight": 1,
       "range": {"divisor": {"weight": 0.1}, "variance": {"weight": 0.1}}},
      {"name": "polynomial", "steps": 6, "rate": 1e-3, "hidden_weight": 1,
       "fit": {"calibration_batches": 4, "margin": 2, "clamp_fraction": 0.5}}]})";
  DistilConfig config = ParseDistilConfig(text).value();
  if (decoder) {
    config.prefix = {1, 9};
    config.sources.push_back({"own", SourceKind::kSampled, "", 0, 0, 6, {1, 1.5}, 1});
    config.sampled_rows = 4;
    config.stages[1].source_weights = {{"own", 1}};
  }
  return config;
}

std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

struct ToyRun {
  model::TemporaryFolder folder;
  DistilRunOptions options;

  explicit ToyRun(const std::string& model) {
    std::filesystem::create_directories(folder / "model");
    WriteToyModel(model, folder / "model");
    WriteToyStories(folder / "stories");
    options.model = folder / "model";
    options.stories = folder / "stories";
    options.out = folder / "out";
  }
  nlohmann::json Report() const {
    return nlohmann::json::parse(ReadFile(options.out + "/report.json"));
  }
};

// The first and the last loss of a stage's training lines.
std::pair<double, double> Losses(const std::string& curve, const std::string& stage) {
  std::istringstream in(curve);
  std::vector<double> losses;
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line);
    if (json["stage"] == stage && json["what"] == "train") losses.push_back(json["loss"]);
  }
  return {losses.front(), losses.back()};
}

TEST(DistilRun, EveryStageOfADecoderIsAFolderAndTheLossFalls) {
  ToyRun run("llama");
  const Status status = RunDistil(ToyConfig(true), run.options);
  ASSERT_TRUE(status.ok()) << status.error().message;
  const auto report = run.Report();
  ASSERT_EQ(report["stages"].size(), 5u);
  for (const char* name : {"start", "match", "distil", "polynomial"}) {
    const auto checkpoint = model::LoadCheckpoint(run.options.out + "/" + name);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
    EXPECT_EQ((*checkpoint)->forms->prefix, (std::vector<int>{1, 9}));
    EXPECT_EQ((*checkpoint)->forms->stage == model::FormStage::kPolynomial,
              std::string(name) == "polynomial");
  }
  const auto [first, last] = Losses(ReadFile(run.options.out + "/curve.jsonl"), "match");
  EXPECT_LT(last, first);
  EXPECT_TRUE(report["stages"][4]["effect"]["stories"].contains("escapes"));
  EXPECT_GT(report["stages"][4]["tokens"].get<int>(), 0);
}

TEST(DistilRun, AnEncoderKeepsItsSentences) {
  ToyRun run("bert");
  DistilConfig config = ToyConfig(false);
  config.stages[1].steps = 30;
  config.stages[1].pooled_weight = 1;
  const Status status = RunDistil(config, run.options);
  ASSERT_TRUE(status.ok()) << status.error().message;
  const nlohmann::json report = run.Report(), scores = report["stages"][3]["scores"];
  EXPECT_GT(scores["mean_cosine"].get<double>(), 0.9);
  EXPECT_GT(scores["pair_rank_correlation"].get<double>(), 0.5);
  EXPECT_NEAR(report["stages"][0]["scores"]["mean_cosine"].get<double>(), 1, 1e-5);
}

TEST(DistilRun, InterruptedAndResumedItEndsTheSame) {
  ToyRun whole("llama"), parts("llama");
  ASSERT_TRUE(RunDistil(ToyConfig(true), whole.options).ok());
  parts.options.resume = true;
  for (const std::int64_t stop : {2, 9, 17, 0}) {  // inside the stages, and to the end
    parts.options.stop_after = stop;
    const Status status = RunDistil(ToyConfig(true), parts.options);
    ASSERT_TRUE(status.ok()) << status.error().message;
  }
  for (const char* name : {"match", "polynomial"})
    for (const char* file : {"model.safetensors", "forms.json"}) {
      const std::string path = std::string("/") + name + "/" + file;
      EXPECT_EQ(ReadFile(parts.options.out + path), ReadFile(whole.options.out + path)) << path;
    }
  DistilConfig longer = ToyConfig(true);
  longer.stages.push_back(longer.stages[1]);
  longer.stages.back().name = "more";
  ASSERT_TRUE(RunDistil(longer, parts.options).ok());
  EXPECT_EQ(parts.Report()["stages"].back()["stage"], "more");
  DistilConfig other = ToyConfig(true);
  other.stages[0].rate = 1;
  const Status refused = RunDistil(other, parts.options);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("another config"), std::string::npos);
}

DistilConfig AdapterConfig() {
  DistilConfig config = ToyConfig(true);
  config.adapter.emplace();
  config.adapter->rank = 2;
  for (DistilStage& stage : config.stages) stage.rate = 3e-3;
  return config;
}

// The stages, a run in parts, a longer run of the finished one; the base's files stay as they are.
TEST(DistilRun, AnAdapterIsTrainedBesideFrozenWeights) {
  ToyRun whole("llama"), parts("llama");
  const std::string base = ReadFile(whole.options.model + "/model.safetensors");
  for (ToyRun* run : {&whole, &parts})
    for (const std::int64_t stop :
         run == &whole ? std::vector<std::int64_t>{0} : std::vector<std::int64_t>{2, 9, 17, 0}) {
      run->options.resume = run == &parts;
      run->options.stop_after = stop;
      const Status status = RunDistil(AdapterConfig(), run->options);
      ASSERT_TRUE(status.ok()) << status.error().message;
    }
  for (const char* name : {"start", "match", "distil", "polynomial"}) {
    EXPECT_TRUE(model::LoadCheckpoint(whole.options.out + "/" + name).ok());
    EXPECT_FALSE(std::filesystem::exists(whole.options.out + "/" + name + "/model.safetensors"));
    for (const char* file : {"adapter.safetensors", "forms.json"}) {
      const std::string path = std::string("/") + name + "/" + file;
      EXPECT_EQ(ReadFile(parts.options.out + path), ReadFile(whole.options.out + path)) << path;
    }
  }
  EXPECT_EQ(ReadFile(whole.options.model + "/model.safetensors"), base);
  const auto [first, last] = Losses(ReadFile(whole.options.out + "/curve.jsonl"), "match");
  EXPECT_LT(last, first);
  const auto none =
      LoadArchive(whole.options.out + "/last.pt", {{"model.layers.1.qkv", torch::zeros({1})}});
  EXPECT_FALSE(none.ok()) << "frozen weights in a checkpoint";

  DistilConfig longer = AdapterConfig();
  longer.stages.push_back(longer.stages[1]);
  longer.stages.back().name = "more";
  whole.options.resume = true;
  ASSERT_TRUE(RunDistil(longer, whole.options).ok());
  EXPECT_EQ(whole.Report()["stages"].back()["stage"], "more");
}

TEST(DistilRun, ItDoesNotGoOnBesideAnotherBase) {
  for (DistilConfig config : {AdapterConfig(), ToyConfig(true)}) {
    ToyRun run("llama");
    config.stages.resize(1);
    run.options.stop_after = 2;
    ASSERT_TRUE(RunDistil(config, run.options).ok());
    run.options.resume = true;
    const std::string sampled = ReadFile(run.options.out + "/sampled-own.bin");
    for (const auto& vectors : model::ReadVectors("logits.json"))
      if (vectors["name"] == "llama")
        model::WriteModel(vectors, run.options.model, model::ElementType::kF16);
    const Status refused = RunDistil(config, run.options);
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("base of SHA-256"), std::string::npos);
    EXPECT_EQ(ReadFile(run.options.out + "/sampled-own.bin"), sampled);
  }
}

// What the original wrote is kept for as long as it would write the same.
TEST(DistilRun, StaleSampledTextIsSampledAnew) {
  ToyRun run("llama");
  DistilConfig config = ToyConfig(true);
  config.stages.resize(1);
  run.options.replace = true;
  run.options.stop_after = 1;
  const std::string file = run.options.out + "/sampled-own.bin";
  const auto sampled = [&](std::uint64_t seed) {
    config.seed = seed;
    const Status status = RunDistil(config, run.options);
    EXPECT_TRUE(status.ok()) << status.error().message;
    return ReadFile(file);
  };
  const std::string first = sampled(1);
  EXPECT_NE(sampled(2), first);
  EXPECT_EQ(sampled(1), first);
  const auto written = std::filesystem::last_write_time(file);
  EXPECT_EQ(sampled(1), first);
  EXPECT_EQ(std::filesystem::last_write_time(file), written) << "kept text is sampled again";
  model::WriteBytes(file, std::string(first.size(), '\0'));  // tokens, but not these
  EXPECT_EQ(sampled(1), first);
  std::filesystem::remove(run.options.out + "/sampled-own.sha256");
  model::WriteBytes(file, std::string(first.size(), '\0'));
  EXPECT_EQ(sampled(1), first);
}

// A search behind a polynomial stage, its finds among the rows of the next one,
// in parts too.
TEST(DistilRun, FindsOfASearchAreTrainedOn) {
  DistilConfig config = AdapterConfig();
  config.sources.push_back({"hard", SourceKind::kHard, "", 0.5});
  config.stages.erase(config.stages.begin(), config.stages.begin() + 2);
  config.stages[0].fit->degrees.emplace();  // hard inputs' ranges are wide before any training
  config.stages[0].search = DistilSearch{40, 0.5, 3, 4};
  config.stages.push_back(config.stages[0]);
  config.stages[1].name = "again";
  config.stages[1].search->seed = 4;
  ToyRun whole("llama"), parts("llama");
  const Status status = RunDistil(config, whole.options);
  ASSERT_TRUE(status.ok()) << status.error().message;
  parts.options.resume = true;
  for (const std::int64_t stop : {2, 8, 0}) {
    parts.options.stop_after = stop;
    ASSERT_TRUE(RunDistil(config, parts.options).ok());
  }
  for (const char* file :
       {"/polynomial.found.bin", "/again.found.bin", "/again/adapter.safetensors"})
    EXPECT_EQ(ReadFile(whole.options.out + file), ReadFile(parts.options.out + file)) << file;
  const auto stages = whole.Report()["stages"];
  EXPECT_EQ(stages[2]["search"]["candidates"], 40);
  EXPECT_EQ(stages[2]["search"]["positions"], 40 * 16);
  EXPECT_GT(stages[3]["search"]["worst_ratio"].get<double>(), 0);
  const auto bytes = ReadFile(whole.options.out + "/polynomial.found.bin");
  EXPECT_EQ(bytes.size() % (sizeof(std::int32_t) * 15),
            0u);  // 16 + 1 tokens less the prefix
}

TEST(DistilRun, LowDegreesByConfig) {
  ToyRun run("llama");
  DistilConfig config = AdapterConfig();
  config.precision = Precision::kBf16;
  config.stages.erase(config.stages.begin(), config.stages.begin() + 2);
  config.stages[0].fit->degrees.emplace();
  config.stages[0].fit->degrees->norm1_degree = 3;
  config.stages[0].fit->degrees->activation_degree = 5;
  config.stages[0].fit->degrees->divisor_from_zero = true;
  config.stages[0].range = {{0.1, 0.1, 2, true}, {0.1}, {}, {}, 1.3};
  config.attention_eps = 0.2;
  const Status status = RunDistil(config, run.options);
  ASSERT_TRUE(status.ok()) << status.error().message;
  const auto forms = model::LoadCheckpoint(run.options.out + "/polynomial").value()->forms;
  EXPECT_EQ(forms->layers[1].norm1.degree(), 3);
  EXPECT_EQ(forms->layers[1].activation->degree(), 5);
  EXPECT_EQ(forms->layers[1].divisor_inverse.degree(), 7);
  EXPECT_EQ(forms->layers[1].divisor_inverse.a, 0);  // no input can be below
  EXPECT_NEAR(forms->layers[1].divisor_inverse(0), 5, 2.5);
}

// 0 of a config: at the end only. The names of the tensors are those of the first checkpoints.
TEST(DistilRun, IntervalsMayBeNone) {
  ToyRun run("llama");
  DistilConfig config = ToyConfig(true);
  static_cast<Intervals&>(config) = {0, 0, 0};
  config.stages.resize(1);
  const Status status = RunDistil(config, run.options);
  ASSERT_TRUE(status.ok()) << status.error().message;
  const auto [first, last] = Losses(ReadFile(run.options.out + "/curve.jsonl"), "match");
  EXPECT_EQ(first, last);
  const auto a = model::LoadCheckpoint(run.options.model).value()->architecture;
  const auto like = [](std::int64_t rows, std::int64_t cols) { return torch::zeros({rows, cols}); };
  const auto read = LoadArchive(run.options.out + "/last.pt",
                                {{"model.layers.1.qkv", like(a.qkv_width(), a.d_model)},
                                 {"model.layers.1.out", like(a.d_model, a.q_width())},
                                 {"model.layers.1.in", like(2 * a.d_ff, a.d_model)},
                                 {"model.layers.1.down", like(a.d_model, a.d_ff)}});
  EXPECT_TRUE(read.ok()) << read.error().message;
}

TEST(DistilRun, ConfigsAreReadAsTheyAreWrittenAndRefusedByField) {
  const DistilConfig config = ToyConfig(true);
  const std::string text = FormatDistilConfig(config);
  EXPECT_EQ(FormatDistilConfig(ParseDistilConfig(text).value()), text);
  const std::pair<const char*, const char*> wrong[] = {
      {"{\"contxt\": 3}", "contxt"},
      {"{\"power\": 3}", "power"},
      {"{\"context\": 2}", "context"},
      {"{\"stages\": 3}", "stages"},
      {"{\"stages\": [{\"kind\": \"copy\"}]}", "kind"},
      {"{\"stages\": [{\"name\": \"a/b\"}]}", "name"},
      {"{\"stages\": [{\"name\": \"a\", \"source_weights\": {\"b\": 1}}]}", "source_weights"},
      {"{\"stages\": [{\"name\": \"a\", \"pooled_weight\": -1}]}", "pooled_weight"},
      {"{\"stages\": [{\"name\": \"a\", \"search\": {\"inputs\": 0}}]}", "search.inputs"},
      {"{\"stages\": [{\"name\": \"a\", \"source_weights\": {\"stories\": 0}}]}", "weight is 0"},
      {"{\"sources\": [{\"name\": \"a\", \"kind\": \"web\"}]}", "kind"},
      {"{\"sources\": [{\"name\": \"a\"}, {\"name\": \"a\"}]}", "twice"},
      {"{\"sources\": [{\"name\": \"a\", \"kind\": \"sampled\"}]}", "sequences"},
      {"{\"sources\": [{\"name\": \"a\", \"kind\": \"hard\"}]}", "no text"},
      {"{\"sources\": [{\"name\": \"a\", \"chat\": 2}]}", "chat"},
      {"{\"sources\": [{\"name\": \"a\", \"wieght\": 2}]}", "wieght"},
      {"{\"heldout\": [{\"name\": \"a\", \"kind\": \"hard\"}]}", "heldout[0].kind"},
      {"{\"stages\": [{\"name\": \"a\", \"fit\": {\"margin\": 0.5}}]}", "margin"},
      {"{\"stages\": [{\"name\": \"a\", \"fit\": {\"clamp_fraction\": 1}}]}", "clamp_fraction"},
      {"{\"stages\": [{\"name\": \"a\", \"fit\": 3}]}", "fit"},
      {"{\"stages\": [{\"name\": \"a\", \"fit\": {\"degrees\": {\"norm1\": 0}}}]}", "norm1"},
      {"{\"stages\": [{\"name\": \"a\", \"fit\": {\"degrees\": {\"norm3\": 7}}}]}", "norm3"},
      {"{\"adapter\": {\"rank\": 0}}", "adapter.rank"},
      {"{\"adapter\": {\"rnk\": 4}}", "rnk"},
      {"{\"adapter\": {\"sites\": [\"q\", \"w\"]}}", "sites"},
      {"{\"adapter\": {\"sites\": []}}", "sites"},
      {"{\"adapter\": {\"alpha\": -1}}", "alpha"},
      {"{\"precision\": \"fp8\"}", "precision"},
      {"{\"stages\": [3]}", "stages[0]"}};
  for (const auto& [json, field] : wrong) {
    const auto result = ParseDistilConfig(json);
    ASSERT_FALSE(result.ok()) << json;
    EXPECT_NE(result.error().message.find(field), std::string::npos) << result.error().message;
  }
  ToyRun encoder("bert");
  DistilConfig prefixed = ToyConfig(false);
  prefixed.prefix = {1};
  EXPECT_FALSE(RunDistil(prefixed, encoder.options).ok());
}

}  // namespace
}  // namespace polyveil::train
