// UTF-8, character by character.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace polyveil {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: the text does not begin with a character
};

// The first character of a text that is not empty: no overlong form, no surrogate, none above
// U+10FFFF.
CodePoint DecodeUtf8(std::string_view text);

// Requires code <= U+10FFFF.
void AppendUtf8(char32_t code, std::string& out);

// A text that arrives in pieces which may end inside a character.
class Utf8Stream {
 public:
  // The characters that the piece completes. A byte that belongs to none becomes U+FFFD.
  std::string Push(std::string_view piece) { return Take(piece, /*last=*/false); }
  // What was left of an unfinished character: one U+FFFD, or nothing.
  std::string Finish() { return Take({}, /*last=*/true); }

 private:
  std::string Take(std::string_view piece, bool last);

  std::string pending_;  // the beginning of one character
};

}  // namespace polyveil
