// Rows of text for a conversion, in the model's own tokens: a mixture of sources.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/client/text/text_tokenizer.h"
#include "train/distil/config.h"
#include "train/hard_inputs.h"

namespace polyveil::train {

// What a model's chat template puts around a user's words, behind the prefix; empty: it has none.
struct ChatMarks {
  std::vector<std::int32_t> open, close;
};
// Errors: those of the client's files and of ChatTemplate::For.
Result<ChatMarks> ChatMarksOf(const std::shared_ptr<const model::Checkpoint>& checkpoint,
                              const std::vector<int>& prefix);

struct DistilText {
  struct Source {
    DistilSource options;
    // A stream of documents, a blank line between; of sampled text rows of row_length() tokens.
    std::vector<std::int32_t> tokens;
  };
  std::vector<Source> sources;
  std::map<std::string, std::vector<std::int32_t>> heldout;  // streams, by source
  std::vector<std::string> heldout_lines;                    // paragraphs, for embeddings
  // Of every row; an encoder has marks around a text.
  std::vector<int> prefix, suffix;
  ChatMarks chat;
  std::shared_ptr<const HardInputs> hard;        // rows of row_length() tokens, no prefix
  std::vector<std::vector<std::int64_t>> found;  // the same, of searches
  int context = 0;
  bool causal = true;

  // Tokens between a row's marks; a decoder's are one more than it reads.
  int row_length() const {
    return context + (causal ? 1 : 0) - static_cast<int>(prefix.size() + suffix.size());
  }
};

// The texts of a config's sources below a folder, each split as corpus.h splits it; sampled text is
// another's part. tokenizer must outlive the text. Errors: as ReadCorpus; kOutOfRange for a source
// shorter than a row.
Result<DistilText> ReadDistilText(const std::string& folder, const model::TextTokenizer& tokenizer,
                                  const model::Architecture& architecture,
                                  const DistilConfig& config);

// Rows of one step, the same on every machine: inputs [batch, context] begin with the prefix,
// targets are the next tokens, -100 inside the prefix. An encoder's rows have marks at both ends,
// no targets, and a length of its own in every batch. weights: by source, in the place of their
// own.
Batch DrawDistilBatch(const DistilText& text, int rows,
                      const std::map<std::string, double>& weights, std::uint64_t seed,
                      std::int64_t step);

// Rows spread evenly over a held-out stream, `batch` at a time.
std::vector<Batch> HeldoutDistilBatches(const DistilText& text,
                                        const std::vector<std::int32_t>& stream, int rows,
                                        int batch);

// What sequence `index` of a sampled source begins with, behind the prefix: nothing, or a user's
// words in the template.
std::vector<std::int32_t> SampleOpening(const DistilText& text, const DistilSource& source,
                                        std::uint64_t seed, std::int64_t index);

}  // namespace polyveil::train
