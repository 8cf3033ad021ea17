#include "train/corpus.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <random>

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
  const Corpus corpus = SplitCorpus(documents, {0, 20, 0.2});
  std::map<std::string, int> seen;
  for (const Document& d : corpus.train) ++seen[d.text];
  for (const auto& [text, count] : seen) EXPECT_EQ(count, 1);
  for (const Document& d : corpus.heldout) EXPECT_EQ(seen.count(d.text), 0u) << d.name;
  EXPECT_GT(corpus.train_duplicates, 0);
  EXPECT_GT(corpus.heldout_duplicates, 0);
  EXPECT_GT(corpus.heldout.size(), 0u);
}

class CorpusFolder : public testing::Test {
 protected:
  CorpusFolder() {
    std::string folder = testing::TempDir() + "corpus-XXXXXX";
    folder_ = mkdtemp(folder.data());
  }
  ~CorpusFolder() override { std::filesystem::remove_all(folder_); }
  void Put(const std::string& name, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(folder_ + "/" + name).parent_path());
    std::ofstream(folder_ + "/" + name) << text;
  }
  std::string folder_;
};

TEST_F(CorpusFolder, OneLargeFileIsCutAndHeldOutInPart) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += Story(i, 60) + "\n\n";
  Put("my texts/all.txt", text);
  const Corpus corpus = ReadCorpus(folder_, {}).value();
  EXPECT_GT(corpus.train.size(), 20u);
  EXPECT_GT(corpus.heldout.size(), 0u);
  EXPECT_EQ(corpus.cut_files, 1);
  EXPECT_EQ(corpus.train[0].source, "my_texts");
  std::size_t bytes = 0;
  for (const auto* part : {&corpus.train, &corpus.heldout})
    for (const Document& d : *part) {
      EXPECT_LE(d.text.size(), 2u * static_cast<std::size_t>(corpus.document_bytes)) << d.name;
      bytes += d.text.size();
    }
  EXPECT_GT(bytes, text.size() / 2);  // but for duplicates, all of it
  EXPECT_LT(ReadCorpus(folder_, {1000, 5, 0.2}).value().train.size(), corpus.train.size());
}

TEST_F(CorpusFolder, TooLittleTextIsRefusedWithItsNumbers) {
  for (const char* text : {"", "\n\n\n", "one short line\n"}) {
    Put("a/b.txt", text);
    const auto corpus = ReadCorpus(folder_, {});
    ASSERT_FALSE(corpus.ok()) << text;
    EXPECT_EQ(corpus.error().code, ErrorCode::kOutOfRange);
    EXPECT_NE(corpus.error().message.find("held out"), std::string::npos);
  }
}

TEST_F(CorpusFolder, ManyFilesStayWhole) {
  for (int i = 0; i < 60; ++i) Put(fmt::format("tales/{}.txt", i), Story(i, 4000));
  const Corpus corpus = ReadCorpus(folder_, {}).value();
  EXPECT_EQ(corpus.cut_files, 0);
  EXPECT_EQ(corpus.train.size() + corpus.heldout.size(), 60u);
}

TEST(Corpus, CutsAtBlankLinesFirst) {
  const std::string lines = std::string(50, 'a') + "\n" + std::string(30, 'b') + "\n";
  const std::string blank = std::string(60, 'a') + "\n \r\n" + std::string(300, 'b');
  EXPECT_EQ(FindCut(blank, 50), 61u);
  EXPECT_EQ(FindCut(lines + std::string(300, 'c'), 50), 82u);  // the last line's end below 100
  EXPECT_EQ(FindCut(std::string(70, 'a') + " " + std::string(300, 'b'), 50), 71u);
  std::string wide;
  for (int i = 0; i < 200; ++i) wide += "\u20ac";  // three bytes each
  EXPECT_EQ(FindCut(wide, 50) % 3, 0u);
  EXPECT_EQ(FindCut("short", 50), 5u);
  EXPECT_EQ(FindCut(wide, 0), wide.size());
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text(random() % 500, ' '), joined;
    for (char& c : text) c = "ab \n"[random() % 4];
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t end = FindCut(rest, 1 + random() % 60);
      ASSERT_GT(end, 0u);
      joined += rest.substr(0, end);
      rest.remove_prefix(end);
    }
    ASSERT_EQ(joined, text);
  }
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

// Files that were cut off, and sources that rows could not be drawn from.
TEST_F(CorpusFolder, DatasetsAreAsTheirFileSays) {
  Corpus corpus;
  corpus.train.push_back({"a", "1", "one two three\nfour five six\n"});
  corpus.heldout = corpus.train;
  const auto tokenizer = model::Tokenizer::Train({"one two three four five six"}, 260).value();
  const Dataset data = Tokenize(corpus, tokenizer);
  ASSERT_TRUE(SaveDataset(data, tokenizer, corpus, folder_).ok());
  const std::size_t tokens = data.train.at("a").tokens.size();
  EXPECT_EQ(LoadDataset(folder_).value().TrainTokens(), tokens);
  const auto expect_error = [&](const std::string& part) {
    const auto read = LoadDataset(folder_);
    ASSERT_FALSE(read.ok()) << part;
    EXPECT_EQ(read.error().code, ErrorCode::kCorrupt);
    EXPECT_NE(read.error().message.find(part), std::string::npos) << read.error().message;
  };
  for (const std::size_t cut : {std::size_t{4}, std::size_t{1}}) {
    const std::size_t bytes = tokens * 4 - cut;
    std::filesystem::resize_file(folder_ + "/train.a.bin", bytes);
    expect_error(fmt::format("{} bytes, dataset.json says {} tokens", bytes, tokens));
    std::filesystem::resize_file(folder_ + "/train.a.bin", tokens * 4);
  }
  const std::string said = R"({"heldout": {"a": {"tokens": 1, "bytes": 1}}, "train": {"a": )";
  std::filesystem::resize_file(folder_ + "/train.a.bin", 0);
  Put("dataset.json", said + R"({"tokens": 0, "bytes": 0}}})");
  expect_error("train.a: tokens = 0");
  for (const char* entry : {"3", "{}", R"({"tokens": "2", "bytes": 1})", R"({"tokens": -1})"}) {
    Put("dataset.json", said + entry + "}}");
    expect_error("train.a: tokens is no count");
  }
}

}  // namespace
}  // namespace polyveil::train
