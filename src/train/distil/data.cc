#include "train/distil/data.h"

#include <algorithm>
#include <sstream>

#include "model/client/chat_template.h"
#include "model/client/text/load_client_half.h"
#include "model/formats/checkpoint.h"
#include "model/import/client_files_of_checkpoint.h"
#include "train/corpus.h"
#include "train/draws.h"

namespace polyveil::train {
namespace {

using Random = std::mt19937_64;
using Tokens = std::vector<std::int32_t>;

constexpr std::size_t kLineBytes = 80;  // paragraphs of fewer are no sentences to compare
constexpr int kDocumentBytes = 4096;    // of texts that are not stories
constexpr int kFewestWords = 4;         // tokens of a user
constexpr int kFoundShare = 2;          // one hard row in so many is a search's find

void AppendText(Tokens& stream, const std::string& text, const model::TextTokenizer& tokenizer) {
  const auto ids = tokenizer.Encode(text + "\n\n");
  stream.insert(stream.end(), ids.begin(), ids.end());
}

double Uniform(Random& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

Status CheckLength(const std::string& name, std::size_t tokens, const DistilText& text) {
  if (tokens > static_cast<std::size_t>(text.context)) return {};
  return MakeError(ErrorCode::kOutOfRange, "source {}: {} tokens of text, a row has {}", name,
                   tokens, text.context);
}

// Its documents' tokens: those to train on and those held out, or all of them in the latter.
Status ReadSource(const std::string& folder, const DistilSource& source, bool held,
                  const model::TextTokenizer& tokenizer, DistilText& text) {
  const bool stories = source.kind == SourceKind::kStories;
  const std::string path = source.path.empty() ? folder : folder + "/" + source.path;
  CorpusOptions options;
  options.clean = stories;
  if (!stories) options.document_bytes = kDocumentBytes;
  Corpus corpus;
  if (held) {
    PV_ASSIGN_OR_RETURN(corpus.heldout, ReadStories(path, options.document_bytes, options.clean));
  } else {
    PV_ASSIGN_OR_RETURN(corpus, ReadCorpus(path, options));
  }
  Tokens train, heldout;
  for (const Document& document : corpus.train) AppendText(train, document.text, tokenizer);
  for (const Document& document : corpus.heldout) {
    AppendText(heldout, document.text, tokenizer);
    std::istringstream lines(document.text);
    for (std::string line; std::getline(lines, line);)
      if (line.size() >= kLineBytes) text.heldout_lines.push_back(line);
  }
  PV_RETURN_IF_ERROR(CheckLength(source.name, heldout.size(), text));
  if (!held) PV_RETURN_IF_ERROR(CheckLength(source.name, train.size(), text));
  if (!held) text.sources.back().tokens = std::move(train);
  text.heldout[source.name] = std::move(heldout);
  return {};
}

// The text sources: what users' words and hard rows' texts are cut out of.
std::vector<const DistilText::Source*> Texts(const DistilText& text) {
  std::vector<const DistilText::Source*> out;
  for (const auto& source : text.sources)
    if (source.options.kind <= SourceKind::kText) out.push_back(&source);
  return out;
}

std::span<const std::int32_t> Slice(const Tokens& stream, int length, Random& random) {
  const auto wanted = static_cast<std::size_t>(length);
  return std::span(stream).subspan(Below(random, stream.size() - wanted), wanted);
}

template <typename List>
void Append(Tokens& row, const List& more) {
  row.insert(row.end(), more.begin(), more.end());
}

// A user's words of up to `most` tokens in the template, up to where the answer begins.
void AppendUser(const DistilText& text, const Tokens& stream, int most, Random& random,
                Tokens& row) {
  const int range = std::max(1, most - kFewestWords);
  const int words =
      kFewestWords + static_cast<int>(Below(random, static_cast<std::uint64_t>(range)));
  Append(row, text.chat.open);
  Append(row, Slice(stream, words, random));
  Append(row, text.chat.close);
}

// How many tokens a user may have so that an answer of as many fits into a row.
int LongestUser(const DistilText& text, int length) {
  return (length - static_cast<int>(text.chat.open.size() + text.chat.close.size())) / 2;
}

Tokens StreamRow(const DistilText& text, const DistilText::Source& source, int length,
                 Random& random) {
  Tokens row;
  const int most = LongestUser(text, length);
  if (Uniform(random) < source.options.chat && !text.chat.open.empty() && most > kFewestWords)
    AppendUser(text, source.tokens, most, random, row);
  Append(row, Slice(source.tokens, length - static_cast<int>(row.size()), random));
  return row;
}

Tokens HardRow(const DistilText& text, int length, Random& random) {
  std::vector<std::int64_t> row;
  if (!text.found.empty() && Below(random, kFoundShare) == 0) {
    row = text.found[Below(random, text.found.size())];
  } else {
    row = text.hard->Row(kInputKinds[Below(random, std::size(kInputKinds))], random(), 0);
  }
  return {row.begin(), row.begin() + length};
}

Tokens DrawRow(const DistilText& text, const DistilText::Source& source, int length,
               Random& random) {
  if (source.options.kind == SourceKind::kHard) return HardRow(text, length, random);
  if (source.options.kind != SourceKind::kSampled) return StreamRow(text, source, length, random);
  const auto size = static_cast<std::size_t>(text.row_length());
  const auto* first = source.tokens.data() + Below(random, source.tokens.size() / size) * size;
  return {first, first + length};
}

const DistilText::Source& DrawSource(const DistilText& text,
                                     const std::map<std::string, double>& weights, Random& random) {
  std::vector<double> sums;
  double sum = 0;
  for (const auto& source : text.sources) {
    const auto own = weights.find(source.options.name);
    sums.push_back(sum += own == weights.end() ? source.options.weight : own->second);
  }
  const double choice = Uniform(random) * sum;
  const auto at = std::upper_bound(sums.begin(), sums.end(), choice) - sums.begin();
  return text.sources[std::min(static_cast<std::size_t>(at), sums.size() - 1)];
}

// rows [rows, context + 1] of a decoder -> inputs and targets.
Batch Shifted(const DistilText& text, const torch::Tensor& rows) {
  Batch batch{rows.narrow(1, 0, text.context).clone(), rows.narrow(1, 1, text.context).clone()};
  batch.targets.narrow(1, 0, static_cast<std::int64_t>(text.prefix.size())).fill_(-100);
  return batch;
}

// Rows of one length between the marks.
Batch MakeBatch(const DistilText& text, const std::vector<Tokens>& rows) {
  std::vector<std::int64_t> all;
  for (const Tokens& row : rows) {
    all.insert(all.end(), text.prefix.begin(), text.prefix.end());
    all.insert(all.end(), row.begin(), row.end());
    all.insert(all.end(), text.suffix.begin(), text.suffix.end());
  }
  const torch::Tensor tokens =
      torch::tensor(all, torch::kInt64).view({static_cast<std::int64_t>(rows.size()), -1});
  return text.causal ? Shifted(text, tokens) : Batch{tokens, torch::Tensor()};
}

// An encoder's lengths are drawn from 1 on, every second one by its logarithm: few tokens see sums
// that many do not.
int DrawLength(const DistilText& text, Random& random) {
  const int longest = text.row_length();
  if (text.causal) return longest;
  const double share = Uniform(random);
  if (Below(random, 2) == 0)
    return static_cast<int>(std::exp(share * std::log(static_cast<double>(longest) + 0.5)));
  return 1 + static_cast<int>(share * longest);
}

RowTokens RowTokensOf(const model::TextTokenizer& tokenizer) {
  return {tokenizer.vocab_size(),
          [&tokenizer](std::string_view text) { return tokenizer.Encode(text); },
          [&tokenizer](std::int64_t token) {
            return tokenizer.BytesOf(static_cast<model::TokenId>(token));
          },
          {}};
}

}  // namespace

Result<ChatMarks> ChatMarksOf(const std::shared_ptr<const model::Checkpoint>& checkpoint,
                              const std::vector<int>& prefix) {
  auto prefixed = std::make_shared<model::Checkpoint>(*checkpoint);
  prefixed->forms.emplace();
  prefixed->forms->prefix = prefix;
  PV_ASSIGN_OR_RETURN(auto files, model::ClientFilesOfCheckpoint(prefixed, "original"));
  PV_ASSIGN_OR_RETURN(const auto half, model::MakeClientHalf(std::move(files)));
  PV_ASSIGN_OR_RETURN(const auto chat, model::ChatTemplate::For(*half));
  const auto head = chat.Head(chat.default_system());
  const auto whole = chat.FirstTurn(chat.default_system(), "");
  const auto same = std::ranges::mismatch(head, whole).in1 - head.begin();
  const auto first = static_cast<std::ptrdiff_t>(prefix.size());
  if (same < first)
    return MakeError(ErrorCode::kMismatch,
                     "the chat template does not begin with the prefix of {} tokens", first);
  return ChatMarks{{whole.begin() + first, whole.begin() + same},
                   {whole.begin() + same, whole.end()}};
}

Result<DistilText> ReadDistilText(const std::string& folder, const model::TextTokenizer& tokenizer,
                                  const model::Architecture& architecture,
                                  const DistilConfig& config) {
  DistilText text;
  text.causal = architecture.causal;
  text.context = config.context;
  text.prefix = config.prefix;
  if (!text.causal) {
    text.prefix = tokenizer.parts().prefix;
    text.suffix = tokenizer.parts().suffix;
  }
  for (const DistilSource& source : config.sources) {
    text.sources.push_back({source, {}});
    if (source.kind <= SourceKind::kText)
      PV_RETURN_IF_ERROR(ReadSource(folder, source, false, tokenizer, text));
  }
  for (const DistilSource& source : config.heldout)
    PV_RETURN_IF_ERROR(ReadSource(folder, source, true, tokenizer, text));
  RowTexts texts;
  for (const DistilText::Source* source : Texts(text)) texts.push_back(source->tokens);
  text.hard = std::make_shared<const HardInputs>(RowTokensOf(tokenizer), std::move(texts),
                                                 text.row_length());
  return text;
}

Batch DrawDistilBatch(const DistilText& text, int rows,
                      const std::map<std::string, double>& weights, std::uint64_t seed,
                      std::int64_t step) {
  Random random = Generator(seed, step);
  const int length = DrawLength(text, random);
  std::vector<Tokens> drawn;
  for (int i = 0; i < rows; ++i)
    drawn.push_back(DrawRow(text, DrawSource(text, weights, random), length, random));
  return MakeBatch(text, drawn);
}

std::vector<Batch> HeldoutDistilBatches(const DistilText& text, const Tokens& stream, int rows,
                                        int batch) {
  const auto length = static_cast<std::size_t>(text.row_length());
  const std::size_t room = stream.size() - length;
  std::vector<Batch> batches;
  std::vector<Tokens> part;
  for (int i = 0; i < rows; ++i) {
    const auto from =
        stream.begin() + static_cast<std::ptrdiff_t>(room * static_cast<std::size_t>(i) /
                                                     static_cast<std::size_t>(rows));
    part.emplace_back(from, from + static_cast<std::ptrdiff_t>(length));
    if (static_cast<int>(part.size()) < batch && i + 1 < rows) continue;
    batches.push_back(MakeBatch(text, part));
    part.clear();
  }
  return batches;
}

Tokens SampleOpening(const DistilText& text, const DistilSource& source, std::uint64_t seed,
                     std::int64_t index) {
  Random random = Generator(seed + 5915587277, index);
  Tokens row;
  const auto texts = Texts(text);
  const int most = std::min(48, LongestUser(text, text.row_length()));
  if (Uniform(random) >= source.chat || text.chat.open.empty() || most <= kFewestWords) return row;
  AppendUser(text, texts[Below(random, texts.size())]->tokens, most, random, row);
  return row;
}

}  // namespace polyveil::train
