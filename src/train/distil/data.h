// Rows of text for a conversion: stories in the model's own tokens, and text that it wrote itself.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/client/text/text_tokenizer.h"
#include "train/dataset.h"
#include "train/distil/config.h"

namespace polyveil::train {

struct DistilText {
  std::vector<std::int32_t> train, heldout;  // documents one after another, a blank line between
  std::vector<std::string> heldout_lines;    // paragraphs, for embeddings
  std::vector<std::int32_t> sampled;         // rows of context + 1 - prefix tokens
  std::vector<int> prefix, suffix;           // of every row; an encoder's marks around a text
  bool causal = true;
  int context = 0;

  int sampled_length() const { return context + 1 - static_cast<int>(prefix.size()); }
};

// The stories below a folder, split as corpus.h splits them. Errors: as ReadStories; kOutOfRange
// for text shorter than a row.
Result<DistilText> ReadDistilText(const std::string& stories, const model::TextTokenizer& tokenizer,
                                  const model::Architecture& architecture,
                                  const DistilConfig& config);

// Rows of one step, the same on every machine: inputs [batch, context] begin with the prefix,
// targets are the next tokens, -100 inside the prefix. An encoder's rows have marks at both ends,
// no targets, and a length of its own in every batch.
Batch DrawDistilBatch(const DistilText& text, int rows, double sampled_share, std::uint64_t seed,
                      std::int64_t step);

// Rows spread evenly over the held-out text, `batch` at a time.
std::vector<Batch> HeldoutDistilBatches(const DistilText& text, int rows, int batch);

}  // namespace polyveil::train
