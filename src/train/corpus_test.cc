#include "train/corpus.h"

#include <gtest/gtest.h>

#include "train/dataset.h"

namespace polyveil::train {
namespace {

TEST(Corpus, CleansPictureBooks) {
  const std::string raw =
      "# Smile\n\n##\nA fawn  was \u201cracing\u201d.\n\n##\nHe *leapt* \u2014 far\u2026\n\n##\n* "
      "License: "
      "[CC-BY]\n* Text: Somebody\n";
  EXPECT_EQ(CleanStory("pratham", raw), "A fawn was \"racing\".\nHe leapt - far...\n");
}

TEST(Corpus, KeepsTheLastSectionOfBooks) {
  EXPECT_EQ(CleanStory("classics", "## THE FOX\n\nA _hungry_ Fox\n\n## END\n\nMoral.\n"),
            "A hungry Fox\nMoral.\n");
}

std::string Story(int seed, int words) {
  std::string text;
  for (int i = 0; i < words; ++i)
    text += fmt::format("w{} ", (seed * 7919 + i * i * 31 + i) % 5003);
  return text;
}

TEST(Corpus, SplitsByWholeDocumentAndDropsDuplicates) {
  std::vector<Document> documents;
  for (int i = 0; i < 200; ++i)
    documents.push_back({"tales", fmt::format("{}.txt", i), Story(i, 100)});
  for (int i = 0; i < 200; ++i)  // the same texts again, under other names
    documents.push_back({"zz", fmt::format("{}.txt", i), Story(i, 100)});
  const Corpus corpus = SplitCorpus(documents, {20, 0.2});
  std::map<std::string, int> seen;
  for (const Document& d : corpus.train) ++seen[d.text];
  for (const auto& [text, count] : seen) EXPECT_EQ(count, 1);
  for (const Document& d : corpus.heldout) EXPECT_EQ(seen.count(d.text), 0u) << d.name;
  EXPECT_GT(corpus.train_duplicates, 0);
  EXPECT_GT(corpus.heldout_duplicates, 0);
  EXPECT_GT(corpus.heldout.size(), 0u);
}

TEST(Dataset, WindowsBeginWithTheEndMarkAndTargetsFollow) {
  Corpus corpus;
  corpus.train.push_back({"a", "1", "one two three\nfour five six\n"});
  corpus.train.push_back({"b", "1", "seven eight nine ten\n"});
  corpus.heldout = corpus.train;
  const auto tokenizer = model::Tokenizer::Train({"one two three four five six"}, 260).value();
  const Dataset data = Tokenize(corpus, tokenizer);
  const Batch x = DrawBatch(data, {{"a", 1}, {"b", 3}}, 8, 6, 5, 17);
  const Batch y = DrawBatch(data, {{"a", 1}, {"b", 3}}, 8, 6, 5, 17);
  EXPECT_TRUE(torch::equal(x.inputs, y.inputs));
  EXPECT_FALSE(torch::equal(x.inputs, DrawBatch(data, {}, 8, 6, 5, 18).inputs));
  Batch random = DrawBatch(data, {{"a", 1}, {"b", 3}}, 8, 6, 5, 17);
  ReplaceByRandomRows(random, 0.5, data.vocab_size, 5, 17);
  int replaced = 0;
  for (int row = 0; row < 8; ++row) {
    const bool counts = (random.targets[row] == -100).all().item<bool>();
    replaced += counts;
    EXPECT_EQ(counts, !torch::equal(random.inputs[row], x.inputs[row])) << row;
    EXPECT_EQ(random.inputs[row][0].item<std::int64_t>(), x.inputs[row][0].item<std::int64_t>());
  }
  EXPECT_TRUE(replaced > 0 && replaced < 8) << replaced;
  EXPECT_LT(random.inputs.max().item<std::int64_t>(), data.vocab_size);
  ReplaceByRandomRows(random, 0, data.vocab_size, 5, 18);
  Batch again = DrawBatch(data, {{"a", 1}, {"b", 3}}, 8, 6, 5, 17);
  ReplaceByRandomRows(again, 0.5, data.vocab_size, 5, 17);
  EXPECT_TRUE(torch::equal(again.inputs, random.inputs));
  for (int row = 0; row < 8; ++row) {
    EXPECT_EQ(x.inputs[row][0].item<int>(), model::Tokenizer::kEnd);
    for (int t = 1; t < 6; ++t)
      EXPECT_EQ(x.inputs[row][t].item<int>(),
                std::max<int>(x.targets[row][t - 1].item<int>(), -100) == -100
                    ? model::Tokenizer::kEnd
                    : x.targets[row][t - 1].item<int>());
  }
  std::int64_t counted = 0;
  for (const Batch& batch : SequentialBatches(data.heldout.at("a"), 2, 6))
    counted += (batch.targets >= 0).sum().item<std::int64_t>();
  EXPECT_EQ(counted, static_cast<std::int64_t>(data.heldout.at("a").tokens.size()));
}

}  // namespace
}  // namespace polyveil::train
