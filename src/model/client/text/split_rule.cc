// Hand-written scanners for the regular expressions that released tokenizers use.
#include "model/client/text/text_pipeline.h"
#include "model/client/text/unicode.h"

namespace polyveil::model {
namespace {

bool IsSign(char32_t code) { return !IsSpace(code) && !IsLetter(code) && !IsNumber(code); }
bool IsLineEnd(char32_t code) { return code == '\r' || code == '\n'; }

// End of the run of characters from `at` for which test holds, at most `limit` of them (0: all).
template <typename Test>
std::size_t RunEnd(std::string_view text, std::size_t at, Test test, int limit = 0) {
  for (int n = 0; at < text.size() && (limit == 0 || n < limit); ++n) {
    const Character c = CharacterAt(text, at);
    if (!test(c.code)) break;
    at += c.bytes;
  }
  return at;
}

char32_t FoldLetter(char32_t code) {
  if (code == 0x17f) return 's';  // the long s folds to s
  return code < 0x80 ? code | 0x20 : code;
}

// Bytes of a contraction at the start of text, 0 for none.
std::size_t Contraction(std::string_view text, bool caseless) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  char32_t letters[2] = {0, 0};
  std::size_t ends[2] = {0, 0}, at = 1;
  for (int i = 0; i < 2 && at < text.size(); ++i) {
    const Character c = CharacterAt(text, at);
    letters[i] = caseless ? FoldLetter(c.code) : c.code;
    ends[i] = at += c.bytes;
  }
  const char32_t first = letters[0], second = letters[1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return ends[0];
  const bool two =
      ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
  return two ? ends[1] : 0;
}

// Bytes up to the last line end of the run of spaces at the start, 0 for none.
std::size_t LineEndsOfRun(std::string_view text) {
  std::size_t end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    if (!IsSpace(c.code)) break;
    at += c.bytes;
    if (IsLineEnd(c.code)) end = at;
  }
  return end;
}

// A run of spaces leaves its last one to what follows.
std::size_t Spaces(std::string_view text) {
  std::size_t end = 0, before = 0;
  while (end < text.size()) {
    const Character c = CharacterAt(text, end);
    if (!IsSpace(c.code)) break;
    before = end;
    end += c.bytes;
  }
  return end < text.size() && before > 0 ? before : end;
}

}  // namespace

const SplitRule kGpt2Split{false, false, 0, false};
const SplitRule kLlama3Split{true, true, 3, true};
const SplitRule kQwen2Split{true, true, 1, true};

std::size_t FirstPiece(std::string_view text, const SplitRule& rule) {
  if (const auto n = Contraction(text, rule.caseless_contractions)) return n;
  const Character first = CharacterAt(text, 0);
  const std::size_t after_space = first.code == ' ' ? first.bytes : 0;
  const bool joins = rule.any_prefix
                         ? !IsLineEnd(first.code) && !IsLetter(first.code) && !IsNumber(first.code)
                         : first.code == ' ';
  for (const std::size_t from : {joins ? first.bytes : 0, std::size_t{0}})
    if (const auto end = RunEnd(text, from, IsLetter); end > from) return end;
  const std::size_t before_number = rule.max_digits == 0 ? after_space : 0;
  if (const auto end = RunEnd(text, before_number, IsNumber, rule.max_digits); end > before_number)
    return end;
  if (const auto end = RunEnd(text, after_space, IsSign); end > after_space)
    return rule.newlines ? RunEnd(text, end, IsLineEnd) : end;
  if (rule.newlines)
    if (const auto end = LineEndsOfRun(text)) return end;
  return Spaces(text);
}

}  // namespace polyveil::model
