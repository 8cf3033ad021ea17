// BERT's normaliser and cuts. The published tokenizers take punctuation, controls and marks from
// Unicode 8 (the unicode_categories crate), so characters that came later are none of them here.
#include <algorithm>

#include "model/client/text/text_steps.h"

namespace polyveil::model {
namespace {

// Ranges whose punctuation, controls and marks are all younger than Unicode 8.
constexpr std::pair<char32_t, char32_t> kYounger[] = {
    {0x61D, 0x61D},     {0x7FD, 0x7FD},     {0x890, 0x8E2},     {0x9FD, 0x9FE},
    {0xA76, 0xA76},     {0xAFA, 0xAFF},     {0xB55, 0xB55},     {0xC04, 0xC3C},
    {0xC77, 0xC77},     {0xC84, 0xC84},     {0xD00, 0xD00},     {0xD3B, 0xD3C},
    {0xD81, 0xD81},     {0xEBA, 0xEBA},     {0xECE, 0xECE},     {0x180F, 0x1886},
    {0x1ABF, 0x1ACE},   {0x1B7D, 0x1B7E},   {0x1DF6, 0x1DFB},   {0x2E43, 0x2E5D},
    {0xA82C, 0xA82C},   {0xA8C5, 0xA8C5},   {0xA8FF, 0xA8FF},   {0xA9BD, 0xA9BD},
    {0x10D24, 0x10F89}, {0x11070, 0x11074}, {0x110C2, 0x110CD}, {0x111CF, 0x111CF},
    {0x1123E, 0x11241}, {0x1133B, 0x1133B}, {0x11438, 0x1145E}, {0x11660, 0x1166C},
    {0x116B9, 0x116B9}, {0x1182F, 0x11FFF}, {0x12FF1, 0x13455}, {0x16E97, 0x16F4F},
    {0x16FE2, 0x16FE4}, {0x1CF00, 0x1CF46}, {0x1E000, 0x1E4EF}, {0x1E944, 0x1E95F}};
// Two that changed their class since.
constexpr char32_t kOldPunctuation[] = {0x166D, 0x111C9};
constexpr char32_t kOldMark = 0x1734;

bool IsYounger(char32_t code) {
  const auto it = std::lower_bound(std::begin(kYounger), std::end(kYounger), code,
                                   [](const auto& range, char32_t c) { return range.second < c; });
  return it != std::end(kYounger) && code >= it->first;
}

bool IsBertPunctuation(char32_t code) {
  return code == kOldPunctuation[0] || code == kOldPunctuation[1] ||
         (IsPunctuation(code) && !IsYounger(code));
}

bool IsBertControl(char32_t code) { return IsControl(code) && !IsYounger(code); }

bool IsBertMark(char32_t code) {
  return code == kOldMark ||
         (IsNonspacingMark(code) && code != kOldPunctuation[1] && !IsYounger(code));
}

bool IsChinese(char32_t c) {
  // As tokenizers has them: the start of the fifth range is theirs.
  static constexpr std::pair<char32_t, char32_t> kRanges[] = {
      {0x4E00, 0x9FFF},   {0x3400, 0x4DBF},   {0x20000, 0x2A6DF}, {0x2A700, 0x2B73F},
      {0x2B740, 0x2B81F}, {0x2B920, 0x2CEAF}, {0xF900, 0xFAFF},   {0x2F800, 0x2FA1F}};
  for (const auto& [lo, hi] : kRanges)
    if (c >= lo && c <= hi) return true;
  return false;
}

bool IsAsciiPunctuation(char32_t c) { return c > ' ' && c < 0x7f && !IsLetter(c) && !IsNumber(c); }

std::string CleanBert(std::string_view text, bool clean, bool chinese) {
  std::string out;
  ForEachCharacter(text, [&](char32_t c, std::string_view bytes) {
    const bool blank = c == '\t' || c == '\n' || c == '\r' || IsSpace(c);
    const bool tab_or_line = c == '\t' || c == '\n' || c == '\r';
    if (clean && (c == 0 || c == 0xfffd || (IsBertControl(c) && !tab_or_line))) return;
    if (clean && blank) {
      out += ' ';
    } else if (chinese && IsChinese(c)) {
      out.append(" ").append(bytes).append(" ");
    } else {
      out += bytes;
    }
  });
  return out;
}

}  // namespace

Normalizer NormalizerBert(bool clean, bool chinese, bool strip_accents, bool lowercase) {
  return [=](std::string_view text) {
    std::string out = CleanBert(text, clean, chinese);
    if (strip_accents) out = Without(NormalizeText(out, NormalForm::kNfd), IsBertMark);
    return lowercase ? LowercaseText(out) : out;
  };
}

PreTokenizer SplitBert() {
  return SplitWith([](std::string_view text, auto emit) {
    std::size_t begin = 0, at = 0;
    while (at < text.size()) {
      const Character c = CharacterAt(text, at);
      const bool sign = IsAsciiPunctuation(c.code) || IsBertPunctuation(c.code);
      if (sign || IsSpace(c.code)) {
        emit(text.substr(begin, at - begin));
        if (sign) emit(text.substr(at, c.bytes));
        begin = at + c.bytes;
      }
      at += c.bytes;
    }
    emit(text.substr(begin));
  });
}

}  // namespace polyveil::model
