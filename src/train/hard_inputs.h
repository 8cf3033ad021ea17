// Inputs that no training text holds and that somebody will send: repeated tokens, tables, code,
// symbols, digits, other scripts, bytes. The same seed gives the same input everywhere.
#pragma once

#include <cstdint>
#include <random>
#include <string>
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

// Rows of `context` tokens, the end mark first. One row in four turns from the data's text, and one
// in eight from another kind, into its own kind somewhere in its middle.
class HardInputs {
 public:
  // text: what kText and the turning rows read, or null (random tokens stand in). Both must outlive
  // this.
  HardInputs(const model::Tokenizer& tokenizer, const std::map<std::string, TokenStream>* text,
             int context);

  // The row number `index` of a kind under a seed.
  std::vector<std::int64_t> Row(InputKind kind, std::uint64_t seed, std::uint64_t index) const;

  // Every token once: `token` to the end, nothing before it but the end mark.
  std::vector<std::int64_t> Repeated(std::int64_t token) const;

  int vocab_size() const { return tokenizer_.vocab_size(); }
  const model::Tokenizer& tokenizer() const { return tokenizer_; }

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

  const model::Tokenizer& tokenizer_;
  const std::map<std::string, TokenStream>* text_;
  std::size_t context_;
};

// A batch of given rows: every token is the target of the one before it.
Batch RowsToBatch(const std::vector<std::vector<std::int64_t>>& rows);

}  // namespace polyveil::train
