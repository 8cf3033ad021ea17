// Hard inputs in training: of every step's batch some rows are exchanged for the worst of many
// candidates and for rows that climb, one to every interval's end, so that hinges act where
// intervals are left. Their predictions do not count.
#pragma once

#include <map>
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

  // Exchanges options.hard_rows of the batch's rows, its last ones: half climbs, half candidates.
  // index: of the batch among all of a run's. part: of its step, each has climbs of its own. The
  // same model, seed, index and climbs choose the same rows. Requires model.polynomials; reads
  // model.clamp.
  void Replace(const Transformer& model, Batch& batch, std::uint64_t seed, std::int64_t index,
               int part);

  // Every climb begins anew: at a checkpoint, from which a run may go on without them.
  void Forget() { climbs_.clear(); }

 private:
  // A row on its way to one end by exchanged tokens, a few steps of training between two exchanges.
  struct Climb {
    TokenRow row;  // empty: not begun
    int idle = 0;  // exchanges without a gain
  };

  std::vector<TokenRow> Candidates(std::size_t wanted, std::uint64_t seed,
                                   std::int64_t index) const;

  PolynomialOptions options_;
  std::shared_ptr<const model::Tokenizer> tokenizer_;
  std::shared_ptr<const HardInputs> inputs_;
  std::vector<TokenRow> found_;
  std::map<int, std::vector<Climb>> climbs_;  // by part, by end
};

}  // namespace polyveil::train
