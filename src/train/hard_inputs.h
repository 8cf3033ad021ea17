// Inputs that no training text holds and that somebody will send: repeated tokens, tables, code,
// symbols, digits, other scripts, bytes. The same seed gives the same input everywhere.
#pragma once

#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/client/tokenizer.h"
#include "train/dataset.h"

namespace polyveil::train {

enum class InputKind {
  kRepeatedToken,  // one token to the end
  kRepeatedSpan,   // 2 to 12 tokens, repeated
  kFewTokens,      // 2 to 6 tokens in any order
  kRandomTokens,   // any tokens
  kRuns,           // random tokens, each repeated up to 60 times
  kTable,          // Markdown, CSV, tab-separated, JSON rows
  kCode,           // lines that look like C, Python or markup
  kSymbols,        // signs, in runs
  kDigits,         // numbers, dates, hexadecimal
  kScript,         // words of one Unicode block, emoji included
  kBytes,          // random bytes
  kText,           // the data's own text
};
inline constexpr InputKind kInputKinds[] = {
    InputKind::kRepeatedToken, InputKind::kRepeatedSpan, InputKind::kFewTokens,
    InputKind::kRandomTokens,  InputKind::kRuns,         InputKind::kTable,
    InputKind::kCode,          InputKind::kSymbols,      InputKind::kDigits,
    InputKind::kScript,        InputKind::kBytes,        InputKind::kText};
const char* InputKindName(InputKind kind);

// What rows are made of, whatever the tokenizer, which must outlive this.
struct RowTokens {
  int vocab_size = 0;
  std::function<std::vector<model::TokenId>(std::string_view)> encode;
  std::function<std::string(std::int64_t)> piece;  // a token's bytes; none of special ones
  std::vector<std::int64_t> first;                 // what every row begins with
};
RowTokens RowTokensOf(const model::Tokenizer& tokenizer);

// Texts that rows of text are cut out of.
using RowTexts = std::vector<std::span<const std::int32_t>>;
RowTexts RowTextsOf(const std::map<std::string, TokenStream>& streams);

// Rows of `context` tokens, RowTokens' first ones first. One row in four turns from the data's
// text, and one in eight from another kind, into its own kind somewhere in its middle.
class HardInputs {
 public:
  // text: what kText and the turning rows read, or nothing (random tokens stand in). It must
  // outlive this.
  HardInputs(RowTokens tokens, RowTexts text, int context);

  // The row number `index` of a kind under a seed.
  std::vector<std::int64_t> Row(InputKind kind, std::uint64_t seed, std::uint64_t index) const;

  // Every token once: `token` to the end, nothing before it but the first ones.
  std::vector<std::int64_t> Repeated(std::int64_t token) const;

  int vocab_size() const { return tokens_.vocab_size; }
  const RowTokens& tokens() const { return tokens_; }
  // Tokens that no row exchanges.
  std::size_t fixed() const { return tokens_.first.size(); }

 private:
  using Random = std::mt19937_64;
  using Row64 = std::vector<std::int64_t>;

  void Append(InputKind kind, std::size_t size, Random& random, Row64& row) const;
  void AppendTokens(InputKind kind, std::size_t size, Random& random, Row64& row) const;
  void AppendText(std::size_t size, Random& random, Row64& row) const;
  std::string Line(InputKind kind, int style, Random& random) const;
  std::string TableRow(int style, int columns, Random& random) const;
  std::string CodeLine(int style, Random& random) const;
  std::string Word(Random& random) const;
  std::int64_t Token(Random& random) const;

  RowTokens tokens_;
  RowTexts text_;
  std::size_t context_;
};

// A batch of given rows: every token is the target of the one before it.
Batch RowsToBatch(const std::vector<std::vector<std::int64_t>>& rows);

}  // namespace polyveil::train
