// Hard inputs in training: of every step's batch some rows are exchanged for the worst of many
// candidates, so that hinges act where intervals are left. Their predictions do not count.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "train/search.h"

namespace polyveil::train {

class HardRows {
 public:
  // data_folder: where the tokenizer lies. Files of options.hard_files (reports of a search) are
  // relative to runs. data must outlive this. Errors: those of the files; kMismatch for rows of
  // another context or vocabulary.
  static Result<HardRows> Load(const TrainConfig& config, const Dataset& data,
                               const std::string& data_folder, const std::string& runs);

  // Exchanges options.hard_rows of the batch's rows, its last ones. The same model, seed and step
  // choose the same rows. Requires model.polynomials; reads model.clamp.
  void Replace(const Transformer& model, Batch& batch, std::uint64_t seed, std::int64_t step) const;

 private:
  std::vector<TokenRow> Candidates(std::size_t wanted, std::uint64_t seed, std::int64_t step) const;

  PolynomialOptions options_;
  std::shared_ptr<const model::Tokenizer> tokenizer_;
  std::shared_ptr<const HardInputs> inputs_;
  std::vector<TokenRow> found_;
};

}  // namespace polyveil::train
