// What stands between a text and the token model: normalisers, then cuts into pieces. Behaviour
// after Hugging Face's tokenizers 0.20, whose files name these parts.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/strict_json.h"

namespace polyveil::model {

using Normalizer = std::function<std::string(std::string_view)>;

// A part of the text on its way to the model.
struct Piece {
  std::string text;
  bool first;  // begins the whole text
};
using PreTokenizer = std::function<void(std::vector<Piece>&)>;

// How a pattern of released byte-level tokenizers cuts: runs of letters, numbers, signs and spaces.
struct SplitRule {
  bool caseless_contractions;  // 's 't 're 've 'm 'll 'd also as 'S ...
  bool any_prefix;  // one sign or space of any kind joins the letters behind it, not ' ' only
  int max_digits;   // numbers are cut after so many; 0 for never
  bool newlines;    // line ends join signs before them, and end a run of spaces
};
extern const SplitRule kGpt2Split, kLlama3Split, kQwen2Split;

// Bytes of the first piece. Requires text not empty.
std::size_t FirstPiece(std::string_view text, const SplitRule& rule);

Normalizer NormalizerBert(bool clean, bool chinese, bool strip_accents, bool lowercase);
Normalizer NormalizerReplace(std::string from, std::string to);
Normalizer NormalizerPrepend(std::string prefix);

PreTokenizer SplitByRule(const SplitRule& rule);
PreTokenizer SplitDigits(bool individual);
PreTokenizer SplitBert();
PreTokenizer AddPrefixSpace();
// Spaces become `mark`, which is also put before the text ("always": before every part) when it
// does not begin with one.
enum class PrependScheme { kNever, kFirst, kAlways };
PreTokenizer Metaspace(std::string mark, PrependScheme scheme, bool split);

// The parts that tokenizer.json describes; null gives none. byte_level: set when a ByteLevel step
// asks for pieces as bytes. Errors: kMismatch for a type or pattern that is not implemented, named.
Result<std::vector<Normalizer>> ParseNormalizers(const JsonReader::Json& json);
Result<std::vector<PreTokenizer>> ParsePreTokenizers(const JsonReader::Json& json,
                                                     bool* byte_level);

}  // namespace polyveil::model
