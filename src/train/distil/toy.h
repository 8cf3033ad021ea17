// Test support: small random models with a letters' tokenizer, and stories of letters.
#pragma once

#include <filesystem>
#include <random>
#include <string>

#include "model/formats/checkpoint.h"
#include "model/formats/released_fixture.h"

namespace polyveil::train {

// A case of tests/vectors/released/logits.json as a folder, ids 1.. are the letters from 'a' on.
inline std::shared_ptr<const model::Checkpoint> WriteToyModel(const std::string& name,
                                                              const std::string& folder) {
  using Json = nlohmann::json;
  for (const auto& vectors : model::ReadVectors("logits.json"))
    if (vectors["name"] == name) model::WriteModel(vectors, folder);
  Json vocab = {{"<unk>", 0}};
  for (int i = 1; i < 29; ++i) vocab[std::string(1, static_cast<char>('a' + i - 1))] = i;
  const Json model = {
      {"type", "BPE"}, {"vocab", vocab}, {"merges", Json::array()}, {"unk_token", "<unk>"}};
  model::WriteBytes(folder + "/tokenizer.json", Json{{"model", model}}.dump());
  return model::LoadCheckpoint(folder).value();
}

// Forty stories of random words, so that both parts of the split have some.
inline void WriteToyStories(const std::string& folder) {
  std::mt19937_64 random(3);
  std::filesystem::create_directories(folder + "/toys");
  for (int i = 0; i < 40; ++i) {
    std::string text;
    for (int word = 0; word < 120; ++word) {
      for (std::uint64_t k = 1 + random() % 6; k > 0; --k)
        text += static_cast<char>('a' + random() % 20);
      text += word % 30 == 29 ? '\n' : ' ';
    }
    model::WriteBytes(folder + fmt::format("/toys/story{}.txt", i), text);
  }
}

}  // namespace polyveil::train
