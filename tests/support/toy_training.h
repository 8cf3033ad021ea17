// A toy corpus on disk and runs of a tiny model on it, for tests of the trainer.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "train/export.h"
#include "train/trainer.h"

namespace polyveil::train {

class ToyTraining : public testing::Test {
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
    config.shape = {2, 16, 2, 32, model::FeedForwardKind::kBilinear, 280, 24, 4, 1e-3, 1e-5};
    config.batch = 8;
    config.steps = 12;
    config.optimizer.warmup = 2;
    config.range = {{0.3, 0.01, 3}, {0.3, 0.01, 2.5}, {0.1, 0, 6}, {}};
    config.checkpoint_every = 4;
    config.log_every = 4;
    return config;
  }

  TrainSummary Run(const TrainConfig& config, bool resume = false, std::int64_t stop = 0) const {
    auto summary =
        RunTrain(config, {folder_ + "/data", folder_, resume, stop, {}, nullptr, !resume});
    EXPECT_TRUE(summary.ok()) << summary.error().message;
    return summary.ok() ? *summary : TrainSummary{};
  }

  // Config and tensors as the exporter writes them, but in F64, so that only the forms differ.
  struct Bundle {
    std::string json;
    std::vector<std::uint8_t> tensors;
  };
  static Bundle ExportInMemory(const Transformer& trained, const SiteRanges& ranges) {
    return {model::FormatModelConfig(MakeModelConfig(trained, ranges, 1.25)),
            model::FormatSafetensors(FoldTensors(trained), model::TensorType::kF64)};
  }

  std::string folder_, tokenizer_;
};

}  // namespace polyveil::train
