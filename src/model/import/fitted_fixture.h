// Test support: small released models with polynomials fitted on random tokens.
#pragma once

#include <random>

#include "model/formats/checkpoint.h"
#include "model/formats/released_fixture.h"
#include "model/import/model_fit.h"

namespace polyveil::model {

inline constexpr BlockFit kSmallFit{
    .margin = 2, .norm_degree = 7, .divisor_degree = 7, .activation_degree = 7};

inline TokenLists RandomTokens(int vocab_size, int texts, int tokens, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  TokenLists out(static_cast<std::size_t>(texts));
  for (auto& text : out)
    for (int i = 0; i < tokens; ++i)
      text.push_back(static_cast<std::int32_t>(random() % static_cast<unsigned>(vocab_size)));
  return out;
}

// Panics where a fit is not possible.
inline ConvertedForms FittedForms(const std::string& model, const BlockFit& fit = kSmallFit) {
  const auto checkpoint = LoadCheckpoint(model).value();
  const int vocab_size = checkpoint->architecture.vocab_size;
  ConvertedForms forms =
      FitForms(checkpoint, {RandomTokens(vocab_size, 6, 10, 1), RandomTokens(vocab_size, 2, 10, 2)},
               fit)
          .value();
  const std::filesystem::path path = checkpoint->path;
  forms.weights = {checkpoint->gguf ? path.filename().string() : "", WeightsSha256(*checkpoint)};
  return forms;
}

inline void WriteForms(const std::string& folder, const ConvertedForms& forms) {
  WriteBytes(folder + "/forms.json", FormatForms(forms));
}

// A case of logits.json as a converted folder.
inline void WriteFittedModel(const nlohmann::json& vectors, const std::string& folder) {
  WriteModel(vectors, folder);
  WriteForms(folder, FittedForms(folder));
}

inline nlohmann::json ReadCase(const std::string& name) {
  for (const auto& vectors : ReadVectors("logits.json"))
    if (vectors["name"] == name) return vectors;
  return {};
}

}  // namespace polyveil::model
