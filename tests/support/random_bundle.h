// A random bundle in a folder, small enough for the test rings.
#pragma once

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "model/client/language_model.h"
#include "model/ngram.h"
#include "model/safetensors.h"
#include "support/random_model.h"

namespace polyveil::testing {

inline model::Tensor ToTensor(const model::Matrix& m) { return {{m.rows, m.cols}, m.values}; }

inline void WriteBytes(const std::filesystem::path& path, const void* data, size_t bytes) {
  std::ofstream(path, std::ios::binary)
      .write(static_cast<const char*>(data), static_cast<long>(bytes));
}

inline model::TensorMap RandomTensors(const model::BodyBundle& bundle, std::mt19937_64& random) {
  const model::ModelConfig& c = bundle.config;
  model::TensorMap tensors;
  for (size_t i = 0; i < bundle.weights.layers.size(); ++i) {
    const model::BundleLayer& w = bundle.weights.layers[i];
    const std::string prefix = "layers." + std::to_string(i) + ".";
    for (const auto& [name, matrix] :
         {std::pair{"wq", &w.wq}, std::pair{"wk", &w.wk}, std::pair{"wv", &w.wv},
          std::pair{"wo", &w.wo}, std::pair{"w1", &w.w1}, std::pair{"w2", &w.w2},
          std::pair{"wdown", &w.wdown}}) {
      tensors[prefix + name] = ToTensor(*matrix);
    }
  }
  tensors["embed"] = ToTensor(RandomMatrix(c.vocab_size, c.d_model, 0.9, random));
  tensors["pos"] = ToTensor(RandomMatrix(c.context, c.d_model, 0.2, random));
  for (size_t i = 0; i < c.ngram_rows.size(); ++i)
    tensors[model::NgramName(i)] = ToTensor(RandomMatrix(c.ngram_rows[i], c.d_model, 0.2, random));
  tensors["final_gamma"] = {{c.d_model}, std::vector<double>(static_cast<size_t>(c.d_model), 1)};
  return tensors;
}

// runs: a table of runs of tokens too. 0 when it was written and reads back.
inline int WriteRandomBundle(const std::filesystem::path& directory, std::uint64_t seed,
                             const RandomModelShape& shape, bool runs = true) {
  std::mt19937_64 random(seed);
  model::BodyBundle bundle = RandomModel(shape, seed);
  const auto tokenizer =
      model::Tokenizer::Train({"once upon a time there was a time once upon"}, 264);
  if (!tokenizer.ok()) return 1;
  bundle.config.vocab_size = tokenizer->vocab_size();
  if (runs) bundle.config.ngram_rows = {32, 16};
  const auto bytes = FormatSafetensors(RandomTensors(bundle, random), model::TensorType::kF32);
  bundle.config.tensors_sha256 = model::Sha256Hex(bytes);
  std::filesystem::create_directories(directory);
  const std::string config = FormatModelConfig(bundle.config), pieces = tokenizer->Format();
  WriteBytes(directory / "model.json", config.data(), config.size());
  WriteBytes(directory / "tokenizer.json", pieces.data(), pieces.size());
  WriteBytes(directory / "model.safetensors", bytes.data(), bytes.size());
  const auto loaded = model::LoadLanguageModel(directory.string());
  if (loaded.ok()) return 0;
  std::fprintf(stderr, "%s\n", loaded.error().message.c_str());
  return 1;
}

}  // namespace polyveil::testing
