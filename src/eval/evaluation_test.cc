// Scores against sums by hand, windows, tasks' files, summaries.
#include "eval/evaluation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eval/token_score.h"
#include "model/float32/reference.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::json;

Json Case(const char* file, const std::string& name) {
  for (const auto& each : ReadVectors(file))
    if (each["name"] == name) return each;
  return {};
}

// The small Llama-shaped decoder with a vocabulary cut to its size.
struct SmallModel {
  TemporaryFolder folder;
  std::shared_ptr<const Checkpoint> checkpoint;
  std::unique_ptr<TextScorer> scorer;

  SmallModel() {
    Json vectors = Case("logits.json", "llama");
    vectors["config"]["bos_token_id"] = 1;
    WriteModel(vectors, folder.path());
    Json vocab = {{"<unk>", 0}};
    for (int i = 1; i < 29; ++i) vocab[std::string(1, static_cast<char>('a' + i - 1))] = i;
    const Json model = {
        {"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}, {"unk_token", "<unk>"}};
    WriteBytes(folder / "tokenizer.json", Json{{"model", model}}.dump());
    checkpoint = LoadCheckpoint(folder.path()).value();
    scorer = MakeScorer(checkpoint).value();
  }

  // The sum by one pass over everything.
  TextScore Expected(const ScoreRequest& request) const {
    std::vector<TokenId> tokens = request.context;
    tokens.insert(tokens.end(), request.continuation.begin(), request.continuation.end());
    const FloatReference reference(checkpoint->architecture, checkpoint->weights);
    const Sequence sequence{tokens};
    const FloatMatrix logits = reference.Logits(reference.Hidden(std::span(&sequence, 1)).value());
    TextScore score;
    for (std::size_t i = request.context.size(); i < tokens.size(); ++i) {
      const auto row = logits.row(static_cast<int>(i) - 1);
      double sum = 0;
      for (const float logit : row) sum += std::exp(static_cast<double>(logit));
      const float at = row[static_cast<std::size_t>(tokens[i])];
      score.log_probability += at - std::log(sum);
      for (const float logit : row) score.greedy = score.greedy && logit <= at;
    }
    return score;
  }
};

TEST(TextScorer, SharedContextsAndBatchesEqualSinglePasses) {
  const SmallModel model;
  const std::vector<ScoreRequest> requests = {{{1, 2, 3}, {4}},    {{1, 2, 3}, {5, 6, 7}},
                                              {{1, 2, 3}, {8, 9}}, {{4}, {1, 2}},
                                              {{1, 2, 3}, {4}},    {{7, 7}, {7, 7, 7, 7}}};
  const auto scores = model.scorer->Score(requests).value();
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const TextScore expected = model.Expected(requests[i]);
    EXPECT_NEAR(scores[i].log_probability, expected.log_probability, 1e-5) << i;
    EXPECT_EQ(scores[i].greedy, expected.greedy) << i;
  }
}

TEST(TextScorer, RefusesWhatDoesNotFit) {
  const SmallModel model;
  const auto message = [&](const ScoreRequest& request) {
    const auto result = model.scorer->Score(std::span(&request, 1));
    return result.ok() ? "" : result.error().message;
  };
  EXPECT_NE(message({{}, {1}}).find("0 tokens of context"), std::string::npos);
  EXPECT_NE(message({{1}, {}}).find("0 to score"), std::string::npos);
  EXPECT_NE(message({{1}, std::vector<TokenId>(21, 2)}).find("21 tokens > context 20"),
            std::string::npos);
  EXPECT_NE(message({{1}, {2, 29, 3}}).find("29"), std::string::npos);
}

TEST(Evaluation, LongContextsAreCutFromTheLeft) {
  const SmallModel model;
  Example example{{{std::string(40, 'b') + "xy", "ab"}}, 0};
  const auto requests = MakeRequests(*model.scorer, example);
  EXPECT_EQ(requests[0].continuation, (std::vector<TokenId>{1, 2}));
  EXPECT_EQ(requests[0].context.size(), 19u);
  EXPECT_EQ(requests[0].context.back(), 25);
  EXPECT_TRUE(model.scorer->Score(requests).ok());
  example.choices[0] = {"", "cd"};
  EXPECT_EQ(MakeRequests(*model.scorer, example)[0].context, (std::vector<TokenId>{1}));
}

// A model of eight tokens that begins every text with 99.
class BeginningScorer : public TextScorer {
 public:
  std::vector<TokenId> Encode(std::string_view text) const override {
    return {text.begin(), text.end()};
  }
  std::vector<TokenId> Beginning() const override { return {99}; }
  bool AlwaysBegins() const override { return true; }
  int context() const override { return 8; }
  std::size_t batch_tokens() const override { return 1; }
  Result<std::vector<TextScore>> Score(std::span<const ScoreRequest>) const override {
    return std::vector<TextScore>();
  }
};

TEST(Evaluation, LongContextsKeepTheirBeginning) {
  const BeginningScorer scorer;
  const auto request = [&](int context, int continuation) {
    const Example example{{{std::string(static_cast<std::size_t>(context), 'b') + "c",
                            std::string(static_cast<std::size_t>(continuation), 'd')}},
                          0};
    return MakeRequests(scorer, example)[0];
  };
  for (int context : {0, 3, 5, 6, 7, 40}) {
    for (int continuation : {1, 2, 7, 8, 9, 40}) {
      const ScoreRequest r = request(context, continuation);
      EXPECT_EQ(r.context.front(), 99) << context << " " << continuation;
      EXPECT_LE(r.context.size() + r.continuation.size() - 1, 8u);
      EXPECT_EQ(r.continuation.size(), static_cast<std::size_t>(std::min(continuation, 8)));
      if (r.context.size() > 1) {
        EXPECT_EQ(r.context.back(), 'c');
      }
    }
  }
  EXPECT_EQ(request(40, 2).context.size(), 7u);
  EXPECT_EQ(request(3, 2).context, (std::vector<TokenId>{99, 'b', 'b', 'b', 'c'}));
}

TEST(TextScorer, OneLogitThatIsNoNumberLosesTheScore) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    TextScore score;
    AddToken(std::span<const float>(std::vector<float>{1, 2, bad, 0}), 1, score);
    EXPECT_TRUE(std::isnan(score.log_probability));
    EXPECT_FALSE(score.greedy);
  }
}

TEST(Evaluation, WindowsScoreEveryTokenOnce) {
  std::vector<TokenId> tokens;
  for (int i = 0; i < 23; ++i) tokens.push_back(i);
  for (const auto& [window, stride] : {std::pair{8, 3}, {8, 7}, {23, 5}, {30, 1}, {2, 1}}) {
    std::vector<TokenId> scored;
    for (const auto& request : MakeWindows(tokens, window, stride).value()) {
      EXPECT_LE(request.context.size() + request.continuation.size(),
                static_cast<std::size_t>(window));
      EXPECT_EQ(request.context.back() + 1, request.continuation.front());
      scored.insert(scored.end(), request.continuation.begin(), request.continuation.end());
    }
    EXPECT_EQ(scored, std::vector<TokenId>(tokens.begin() + 1, tokens.end())) << window;
  }
  // Without overlap the first token of each window has nothing before it.
  const auto apart = MakeWindows(tokens, 8, 8).value();
  ASSERT_EQ(apart.size(), 3u);
  EXPECT_EQ(apart[1].context, (std::vector<TokenId>{8}));
  EXPECT_EQ(apart[2].continuation.size(), 6u);
  // Behind a beginning every token is scored, and the windows are so much shorter.
  const std::vector<TokenId> beginning = {99};
  for (const auto& [window, stride] : {std::pair{9, 3}, {9, 8}, {24, 5}}) {
    std::vector<TokenId> scored;
    for (const auto& request : MakeWindows(tokens, window, stride, beginning).value()) {
      EXPECT_EQ(request.context[0], 99);
      EXPECT_LE(request.context.size() + request.continuation.size(),
                static_cast<std::size_t>(window));
      scored.insert(scored.end(), request.continuation.begin(), request.continuation.end());
    }
    EXPECT_EQ(scored, tokens) << window;
  }
  EXPECT_FALSE(MakeWindows(tokens, 9, 9, beginning).ok());
  EXPECT_FALSE(MakeWindows(tokens, 1, 1).ok());
  EXPECT_FALSE(MakeWindows(tokens, 8, 9).ok());
  // Nothing to score is no perplexity.
  const std::span<const TokenId> text(tokens);
  EXPECT_EQ(MakeWindows(text.first(1), 8, 8).error().message,
            "a text of 1 tokens: none to score, 2 are needed");
  EXPECT_FALSE(MakeWindows(text.first(0), 9, 8, beginning).ok());
  EXPECT_EQ(MakeWindows(text.first(1), 9, 8, beginning).value().size(), 1u);
}

TEST(Evaluation, EveryFormOfLineIsRead) {
  const Task piqa =
      ParseTask("piqa", "{\"query\":\"Q: x\\n\",\"choices\":[\"a\",\"b\"],\"gold\":1}\n", 0)
          .value();
  EXPECT_EQ(piqa.examples[0].choices[1].context, "Q: x\nAnswer:");
  EXPECT_EQ(piqa.examples[0].choices[1].continuation, " b");
  const Task winogrande =
      ParseTask("winogrande", R"({"context_options":["A","B"],"continuation":"went.","gold":0})", 0)
          .value();
  EXPECT_EQ(winogrande.examples[0].choices[1].context, "B");
  EXPECT_EQ(winogrande.examples[0].choices[1].continuation, " went.");
  const Task blimp = ParseTask("blimp/x", R"({"good":"yes","bad":"no"})", 0).value();
  EXPECT_EQ(blimp.examples[0].choices.size(), 2u);
  EXPECT_EQ(blimp.examples[0].gold, 0);
  const Task lambada =
      ParseTask("lambada", R"({"context":"so it ","continuation":"goes"})", 0).value();
  EXPECT_EQ(lambada.examples[0].choices[0].context, "so it");
  EXPECT_EQ(TaskFile("arc-easy"), "arc_easy.jsonl");
  EXPECT_EQ(TaskFile("blimp/wh_island"), "blimp/wh_island.jsonl");
}

TEST(Evaluation, ShotsStandAnsweredBeforeTheOthers) {
  std::string text;
  for (const char* query : {"one", "two", "three"})
    text += fmt::format("{{\"query\":\"{}\",\"choices\":[\"a\",\"b\"],\"gold\":1}}\n", query);
  const Task task = ParseTask("arc-easy", text, 2).value();
  ASSERT_EQ(task.examples.size(), 1u);
  EXPECT_EQ(task.examples[0].choices[0].context,
            "one\nAnswer: b\n\ntwo\nAnswer: b\n\nthree\nAnswer:");
  EXPECT_FALSE(ParseTask("arc-easy", text, 3).ok());
}

TEST(Evaluation, BrokenLinesAreNamed) {
  for (const char* line :
       {"{", "[]", R"({"query":"x","choices":[],"gold":0})",
        R"({"query":"x","choices":["a"],"gold":1})", R"({"query":3,"choices":["a"],"gold":0})",
        R"({"good":"a"})", R"({"context":"a"})"}) {
    const auto task = ParseTask("t", std::string(R"({"good":"a","bad":"b"})") + "\n" + line, 0);
    ASSERT_FALSE(task.ok()) << line;
    EXPECT_NE(task.error().message.find("line 2"), std::string::npos) << task.error().message;
  }
}

TEST(Evaluation, JudgesByProbabilityAndByCharacter) {
  const Example example{{{"q", " long answer"}, {"q", " no"}}, 0};
  const std::vector<TextScore> scores = {{-6, false}, {-4, false}};
  const ExampleResult result = Judge(example, scores);
  EXPECT_FALSE(result.right);            // -6 < -4
  EXPECT_TRUE(result.right_normalized);  // -6 / 11 > -4 / 2
  EXPECT_EQ(result.gold_log_probability, -6);
  const std::vector<TextScore> one = {{-1, true}};
  EXPECT_TRUE(Judge({{{"q", " x"}}, 0}, one).right);
}

TEST(Evaluation, ScoresThatAreNoNumbersLose) {
  const Example example{{{"q", " a"}, {"q", " b"}, {"q", " c"}}, 1};
  const double nan = std::nan("");
  EXPECT_TRUE(Judge(example, std::vector<TextScore>{{nan, false}, {-4, false}, {-5, false}}).right);
  const ExampleResult lost =
      Judge(example, std::vector<TextScore>{{-3, false}, {nan, true}, {-5, false}});
  EXPECT_FALSE(lost.right || lost.right_normalized || lost.finite);
  EXPECT_FALSE(Judge({{{"q", " x"}}, 0}, std::vector<TextScore>{{nan, true}}).right);
  EXPECT_EQ(Summarize(std::vector<ExampleResult>{lost, {}}).not_finite, 1u);
  // Of equal choices the first one is taken.
  EXPECT_FALSE(Judge(example, std::vector<TextScore>{{-4, false}, {-4, false}, {-5, false}}).right);
  EXPECT_TRUE(Judge(example, std::vector<TextScore>{{-5, false}, {-4, false}, {-4, false}}).right);
}

TEST(Evaluation, SummariesHaveStandardErrors) {
  std::vector<ExampleResult> results(10);
  for (int i = 0; i < 4; ++i) results[static_cast<std::size_t>(i)].right = true;
  for (ExampleResult& r : results) r.gold_log_probability = -2;
  const TaskSummary s = Summarize(results);
  EXPECT_NEAR(s.accuracy, 0.4, 1e-12);
  EXPECT_NEAR(s.accuracy_error, std::sqrt(0.24 / 9), 1e-12);
  EXPECT_NEAR(s.gold_perplexity, std::exp(2), 1e-12);
  EXPECT_EQ(Summarize({}).examples, 0u);
  for (std::size_t count : {1, 49, 100}) {
    const std::vector<ExampleResult> all(count, {true, true, -1});
    EXPECT_EQ(Summarize(all).accuracy, 1);
    EXPECT_EQ(Summarize(all).accuracy_error, 0);
  }
}

}  // namespace
}  // namespace polyveil::model
