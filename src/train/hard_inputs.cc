#include "train/hard_inputs.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "base/utf8.h"
#include "train/draws.h"

namespace polyveil::train {
namespace {

using Random = std::mt19937_64;
constexpr int kTextShare = 4, kTurnShare = 8;  // one row in so many

template <typename List>
auto Pick(Random& random, const List& list) {
  return list[Below(random, std::size(list))];
}

struct Block {
  std::uint32_t first, last;
};
// Latin-1, Latin extended, Greek, Cyrillic, Hebrew, Arabic, Devanagari, Thai, Hangul, kana, Han,
// punctuation, arrows and mathematics, box drawing, symbols, emoji.
constexpr std::array<Block, 18> kBlocks = {{{0xC0, 0xFF},
                                            {0x100, 0x17F},
                                            {0x391, 0x3C9},
                                            {0x410, 0x44F},
                                            {0x5D0, 0x5EA},
                                            {0x621, 0x64A},
                                            {0x905, 0x939},
                                            {0xE01, 0xE2E},
                                            {0xAC00, 0xD7A3},
                                            {0x3041, 0x3096},
                                            {0x30A1, 0x30FA},
                                            {0x4E00, 0x9FA5},
                                            {0x2010, 0x2044},
                                            {0x2190, 0x22FF},
                                            {0x2500, 0x257F},
                                            {0x2600, 0x26FF},
                                            {0x1F300, 0x1F5FF},
                                            {0x1F600, 0x1F64F}}};
constexpr std::string_view kSigns = "|-=+*_#~.,:;!?/\\()[]{}<>@$%^&'\"` ";

std::string Number(Random& random) {
  const std::uint64_t style = Below(random, 6), digits = 1 + Below(random, style == 5 ? 24 : 5);
  std::string out;
  if (style == 0) out += '-';
  for (std::uint64_t i = 0; i < digits; ++i)
    out += style == 3 ? "0123456789abcdef"[Below(random, 16)]
                      : static_cast<char>('0' + Below(random, 10));
  if (style == 1) out += '.' + std::to_string(Below(random, 1000));
  if (style == 2)
    out += '-' + std::to_string(1 + Below(random, 12)) + "-" + std::to_string(Below(random, 31));
  if (style == 4) out += ':' + std::to_string(10 + Below(random, 50));
  return out;
}

std::string Signs(Random& random) {
  std::string out;
  const std::uint64_t runs = 1 + Below(random, 6);
  for (std::uint64_t i = 0; i < runs; ++i)
    out += std::string(1 + Below(random, Below(random, 3) == 0 ? 40 : 3), Pick(random, kSigns));
  return out;
}

std::string ScriptWords(Random& random, const Block& block) {
  std::string out;
  const std::uint64_t words = 1 + Below(random, 8);
  const bool repeats = Below(random, 4) == 0;
  for (std::uint64_t w = 0; w < words; ++w) {
    const std::uint64_t letters = 1 + Below(random, 9);
    std::uint32_t c = 0;
    for (std::uint64_t i = 0; i < letters; ++i) {
      if (i == 0 || !repeats)
        c = block.first + static_cast<std::uint32_t>(Below(random, block.last - block.first + 1));
      AppendUtf8(c, out);
    }
    out += Pick(random, std::string_view(" \n, "));
  }
  return out;
}

std::string RandomBytes(Random& random) {
  std::string out;
  for (std::uint64_t i = 0; i < 64; ++i) out += static_cast<char>(Below(random, 256));
  return out;
}

}  // namespace

const char* InputKindName(InputKind kind) {
  static constexpr const char* kNames[] = {
      "repeated token", "repeated span", "few tokens", "random tokens", "runs",  "table",
      "code",           "symbols",       "digits",     "other script",  "bytes", "text"};
  return kNames[static_cast<int>(kind)];
}

RowTokens RowTokensOf(const model::Tokenizer& tokenizer) {
  return {tokenizer.vocab_size(),
          [&tokenizer](std::string_view text) { return tokenizer.Encode(text); },
          [&tokenizer](std::int64_t token) {
            const auto piece = tokenizer.Piece(static_cast<model::TokenId>(token));
            return piece.ok() ? *piece : std::string();
          },
          {model::Tokenizer::kEnd}};
}

RowTexts RowTextsOf(const std::map<std::string, TokenStream>& streams) {
  RowTexts out;
  for (const auto& [source, stream] : streams) {
    PV_CHECK(!stream.tokens.empty(), "source {} has no tokens", source);
    out.push_back(stream.tokens);
  }
  return out;
}

HardInputs::HardInputs(RowTokens tokens, RowTexts text, int context)
    : tokens_(std::move(tokens)),
      text_(std::move(text)),
      context_(static_cast<std::size_t>(context)) {}

std::vector<std::int64_t> HardInputs::Row(InputKind kind, std::uint64_t seed,
                                          std::uint64_t index) const {
  Random random =
      Generator(seed * 31 + static_cast<std::uint64_t>(kind), static_cast<std::int64_t>(index));
  Row64 row = tokens_.first;
  row.reserve(context_ + 64);
  const std::size_t turn = 1 + Below(random, context_ - 1);
  if (Below(random, kTextShare) == 0) {
    Append(InputKind::kText, turn, random, row);
  } else if (Below(random, kTurnShare) == 0) {
    Append(Pick(random, kInputKinds), turn, random, row);
  }
  Append(kind, context_, random, row);
  return row;
}

std::vector<std::int64_t> HardInputs::Repeated(std::int64_t token) const {
  Row64 row = tokens_.first;
  row.resize(context_, token);
  return row;
}

// Fills the row up to `size` tokens.
void HardInputs::Append(InputKind kind, std::size_t size, Random& random, Row64& row) const {
  if (kind == InputKind::kText) {
    if (!text_.empty()) return AppendText(size, random, row);
    kind = InputKind::kRandomTokens;
  }
  if (kind <= InputKind::kRuns) return AppendTokens(kind, size, random, row);
  const int style = static_cast<int>(Below(random, 1024));
  while (row.size() < size)
    for (const model::TokenId id : tokens_.encode(Line(kind, style, random))) row.push_back(id);
  row.resize(size);
}

void HardInputs::AppendTokens(InputKind kind, std::size_t size, Random& random, Row64& row) const {
  Row64 set(kind == InputKind::kRepeatedToken  ? 1
            : kind == InputKind::kRepeatedSpan ? 2 + Below(random, 1 + Below(random, 11))
                                               : 2 + Below(random, 5));
  for (std::int64_t& token : set) token = Token(random);
  for (std::size_t i = 0; row.size() < size; ++i) {
    if (kind == InputKind::kRuns) {
      row.insert(row.end(), 1 + Below(random, 60), Token(random));
    } else {
      row.push_back(kind == InputKind::kRandomTokens ? Token(random)
                    : kind == InputKind::kFewTokens  ? Pick(random, set)
                                                     : set[i % set.size()]);
    }
  }
  row.resize(size);
}

void HardInputs::AppendText(std::size_t size, Random& random, Row64& row) const {
  const auto tokens = text_[Below(random, text_.size())];
  for (std::size_t at = Below(random, tokens.size()); row.size() < size; ++at)
    row.push_back(tokens[at % tokens.size()]);
}

std::string HardInputs::Line(InputKind kind, int style, Random& random) const {
  switch (kind) {
    case InputKind::kTable:
      return TableRow(style % 6, 1 + style / 6 % 8, random);
    case InputKind::kCode:
      return CodeLine(style, random);
    case InputKind::kSymbols:
      return Signs(random);
    case InputKind::kDigits:
      return Number(random) + Pick(random, std::string_view(" ,\n;"));
    case InputKind::kScript:
      return ScriptWords(random, kBlocks[static_cast<std::size_t>(style) % kBlocks.size()]);
    default:
      return RandomBytes(random);
  }
}

// Styles: Markdown, Markdown's rule or empty cells, comma, tab, JSON, aligned with spaces.
std::string HardInputs::TableRow(int style, int columns, Random& random) const {
  static constexpr const char* kOpen[] = {"| ", "|", "", "", "{\"a\": ", ""};
  static constexpr const char* kBetween[] = {" | ", "|", ",", "\t", ", \"b\": ", "   "};
  static constexpr const char* kClose[] = {" |\n", "|\n", "\n", "\n", "},\n", "\n"};
  std::string out = kOpen[style];
  const std::uint64_t filling = Below(random, style == 1 ? 4 : 8);
  for (int c = 0; c < columns; ++c) {
    if (c > 0) out += kBetween[style];
    if (filling == 0) out += std::string(1 + Below(random, 6), '-');
    if (filling > 1) out += Below(random, 2) == 0 ? Number(random) : Word(random);
  }
  return out + kClose[style];
}

std::string HardInputs::CodeLine(int style, Random& random) const {
  static constexpr const char* kWords[] = {
      "int ",   "for (",      "if (",  "return ", "def ",   "class ",  "import ", "self.",
      "void ",  "#include <", "std::", "const ",  "== ",    "!= ",     "->",      "= ",
      "() {\n", "}\n",        "});\n", "</div>",  "<span ", "while ",  "0x",      "&&",
      "print(", "\"%s\\n\"",  "//",    "/*",      "*/",     "lambda ", "[i]",     "+= 1;\n"};
  std::string out((static_cast<std::size_t>(style) % 3 + 1) * 2 * Below(random, 5), ' ');
  const std::uint64_t parts = 1 + Below(random, 8);
  for (std::uint64_t i = 0; i < parts; ++i) {
    out += Pick(random, kWords);
    if (Below(random, 2) == 0) out += Word(random);
    if (Below(random, 4) == 0) out += Number(random);
  }
  return out + "\n";
}

std::string HardInputs::Word(Random& random) const {
  for (;;) {
    const std::string piece = tokens_.piece(Token(random));
    if (!piece.empty()) return piece.front() == ' ' ? piece.substr(1) : piece;
  }
}

std::int64_t HardInputs::Token(Random& random) const {
  return static_cast<std::int64_t>(Below(random, static_cast<std::uint64_t>(tokens_.vocab_size)));
}

Batch RowsToBatch(const std::vector<std::vector<std::int64_t>>& rows) {
  PV_CHECK(!rows.empty(), "no rows");
  const auto context = static_cast<std::int64_t>(rows.front().size());
  const auto options = torch::TensorOptions().dtype(torch::kInt64);
  Batch batch{torch::empty({static_cast<std::int64_t>(rows.size()), context}, options),
              torch::full({static_cast<std::int64_t>(rows.size()), context}, -100, options)};
  std::int64_t* out = batch.inputs.data_ptr<std::int64_t>();
  for (const auto& row : rows) out = std::copy(row.begin(), row.end(), out);
  batch.targets.narrow(1, 0, context - 1).copy_(batch.inputs.narrow(1, 1, context - 1));
  return batch;
}

}  // namespace polyveil::train
