// Tasks that can be solved from the context, probes on models whose attention is known, and a study
// of seconds from end to end.
#include "train/study.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <map>
#include <set>

#include "support/toy_training.h"
#include "train/minimal_pairs.h"
#include "train/study_estimate.h"
#include "train/study_probes.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;

TEST(StudyTasks, AreReproducibleAndOfTheirLength) {
  for (const Task task : kTasks) {
    std::set<std::vector<std::int32_t>> seen;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const TaskSequence a = MakeTask(task, 50, {}, seed), b = MakeTask(task, 50, {}, seed);
      EXPECT_EQ(a.tokens, b.tokens);
      EXPECT_EQ(a.tokens.size(), 50u);
      EXPECT_EQ(a.predictable.size(), 50u);
      EXPECT_FALSE(a.predictable[0]);
      seen.insert(a.tokens);
    }
    EXPECT_EQ(seen.size(), 20u) << TaskName(task);
  }
}

// What the rule of a task says about position t, or -1.
std::int32_t Solve(Task task, const std::vector<std::int32_t>& x, std::size_t t) {
  if (task == Task::kCopy) return x[t - (x.size() - 1) / 2 - 1];
  const std::size_t back = task == Task::kKeyValue ? 2 : 1;  // key : value
  std::map<std::int32_t, int> votes;
  for (std::size_t i = back; i < t; ++i)
    if (x[i - back] == x[t - back] && (back == 1 || x[i - 1] == ':')) ++votes[x[i]];
  std::int32_t best = -1;
  for (const auto& [token, count] : votes)
    if (best < 0 || count > votes[best]) best = token;
  return best;
}

TEST(StudyTasks, PredictablePositionsFollowFromTheContext) {
  for (const Task task : kTasks) {
    int right = 0, asked = 0;
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      const TaskSequence s = MakeTask(task, 129, {}, seed);
      for (std::size_t t = 1; t < s.tokens.size(); ++t) {
        if (!s.predictable[t]) continue;
        ++asked;
        right += Solve(task, s.tokens, t) == s.tokens[t];
      }
    }
    EXPECT_GT(asked, 1000) << TaskName(task);
    const double share = static_cast<double>(right) / asked;
    if (task == Task::kCopy || task == Task::kKeyValue) {
      EXPECT_EQ(right, asked) << TaskName(task);
    } else {
      // Counting neighbours errs where jumps or rare successors outvote the rule.
      EXPECT_GT(share, 0.8) << TaskName(task);
      EXPECT_LE(share, 1.0);
    }
  }
}

Shape SmallShape() {
  Shape shape{2, 16, 2, 24, model::FeedForwardKind::kBilinear, 280, 24, 4, 1e-3, 1e-5};
  return shape;
}

// Zero queries: every score is the shift, so attention is uniform over the keys seen.
TEST(StudyProbes, UniformAttentionIsSeenAsUniform) {
  Transformer model(SmallShape(), AttentionForm::kPowerMean, torch::kFloat64, 3);
  torch::NoGradGuard no_grad;
  for (int layer = 0; layer < 2; ++layer) {
    torch::Tensor queries = model.Get(fmt::format("layers.{}.wqkv", layer)).narrow(0, 0, 16);
    queries.zero_();
  }
  torch::Generator random = at::make_generator<at::CPUGeneratorImpl>(1);
  const torch::Tensor inputs =
      torch::randint(0, 280, {4, 24}, random, torch::TensorOptions().dtype(torch::kInt64));
  const std::vector<Batch> text = {{inputs, inputs}};
  const AttentionStatistics s = MeasureAttention(model, text, {0, 32});
  ASSERT_EQ(s.heads.size(), 4u);
  double inverse_keys = 0, distance = 0, induction = 0;
  for (int i = 8; i < 24; ++i) inverse_keys += 1.0 / (i + 1) / 16, distance += i / 2.0 / 16;
  for (int i = 12; i < 24; ++i) induction += 1.0 / (i + 1) / 12;
  for (const HeadStatistics& head : s.heads) {
    EXPECT_NEAR(head.entropy, 1, 1e-9);
    EXPECT_NEAR(head.sparsity, 0, 1e-12);
    EXPECT_NEAR(head.distance, distance, 1e-9);
    EXPECT_NEAR(head.diagonal, inverse_keys, 1e-9);
    EXPECT_NEAR(head.previous, inverse_keys, 1e-9);
    EXPECT_NEAR(head.induction, induction, 1e-9);
  }
  const RangeStatistics ranges = MeasureRanges(model, text);
  EXPECT_NEAR(ranges.divisor_ratio, 1, 1e-9);
  EXPECT_NEAR(ranges.largest_score, 2, 1e-9);
  // A scale of zero queries changes nothing, and leaves the weights as they were.
  const auto nats = NatsByScoreScale(model, text, {0.5, 1, 2});
  EXPECT_NEAR(nats[0], nats[2], 1e-12);
}

TEST(StudyProbes, NatsByPositionAverageToTheWhole) {
  Transformer model(SmallShape(), AttentionForm::kSoftmax, torch::kFloat64, 3);
  torch::Generator random = at::make_generator<at::CPUGeneratorImpl>(1);
  const torch::Tensor inputs =
      torch::randint(0, 280, {4, 24}, random, torch::TensorOptions().dtype(torch::kInt64));
  const std::vector<Batch> text = {{inputs, inputs.roll(1, 1)}};
  const auto by_position = NatsByPosition(model, text);
  ASSERT_EQ(by_position.size(), 3u);  // 0..7, 8..15, 16..23
  const double whole = (8 * by_position[0] + 8 * by_position[1] + 8 * by_position[2]) / 24;
  EXPECT_NEAR(whole, NatsByScoreScale(model, text, {1})[0], 1e-9);
}

using MinimalPairsTest = ToyTraining;

TEST_F(MinimalPairsTest, AreJudgedByTheSumsOfLogProbabilities) {
  const std::string folder = folder_ + "/pairs";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/b.jsonl")
      << R"({"good": "the cat saw", "bad": "the cat saw the dog. the"})"
      << "\n\n"
      << R"({"good": "owl", "bad": "owl"})"
      << "\n"
      << R"({"good": "never", "bad": "read"})"
      << "\n";
  std::ofstream(folder + "/a.jsonl") << R"({"good": "the hen met the fox", "bad": "hen the"})";
  const auto sets = LoadPairSets(folder, 2).value();
  ASSERT_EQ(sets.size(), 2u);
  EXPECT_EQ(sets[0].name, "a");
  ASSERT_EQ(sets[1].pairs.size(), 2u);
  const auto tokenizer = model::Tokenizer::Parse(tokenizer_).value();
  const Transformer model(Tiny("").shape, AttentionForm::kPowerMean, torch::kFloat64, 3);
  const auto sum = [&](const std::string& text) {
    std::vector<std::int64_t> tokens{model::Tokenizer::kEnd};
    for (const auto token : tokenizer.Encode(text)) tokens.push_back(token);
    const torch::Tensor logits = model.Logits(torch::tensor(tokens).unsqueeze(0))[0].log_softmax(1);
    double out = 0;
    for (std::size_t t = 1; t < tokens.size(); ++t)
      out += logits[static_cast<std::int64_t>(t) - 1][tokens[t]].item<double>();
    return out;
  };
  for (const PairSet& set : sets) {
    double right = 0;
    for (const auto& [good, bad] : set.pairs) right += sum(good) > sum(bad);
    const double count = static_cast<double>(set.pairs.size());
    EXPECT_EQ(PairAccuracy(model, tokenizer, set), right / count) << set.name;
  }
  EXPECT_EQ(PairAccuracy(model, tokenizer, {"equal", {{"owl", "owl"}}}), 0);
}

TEST_F(MinimalPairsTest, BrokenFilesAreNamed) {
  const std::string folder = folder_ + "/pairs";
  EXPECT_FALSE(LoadPairSets(folder, 2).ok());
  std::filesystem::create_directories(folder);
  for (const char* line : {"{", "[]", R"({"good": "a"})", R"({"good": 1, "bad": "b"})"}) {
    std::ofstream(folder + "/x.jsonl") << R"({"good": "a", "bad": "b"})"
                                       << "\n"
                                       << line << "\n";
    const auto sets = LoadPairSets(folder, 5);
    ASSERT_FALSE(sets.ok()) << line;
    EXPECT_NE(sets.error().message.find("line 2"), std::string::npos) << sets.error().message;
  }
}

class StudyTest : public ToyTraining {
 protected:
  std::string Config() const {
    Json base = Json::parse(FormatTrainConfig(Tiny("base")));
    base["steps"] = 40;
    return Json({{"name", "toy"},
                 {"seeds", {1, 2}},
                 {"budgets", {0.2}},
                 {"first_symbol", 0},
                 {"symbols", 32},
                 {"task_sequences", 4},
                 {"base", base},
                 {"polynomial",
                  {{"steps", 4},
                   {"polynomial",
                    {{"margin", 1.4}, {"calibration_batches", 4}, {"random_rows", 0.2}}}}},
                 {"variants",
                  {{{"name", "softmax"}, {"patch", {{"attention", "softmax"}}}},
                   {{"name", "power"}, {"convert", true}, {"polynomial", Json::object()}},
                   {{"name", "degree-3"},
                    {"group", "degrees"},
                    {"behind", "power"},
                    {"seeds", {2}},
                    {"polynomial",
                     {{"polynomial", {{"norm1_degree", 3}, {"clamp_fraction", 0.9}}}}}},
                   {{"name", "p2"},
                    {"group", "p"},
                    {"seeds", {1}},
                    {"patch", {{"shape", {{"power", 2}}}}}}}},
                 {"quick", {{"base", {{"steps", 6}}}}}})
        .dump();
  }
};

TEST_F(StudyTest, TrainsComparesAndGoesOnWhereItStopped) {
  const StudyConfig study = ParseStudyConfig(Config(), true).value();
  EXPECT_EQ(RunConfigOf(study, study.variants[0], 7)->steps, 6);
  EXPECT_EQ(RunConfigOf(study, study.variants[0], 7)->name, "softmax-s7");
  const StudyEstimate estimate = EstimateStudy(study, 1000).value();
  EXPECT_GT(estimate.training_hours, 0);
  EXPECT_GT(estimate.analysis_hours, 0);
  int trained = 0;
  const std::string pairs = folder_ + "/pairs";
  std::filesystem::create_directories(pairs);
  std::ofstream(pairs + "/order.jsonl") << R"({"good": "the cat met", "bad": "cat the met"})"
                                        << "\n";
  const StudyOptions options{
      folder_ + "/data", folder_ + "/study", pairs,
      [&](const std::string& line) { trained += line.find("held-out") != std::string::npos; }};
  const auto report = RunStudy(study, options);
  ASSERT_TRUE(report.ok()) << report.error().message;
  EXPECT_EQ(trained, 8);
  ASSERT_EQ(report->at("runs").size(), 6u);
  const Json& power = report->at("runs")[2];
  EXPECT_EQ(power.at("variant"), "power");
  EXPECT_EQ(power.at("attention").size(), 4u);
  EXPECT_GT(power.at("ranges").at("divisor_ratio").get<double>(), 1);
  EXPECT_GT(power.at("conversions")[0].at("levels").get<int>(), 10);
  EXPECT_TRUE(std::isfinite(power.at("perplexity").get<double>()));
  EXPECT_EQ(power.at("pairs").at("accuracy"), power.at("pairs").at("by_set").at("order"));
  const Json& stage = power.at("polynomial");
  EXPECT_TRUE(std::isfinite(stage.at("perplexity").get<double>()));
  EXPECT_EQ(stage.at("levels"), 20);
  EXPECT_EQ(stage.at("escapes").at("sites").size(), 6u);  // three a layer
  EXPECT_GT(stage.at("escapes").at("positions"), stage.at("effect").at("escapes").at("positions"));
  EXPECT_EQ(stage.at("escapes").at("random_tokens").at("positions"),
            64 * 16 * RunConfigOf(study, study.variants[1], 1)->shape.context);
  EXPECT_EQ(RunConfigOf(study, study.variants[1], 2)->name + "-polynomial",
            PolynomialConfigOf(study, study.variants[1], 2)->name);
  const Json& behind = report->at("runs")[4];
  EXPECT_EQ(behind.at("behind"), "power");
  EXPECT_EQ(behind.at("perplexity"), report->at("runs")[3].at("perplexity"));
  EXPECT_EQ(behind.at("polynomial").at("levels"), 19);
  const auto again = RunStudy(study, options);
  EXPECT_EQ(again->dump(), report->dump());
  EXPECT_EQ(trained, 8);  // nothing twice
  for (const auto& run : std::filesystem::directory_iterator(folder_ + "/study"))
    if (run.is_directory() && run.path().filename() != "data") std::filesystem::remove_all(run);
  EXPECT_EQ(RunStudy(study, options)->dump(), report->dump());  // from the report alone
  EXPECT_EQ(trained, 8);
  StudyConfig other = study;
  other.task_share = 0.5;
  EXPECT_EQ(RunStudy(other, options).error().code, ErrorCode::kMismatch);
}

TEST_F(StudyTest, RefusesWhatItDoesNotUnderstand) {
  Json json = Json::parse(Config());
  json["sedes"] = {1};
  EXPECT_FALSE(ParseStudyConfig(json.dump(), false).ok());
  json.erase("sedes");
  json["variants"][0]["patch"]["attention"] = "none";
  EXPECT_FALSE(ParseStudyConfig(json.dump(), false).ok());
  const StudyConfig study = ParseStudyConfig(Config(), false).value();
  EXPECT_EQ(OnlyRun(study, "power-s2")->variants.size(), 1u);
  EXPECT_EQ(OnlyRun(study, "power-s2")->variants[0].seeds, std::vector<std::uint64_t>{2});
  EXPECT_EQ(OnlyRun(study, "degree-3-s2")->variants.size(), 2u);  // and what it stands behind
  EXPECT_NE(OnlyRun(study, "p2-s2").error().message.find("p2-s1"), std::string::npos);
  json = Json::parse(Config());
  for (const char* parent : {"nobody", "degree-3"}) {
    json["variants"][2]["behind"] = parent;
    EXPECT_NE(ParseStudyConfig(json.dump(), false).error().message.find(parent), std::string::npos);
  }
  for (const char* field : {"behnd", "patsh", "seed"}) {
    json = Json::parse(Config());
    json["variants"][1][field] = "power";
    const std::string error = ParseStudyConfig(json.dump(), false).error().message;
    EXPECT_NE(error.find(field), std::string::npos) << error;
    EXPECT_NE(error.find("\"power\""), std::string::npos) << error;  // the variant
  }
  json = Json::parse(Config());
  json["quick"]["bass"] = 1;
  EXPECT_FALSE(ParseStudyConfig(json.dump(), false).ok());
  json = Json::parse(Config());
  json["variants"][0]["name"] = "../evil";
  EXPECT_FALSE(ParseStudyConfig(json.dump(), false).ok());
  json = Json::parse(Config());
  json["polynomial"].erase("polynomial");
  EXPECT_FALSE(ParseStudyConfig(json.dump(), false).ok());
  for (const char* bad : {"", "[]", "{}", "{\"base\":{},\"variants\":[]}"})
    EXPECT_FALSE(ParseStudyConfig(bad, false).ok()) << bad;
}

}  // namespace
}  // namespace polyveil::train
