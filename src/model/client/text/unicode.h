// UTF-8 text, character by character, with the properties that tokenizers ask for.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/utf8.h"

namespace polyveil::model {

// One character of text; a byte that is no UTF-8 is a character of its own, neither letter, number
// nor space.
struct Character {
  char32_t code;
  std::size_t bytes;
};
constexpr char32_t kInvalid = 0xffffffff;

// Requires at < text.size().
Character CharacterAt(std::string_view text, std::size_t at);
// Calls fn(code, bytes of it as a view) for every character.
template <typename Fn>
void ForEachCharacter(std::string_view text, Fn fn) {
  for (std::size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    fn(c.code, text.substr(at, c.bytes));
    at += c.bytes;
  }
}

bool IsLetter(char32_t code);       // \p{L}
bool IsNumber(char32_t code);       // \p{N}
bool IsSpace(char32_t code);        // White_Space
bool IsPunctuation(char32_t code);  // \p{P}
bool IsMark(char32_t code);         // \p{M}
bool IsNonspacingMark(char32_t code);
bool IsControl(char32_t code);  // \p{C} without the unassigned

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
// Invalid bytes stay.
std::string NormalizeText(std::string_view text, NormalForm form);
// Character by character, without context.
std::string LowercaseText(std::string_view text);

}  // namespace polyveil::model
