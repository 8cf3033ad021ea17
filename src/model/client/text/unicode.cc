#include "model/client/text/unicode.h"

#include <utf8proc.h>

#include <cstdlib>
#include <memory>

namespace polyveil::model {
namespace {

utf8proc_category_t Category(char32_t code) {
  return code == kInvalid ? UTF8PROC_CATEGORY_SO
                          : utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool InCategories(char32_t code, utf8proc_category_t first, utf8proc_category_t last) {
  const auto category = Category(code);
  return category >= first && category <= last;
}

utf8proc_option_t Options(NormalForm form) {
  constexpr auto kStable = UTF8PROC_STABLE;
  switch (form) {
    case NormalForm::kNfc:
      return static_cast<utf8proc_option_t>(kStable | UTF8PROC_COMPOSE);
    case NormalForm::kNfd:
      return static_cast<utf8proc_option_t>(kStable | UTF8PROC_DECOMPOSE);
    case NormalForm::kNfkc:
      return static_cast<utf8proc_option_t>(kStable | UTF8PROC_COMPOSE | UTF8PROC_COMPAT);
    case NormalForm::kNfkd:
      return static_cast<utf8proc_option_t>(kStable | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT);
  }
  return kStable;
}

// Appends the normal form of valid UTF-8.
void AppendNormalized(std::string_view text, NormalForm form, std::string& out) {
  if (text.empty()) return;
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t length =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result, Options(form));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(result, &std::free);
  if (length < 0) {
    out += text;  // a code point that the tables refuse
  } else {
    out.append(reinterpret_cast<const char*>(result), static_cast<std::size_t>(length));
  }
}

}  // namespace

Character CharacterAt(std::string_view text, std::size_t at) {
  const auto first = static_cast<unsigned char>(text[at]);
  if (first < 0x80) return {first, 1};
  utf8proc_int32_t code = 0;
  const utf8proc_ssize_t bytes =
      utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                       static_cast<utf8proc_ssize_t>(text.size() - at), &code);
  if (bytes <= 0) return {kInvalid, 1};
  return {static_cast<char32_t>(code), static_cast<std::size_t>(bytes)};
}

bool IsLetter(char32_t code) {
  if (code < 0x80) return (code | 0x20) >= 'a' && (code | 0x20) <= 'z';
  return InCategories(code, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}

bool IsNumber(char32_t code) {
  if (code < 0x80) return code >= '0' && code <= '9';
  return InCategories(code, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

bool IsSpace(char32_t code) {
  if (code < 0x80) return code == ' ' || (code >= '\t' && code <= '\r');
  return code == 0x85 || InCategories(code, UTF8PROC_CATEGORY_ZS, UTF8PROC_CATEGORY_ZP);
}

bool IsPunctuation(char32_t code) {
  return InCategories(code, UTF8PROC_CATEGORY_PC, UTF8PROC_CATEGORY_PO);
}

bool IsMark(char32_t code) {
  return InCategories(code, UTF8PROC_CATEGORY_MN, UTF8PROC_CATEGORY_ME);
}

bool IsNonspacingMark(char32_t code) { return Category(code) == UTF8PROC_CATEGORY_MN; }

bool IsControl(char32_t code) {
  return InCategories(code, UTF8PROC_CATEGORY_CC, UTF8PROC_CATEGORY_CO);
}

std::string NormalizeText(std::string_view text, NormalForm form) {
  std::string out;
  std::size_t valid_from = 0, at = 0;
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (c.code == kInvalid) {
      AppendNormalized(text.substr(valid_from, at - valid_from), form, out);
      out += text[at];
      valid_from = at + 1;
    }
    at += c.bytes;
  }
  AppendNormalized(text.substr(valid_from), form, out);
  return out;
}

std::string LowercaseText(std::string_view text) {
  std::string out;
  ForEachCharacter(text, [&](char32_t code, std::string_view bytes) {
    if (code == kInvalid) {
      out += bytes;
    } else if (code == 0x130) {  // the one whose full lower case is two characters
      out += "i\u0307";
    } else {
      AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))), out);
    }
  });
  return out;
}

}  // namespace polyveil::model
