// Random tables and a fitted choice for a random model: a test's server that chooses tokens.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "compile/choice_lowering.h"
#include "model/choice.h"
#include "model/decoder_reference.h"
#include "support/random_model.h"

namespace polyveil::testing {

// Without column means in the head, as the loader leaves them.
inline std::shared_ptr<const model::ChoiceTables> RandomTables(int vocabulary, int width,
                                                               int positions, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  auto tables = std::make_shared<model::ChoiceTables>();
  tables->vocabulary = vocabulary;
  tables->width = width;
  tables->norm_eps = 1e-5;
  tables->digest = "random";
  const auto size = static_cast<size_t>(vocabulary * width);
  const double sigma = 3 / std::sqrt(width);
  for (size_t i = 0; i < size; ++i)
    tables->head.push_back(static_cast<float>(sigma * normal(random)));
  std::uniform_real_distribution<double> uniform(-1.7, 1.7);
  for (size_t i = 0; i < size; ++i)
    tables->embedding.push_back(static_cast<float>(uniform(random)));
  for (int i = 0; i < positions * width; ++i)
    tables->positions.push_back(static_cast<float>(0.2 * normal(random)));
  for (int c = 0; c < width; ++c) {
    double mean = 0;
    for (int v = 0; v < vocabulary; ++v)
      mean += tables->head[static_cast<size_t>(v * width + c)] / vocabulary;
    for (int v = 0; v < vocabulary; ++v)
      tables->head[static_cast<size_t>(v * width + c)] -= static_cast<float>(mean);
  }
  return tables;
}

// The embedding of a token at a position, as the loop feeds it.
inline std::vector<double> EmbeddingOf(const model::ChoiceTables& tables, int token, int position) {
  std::vector<double> x(static_cast<size_t>(tables.width));
  const auto row = tables.EmbeddingRow(token);
  const auto at = static_cast<size_t>(position * tables.width);
  for (size_t c = 0; c < x.size(); ++c)
    x[c] = row[c] + (at + c < tables.positions.size() ? tables.positions[at + c] : 0);
  return x;
}

// Fitted to texts of random tokens.
inline compile::Choice RandomChoice(const model::Decoder& decoder, int vocabulary,
                                    std::uint64_t seed, const model::ChoiceFit& options = {}) {
  compile::Choice choice;
  choice.tables = RandomTables(vocabulary, decoder.width(), decoder.context, seed);
  std::mt19937_64 random(seed);
  std::vector<std::vector<double>> residuals;
  model::DecoderReference reference(decoder);
  for (int text = 0; text < 40; ++text) {
    reference.Reset();
    for (int position = 0; position < decoder.context; ++position) {
      const int token = static_cast<int>(random() % static_cast<unsigned>(vocabulary));
      residuals.push_back(reference.Step(EmbeddingOf(*choice.tables, token, position)).value());
    }
  }
  choice.forms = model::FitChoice(*choice.tables, residuals, options).value();
  return choice;
}

}  // namespace polyveil::testing
