// The mixture of a conversion's text: draws by weight, templates, held-out sources.
#include "train/distil/data.h"

#include <gtest/gtest.h>

#include <set>

#include "train/distil/sample.h"
#include "train/distil/toy.h"

namespace polyveil::train {
namespace {

struct ToyText {
  model::TemporaryFolder folder;
  std::shared_ptr<const model::Checkpoint> checkpoint;
  std::optional<model::TextTokenizer> tokenizer;
  DistilConfig config;

  ToyText() {
    std::filesystem::create_directories(folder / "model");
    checkpoint = WriteToyModel("llama", folder / "model");
    tokenizer = model::TextTokenizer::Load(*checkpoint).value();
    WriteToyStories(folder / "data/stories");
    // With a letter that no story has.
    std::filesystem::create_directories(folder / "data/other");
    std::string other;
    std::mt19937_64 random(4);
    for (int i = 0; i < 40'000; ++i) {
      other += i % 40 == 39 ? "\n\n" : "z#_";
      for (int k = 0; k < 3; ++k) other += static_cast<char>('a' + random() % 20);
    }
    model::WriteBytes(folder / "data/other/a.txt", other);
    config.context = 16;
    config.prefix = {1, 9};
    config.sources = {{"stories", SourceKind::kStories, "stories"},
                      {"other", SourceKind::kText, "other"}};
  }
  Result<DistilText> Read() const {
    return ReadDistilText(folder / "data", *tokenizer, checkpoint->architecture, config);
  }
};

// Of a thousand rows, how many have the other source's letter.
int CountOther(const DistilText& text, const std::map<std::string, double>& weights) {
  int count = 0;
  for (int step = 0; step < 100; ++step) {
    const torch::Tensor inputs = DrawDistilBatch(text, 10, weights, 3, step).inputs;
    for (int row = 0; row < 10; ++row)
      count += inputs[row].narrow(0, 2, 14).eq(26).any().item<bool>();  // z
  }
  return count;
}

TEST(DistilText, SourcesAreDrawnByTheirWeights) {
  ToyText toy;
  toy.config.sources[1].weight = 3;
  const DistilText text = toy.Read().value();
  EXPECT_NEAR(CountOther(text, {}), 750,
              60);  // four deviations of a thousand draws
  EXPECT_NEAR(CountOther(text, {{"other", 0.25}}), 200, 55);
  EXPECT_EQ(CountOther(text, {{"other", 0}}), 0);
  const Batch a = DrawDistilBatch(text, 4, {}, 5, 6), b = DrawDistilBatch(text, 4, {}, 5, 6);
  EXPECT_TRUE(torch::equal(a.inputs, b.inputs));
  EXPECT_EQ(a.inputs.size(1), 16);
  EXPECT_TRUE(a.targets.narrow(1, 0, 2).eq(-100).all().item<bool>());
  EXPECT_TRUE(torch::equal(a.targets.narrow(1, 2, 13), a.inputs.narrow(1, 3, 13)));
  EXPECT_FALSE(torch::equal(a.inputs, DrawDistilBatch(text, 4, {}, 5, 7).inputs));
}

TEST(DistilText, RowsInTheTemplateHaveItsMarks) {
  ToyText toy;
  toy.config.sources.resize(1);
  toy.config.sources[0].chat = 0.5;
  DistilText text = toy.Read().value();
  text.chat = {{27}, {28}};
  int marked = 0;
  for (int step = 0; step < 100; ++step) {
    const torch::Tensor row = DrawDistilBatch(text, 1, {}, 1, step).inputs[0];
    if (row[2].item<int>() != 27) continue;
    ++marked;
    const torch::Tensor close = row.eq(28).nonzero();
    ASSERT_EQ(close.size(0), 1);
    EXPECT_GE(close.item<int>(), 3 + 4);
    EXPECT_LE(close.item<int>(), 3 + 7);
  }
  EXPECT_NEAR(marked, 50, 20);
}

TEST(DistilText, HardRowsAndFindsFillTheContext) {
  ToyText toy;
  toy.config.sources.push_back({"hard", SourceKind::kHard, {}});
  DistilText text = toy.Read().value();
  text.found = {std::vector<std::int64_t>(15, 21)};
  int found = 0;
  for (int step = 0; step < 50; ++step) {
    const torch::Tensor inputs =
        DrawDistilBatch(text, 2, {{"stories", 0}, {"other", 0}}, 1, step).inputs;
    ASSERT_EQ(inputs.size(1), 16);
    EXPECT_TRUE(inputs.narrow(1, 0, 1).eq(1).all().item<bool>());
    found += inputs[0].narrow(0, 2, 14).eq(21).all().item<bool>();
  }
  EXPECT_NEAR(found, 25, 15);
}

TEST(DistilText, HeldoutSourcesAreWholeAndNeverDrawn) {
  ToyText toy;
  toy.config.heldout = {toy.config.sources[1]};
  toy.config.sources.resize(1);
  const DistilText text = toy.Read().value();
  EXPECT_EQ(text.heldout.size(), 2u);
  EXPECT_EQ(CountOther(text, {}), 0);
  const auto batches = HeldoutDistilBatches(text, text.heldout.at("other"), 5, 2);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_EQ(batches[2].inputs.size(0), 1);
  EXPECT_TRUE(batches[0].inputs.eq(26).any().item<bool>());
}

// Stories lose markup and signs, other text keeps them.
TEST(DistilText, OtherTextStaysAsItIs) {
  ToyText toy;
  const DistilText text = toy.Read().value();
  toy.config.sources[1].kind = SourceKind::kStories;
  const DistilText cleaned = toy.Read().value();
  EXPECT_GT(text.sources[1].tokens.size(), cleaned.sources[1].tokens.size());
}

TEST(DistilText, RefusesShortSourcesByName) {
  ToyText toy;
  std::filesystem::create_directories(toy.folder / "data/short");
  model::WriteBytes(toy.folder / "data/short/a.txt", std::string("ab"));
  toy.config.heldout = {{"short", SourceKind::kText, "short"}};
  const auto result = toy.Read();
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message.find("source short"), std::string::npos);
  toy.config.heldout = {{"none", SourceKind::kText, "none"}};
  EXPECT_EQ(toy.Read().error().code, ErrorCode::kNotFound);
}

TEST(DistilText, SampledSequencesKeepTheirOpeningsAndSeeds) {
  ToyText toy;
  std::vector<SampledSequence> sequences(3);
  sequences[0].opening = {1, 9};
  sequences[1].opening = {1, 9, 4, 5, 6, 7};
  sequences[2].opening = {1, 9};
  for (std::size_t i = 0; i < 3; ++i) sequences[i].sampling = {.temperature = 1.5, .seed = i};
  const auto text = SampleText(*toy.checkpoint, sequences, 12, 2).value();
  ASSERT_EQ(text.size(), 36u);
  EXPECT_EQ(std::vector<std::int32_t>(text.begin() + 12, text.begin() + 18), sequences[1].opening);
  EXPECT_NE(std::vector<std::int32_t>(text.begin(), text.begin() + 12),
            std::vector<std::int32_t>(text.begin() + 24, text.end()));
  const auto alone = SampleText(*toy.checkpoint, {sequences[1]}, 12, 1).value();
  EXPECT_TRUE(std::equal(alone.begin(), alone.end(), text.begin() + 12));
  sequences[0].sampling.top_p = 2;
  EXPECT_FALSE(SampleText(*toy.checkpoint, sequences, 12, 2).ok());
}

TEST(DistilText, OpeningsOfSampledTextStandInTheTemplate) {
  ToyText toy;
  DistilText text = toy.Read().value();
  DistilSource own{"own", SourceKind::kSampled, {}};
  own.chat = 1;
  EXPECT_TRUE(SampleOpening(text, own, 1, 0).empty()) << "a model without a template";
  text.chat = {{27}, {28}};
  std::set<std::vector<std::int32_t>> openings;
  for (int i = 0; i < 10; ++i) {
    const auto opening = SampleOpening(text, own, 1, i);
    EXPECT_EQ(opening.front(), 27);
    EXPECT_EQ(opening.back(), 28);
    openings.insert(opening);
  }
  EXPECT_GT(openings.size(), 5u);
}

}  // namespace
}  // namespace polyveil::train
