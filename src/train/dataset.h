// Token streams by source, and windows drawn from them reproducibly from (seed, step).
#pragma once

#include <torch/torch.h>

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/client/tokenizer.h"
#include "train/corpus.h"

namespace polyveil::train {

// One source's stories, each followed by the end mark.
struct TokenStream {
  std::vector<std::int32_t> tokens;
  std::vector<std::int64_t> line_starts;  // first tokens of stories and lines
  std::uint64_t bytes = 0;
};

struct Dataset {
  std::map<std::string, TokenStream> train;    // by source
  std::map<std::string, TokenStream> heldout;  // by source
  int vocab_size = 0;

  std::uint64_t TrainTokens() const;
  std::uint64_t HeldoutTokens() const;
};

// inputs and targets [batch, context], int64: inputs begin with the end mark at position 0.
struct Batch {
  torch::Tensor inputs;
  torch::Tensor targets;
};

Dataset Tokenize(const Corpus& corpus, const model::Tokenizer& tokenizer);

// Draws `batch` windows: a source with probability ~ weight x tokens, then (one time in two) a
// line's start or any token. The same (seed, step) gives the same batch on every machine.
Batch DrawBatch(const Dataset& data, const std::map<std::string, double>& weights, int batch,
                int context, std::uint64_t seed, std::int64_t step);

// Each row with this chance: tokens behind the first one drawn uniformly from the vocabulary,
// targets -100 (not counted). The same (seed, step) gives the same rows on every machine.
void ReplaceByRandomRows(Batch& batch, double chance, int vocab_size, std::uint64_t seed,
                         std::int64_t step);

// Consecutive windows of a stream from token `skip` on, each behind an end mark; the last window is
// padded with targets -100 (not counted).
std::vector<Batch> SequentialBatches(const TokenStream& stream, int batch, int context,
                                     std::int64_t skip = 0);

// Folder form: tokenizer.json, dataset.json (sizes, bytes), <part>.<source>.bin (int32 little
// endian).
Status SaveDataset(const Dataset& data, const model::Tokenizer& tokenizer, const Corpus& corpus,
                   const std::string& folder);
// Errors: kCorrupt for a file that dataset.json does not describe (both values), a source without
// tokens and a token outside the vocabulary; those of ReadBundleFile and LoadTokenizer.
Result<Dataset> LoadDataset(const std::string& folder);

}  // namespace polyveil::train
