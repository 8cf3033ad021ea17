#include "train/search.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/output_file.h"
#include "support/toy_training.h"
#include "train/bundle_model.h"
#include "train/draws.h"
#include "train/hard_rows.h"

namespace polyveil::train {
namespace {

class SearchTest : public ToyTraining {
 protected:
  // A polynomial run of few steps; it holds on its own text and little else.
  LoadedModel Trained(double margin = 1.2) {
    Run(Tiny("parent"));
    TrainConfig config = Polynomial();
    config.polynomial->margin = margin;
    Run(config);
    return LoadModel(folder_ + "/poly/last.pt").value();
  }

  TrainConfig Polynomial() {
    TrainConfig config = Tiny("poly");
    config.init_from = "parent/last.pt";
    config.optimizer.muon_lr = 0.002;
    config.optimizer.adam_lr = 0.0003;
    config.polynomial = PolynomialOptions{7, 7, 7, 15, 1.2, 3};
    return config;
  }

  model::Tokenizer Words() const { return model::Tokenizer::Parse(tokenizer_).value(); }
};

TEST_F(SearchTest, EveryKindFillsTheContextAndRepeats) {
  const model::Tokenizer tokenizer = Words();
  const Dataset data = LoadDataset(folder_ + "/data").value();
  for (const auto* text : {&data.train, &data.heldout, decltype(&data.train)(nullptr)}) {
    const HardInputs inputs(tokenizer, text, 24);
    for (const InputKind kind : kInputKinds) {
      std::set<TokenRow> rows;
      for (std::uint64_t i = 0; i < 40; ++i) {
        const TokenRow row = inputs.Row(kind, 5, i);
        ASSERT_EQ(row.size(), 24u) << InputKindName(kind);
        EXPECT_EQ(row, inputs.Row(kind, 5, i));
        EXPECT_EQ(row[0], model::Tokenizer::kEnd);
        for (const std::int64_t token : row) EXPECT_TRUE(token >= 0 && token < 280) << token;
        rows.insert(row);
      }
      EXPECT_GT(rows.size(), 20u) << InputKindName(kind);
    }
  }
}

// What the search says of a batch is what the count of escapes says of it.
TEST_F(SearchTest, EndsAgreeWithTheCountOfEscapes) {
  const LoadedModel loaded = Trained();
  const model::Tokenizer tokenizer = Words();
  const HardInputs inputs(tokenizer, nullptr, 24);
  for (const InputKind kind : kInputKinds) {
    std::vector<TokenRow> rows;
    for (std::uint64_t i = 0; i < 6; ++i) rows.push_back(inputs.Row(kind, 9, i));
    const Batch batch = RowsToBatch(rows);
    const EscapeReport escapes = CountEscapes(*loaded.model, {batch});
    const torch::Tensor ratios = MeasureEnds(*loaded.model, IntervalEnds(*loaded.model), batch);
    EXPECT_EQ(ratios.size(0), 2 * 2 * 3);
    EXPECT_EQ(escapes.escapes > 0, (ratios > 1).any().item<bool>()) << InputKindName(kind);
    const double worst = ratios.max().item<double>();
    if (escapes.escapes > 0 && std::isfinite(worst)) {
      EXPECT_NEAR(worst / escapes.worst_ratio, 1, 1e-5) << InputKindName(kind);
    }
  }
}

TEST_F(SearchTest, SwapsPushAnEndOutwards) {
  const LoadedModel loaded = Trained();
  const model::Tokenizer tokenizer = Words();
  const HardInputs inputs(tokenizer, nullptr, 24);
  const auto ends = IntervalEnds(*loaded.model, 3);
  EXPECT_EQ(ends.size(), 2u * 2 * (3 + 2));
  std::mt19937_64 random = Generator(3, 0);
  std::size_t gained = 0;
  for (std::size_t e = 0; e < ends.size(); ++e) {
    TokenRow row = inputs.Row(InputKind::kRandomTokens, 4, e);
    const auto at = [&](const TokenRow& r) {
      return MeasureEnds(*loaded.model, ends, RowsToBatch({r}))[static_cast<std::int64_t>(e)][0]
          .item<double>();
    };
    const double before = at(row);
    for (int round = 0; round < 4; ++round) {
      auto rows = SwapTokens(*loaded.model, row, ends[e], 16, random);
      rows.push_back(row);
      for (const TokenRow& next : rows) {
        EXPECT_EQ(next[0], row[0]);
        if (at(next) > at(row)) row = next;
      }
    }
    gained += at(row) > before;
  }
  EXPECT_GT(gained, ends.size() / 2);
}

TEST_F(SearchTest, ReportCountsWhatItTried) {
  LoadedModel loaded = Trained();
  const model::Tokenizer tokenizer = Words();
  const HardInputs inputs(tokenizer, nullptr, 24);
  SearchOptions options;
  options.inputs = 2000;
  options.rows = 16;
  options.workers = 3;
  const SearchReport report = SearchInputs(*loaded.model, inputs, options).value();
  EXPECT_EQ(report.candidates, 2000);
  EXPECT_EQ(report.positions, 2000 * 24);
  EXPECT_EQ(report.kinds.at("every token repeated").candidates, 280);
  EXPECT_NEAR(static_cast<double>(report.kinds.at("swaps").candidates), 500, 48);
  EXPECT_EQ(report.ends.size(), 12u);
  std::int64_t outside = 0;
  for (const auto& [name, kind] : report.kinds) outside += kind.outside;
  EXPECT_EQ(outside, report.outside);
  EXPECT_EQ(report.outside > 0, report.worst_ratio > 1);
  EXPECT_EQ(nlohmann::json::parse(ToJsonText(report, tokenizer)).at("ends").size(), 12u);
  EXPECT_FALSE(ToText(report, tokenizer).empty());
  loaded.model->polynomials.reset();
  EXPECT_FALSE(SearchInputs(*loaded.model, inputs, options).ok());
}

// Rows of searches and drawn ones: the stage runs, repeats, and refuses reports of other models.
TEST_F(SearchTest, HardRowsJoinTheStage) {
  const LoadedModel parent = Trained();
  const model::Tokenizer tokenizer = Words();
  SearchOptions options;
  options.inputs = 400;
  const SearchReport report =
      SearchInputs(*parent.model, HardInputs(tokenizer, nullptr, 24), options).value();
  const std::string text = ToJsonText(report, tokenizer);
  ASSERT_TRUE(WriteFile(folder_ + "/found.json", text).ok());
  TrainConfig config = Polynomial();
  config.name = "hard";
  config.init_from = "poly/last.pt";
  config.polynomial->hard_rows = 0.5;
  config.polynomial->hard_files = {"found.json"};
  config.range.interval_margin = 1.2;
  Run(config);
  const auto once = LoadModel(folder_ + "/hard/last.pt").value();
  Run(config);
  const auto twice = LoadModel(folder_ + "/hard/last.pt").value();
  EXPECT_TRUE(torch::equal(once.model->Get("embed"), twice.model->Get("embed")));
  const auto refused = [&](const std::string& content) {
    EXPECT_TRUE(WriteFile(folder_ + "/found.json", content).ok());
    return !RunTrain(config, {folder_ + "/data", folder_, false, 0, {}, nullptr, true}).ok();
  };
  EXPECT_TRUE(refused("[]"));
  EXPECT_TRUE(refused(R"({"ends": [{"tokens": [256, 1], "near": []}]})"));
  EXPECT_TRUE(refused(R"({"ends": [{}]})"));
}

TEST_F(SearchTest, ABundleIsAStartLikeItsCheckpoint) {
  Trained(3);
  const auto exported =
      ExportBundle(folder_ + "/poly/last.pt", folder_ + "/data", folder_ + "/bundle");
  ASSERT_TRUE(exported.ok()) << exported.error().message;
  const LoadedModel from = LoadModel(folder_ + "/poly/last.pt", torch::kFloat64).value();
  const LoadedModel read = LoadModel(folder_ + "/bundle", torch::kFloat64).value();
  const Dataset data = LoadDataset(folder_ + "/data").value();
  const torch::Tensor ids = HeldoutBatches(data, 4, 24).front().inputs;
  EXPECT_TRUE(torch::allclose(from.model->Logits(ids), read.model->Logits(ids), 1e-5, 1e-5));
  TrainConfig config = Polynomial();
  config.name = "again";
  config.init_from = "bundle";
  config.steps = 1;
  Run(config);
  EXPECT_FALSE(LoadModel(folder_ + "/data").ok());
}

}  // namespace
}  // namespace polyveil::train
