#include "train/distil/data.h"

#include <algorithm>
#include <random>
#include <sstream>

#include "train/corpus.h"

namespace polyveil::train {
namespace {

constexpr std::size_t kLineBytes = 80;  // paragraphs of fewer are no sentences to compare
constexpr int kShortest = 16;           // tokens of an encoder's row

void Append(std::vector<std::int32_t>& stream, const std::string& text,
            const model::TextTokenizer& tokenizer) {
  const auto ids = tokenizer.Encode(text + "\n\n");
  stream.insert(stream.end(), ids.begin(), ids.end());
}

// One row's tokens: the marks around `length` tokens from `from` on.
void PutRow(const DistilText& text, const std::int32_t* from, int length, torch::Tensor row) {
  auto* out = row.data_ptr<std::int64_t>();
  out = std::copy(text.prefix.begin(), text.prefix.end(), out);
  out = std::copy(from, from + length, out);
  std::copy(text.suffix.begin(), text.suffix.end(), out);
}

// rows [rows, context + 1] of a decoder -> inputs and targets.
Batch Shifted(const DistilText& text, const torch::Tensor& rows) {
  Batch batch{rows.narrow(1, 0, text.context).clone(), rows.narrow(1, 1, text.context).clone()};
  batch.targets.narrow(1, 0, static_cast<std::int64_t>(text.prefix.size())).fill_(-100);
  return batch;
}

Batch MakeBatch(const DistilText& text, const std::vector<const std::int32_t*>& starts,
                int length) {
  const auto marks = static_cast<int>(text.prefix.size() + text.suffix.size());
  const torch::Tensor rows =
      torch::zeros({static_cast<std::int64_t>(starts.size()), length + marks}, torch::kInt64);
  for (std::size_t i = 0; i < starts.size(); ++i)
    PutRow(text, starts[i], length, rows[static_cast<std::int64_t>(i)]);
  return text.causal ? Shifted(text, rows) : Batch{rows, torch::Tensor()};
}

// Tokens of a row beside its marks: an encoder's are drawn, a decoder's are one more than it reads.
int RowLength(const DistilText& text, std::mt19937_64& random) {
  const auto marks = static_cast<int>(text.prefix.size() + text.suffix.size());
  if (text.causal) return text.sampled_length();
  const int longest = text.context - marks, shortest = std::min(kShortest, longest);
  return shortest + static_cast<int>(random() % static_cast<std::uint64_t>(longest - shortest + 1));
}

}  // namespace

Result<DistilText> ReadDistilText(const std::string& stories, const model::TextTokenizer& tokenizer,
                                  const model::Architecture& architecture,
                                  const DistilConfig& config) {
  PV_ASSIGN_OR_RETURN(const Corpus corpus, ReadCorpus(stories, {}));
  DistilText text;
  text.causal = architecture.causal;
  text.context = config.context;
  text.prefix = config.prefix;
  if (!text.causal) {
    text.prefix = tokenizer.parts().prefix;
    text.suffix = tokenizer.parts().suffix;
  }
  for (const Document& document : corpus.train) Append(text.train, document.text, tokenizer);
  for (const Document& document : corpus.heldout) {
    Append(text.heldout, document.text, tokenizer);
    std::istringstream lines(document.text);
    for (std::string line; std::getline(lines, line);)
      if (line.size() >= kLineBytes) text.heldout_lines.push_back(line);
  }
  for (const auto* stream : {&text.train, &text.heldout})
    if (stream->size() <= static_cast<std::size_t>(config.context))
      return MakeError(ErrorCode::kOutOfRange, "{}: {} tokens of text, a row has {}", stories,
                       stream->size(), config.context);
  return text;
}

Batch DrawDistilBatch(const DistilText& text, int rows, double sampled_share, std::uint64_t seed,
                      std::int64_t step) {
  std::mt19937_64 random(seed * 0x9E3779B97F4A7C15 + static_cast<std::uint64_t>(step));
  const int length = RowLength(text, random);
  const std::size_t samples = text.sampled.size() / static_cast<std::size_t>(text.sampled_length());
  std::vector<const std::int32_t*> starts;
  for (int i = 0; i < rows; ++i) {
    const double choice = static_cast<double>(random() >> 11) * 0x1p-53;
    if (samples > 0 && choice < sampled_share) {
      starts.push_back(text.sampled.data() +
                       random() % samples * static_cast<std::size_t>(text.sampled_length()));
    } else {
      starts.push_back(text.train.data() +
                       random() % (text.train.size() - static_cast<std::size_t>(length)));
    }
  }
  return MakeBatch(text, starts, length);
}

std::vector<Batch> HeldoutDistilBatches(const DistilText& text, int rows, int batch) {
  std::mt19937_64 random(1);
  const auto marks = static_cast<int>(text.prefix.size() + text.suffix.size());
  const int length = text.causal ? text.sampled_length() : text.context - marks;
  const std::size_t room = text.heldout.size() - static_cast<std::size_t>(length);
  std::vector<Batch> batches;
  std::vector<const std::int32_t*> starts;
  for (int i = 0; i < rows; ++i) {
    starts.push_back(text.heldout.data() +
                     room * static_cast<std::size_t>(i) / static_cast<std::size_t>(rows));
    if (static_cast<int>(starts.size()) < batch && i + 1 < rows) continue;
    batches.push_back(MakeBatch(text, starts, length));
    starts.clear();
  }
  return batches;
}

}  // namespace polyveil::train
