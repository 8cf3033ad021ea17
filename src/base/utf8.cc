#include "base/utf8.h"

#include "base/check.h"

namespace polyveil {
namespace {

constexpr char32_t kReplacement = 0xfffd;

// Bytes of the character that begins so; 0: none does.
std::size_t BytesBehind(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  return first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
}

// The range of a character's second byte: other ones are overlong, surrogates or too large.
bool IsSecond(unsigned char first, unsigned char second) {
  const unsigned char lo = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char hi = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  return second >= lo && second <= hi;
}

// How many bytes of the text may stand in one character, which may go on behind it.
std::size_t Fitting(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const std::size_t bytes = BytesBehind(byte(0));
  if (bytes < 2) return bytes;
  std::size_t i = 1;
  while (i < bytes && i < text.size() &&
         (i == 1 ? IsSecond(byte(0), byte(1)) : (byte(i) & 0xc0) == 0x80))
    ++i;
  return i;
}

}  // namespace

CodePoint DecodeUtf8(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  const std::size_t bytes = BytesBehind(first);
  if (bytes == 0 || Fitting(text) < bytes) return {};
  if (bytes == 1) return {first, 1};
  char32_t value = first & (0x7fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i)
    value = value << 6 | (static_cast<unsigned char>(text[i]) & 0x3fu);
  return {value, bytes};
}

void AppendUtf8(char32_t code, std::string& out) {
  PV_CHECK(code <= 0x10ffff, "U+{:x} is no character", static_cast<std::uint32_t>(code));
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr unsigned kFirst[] = {0, 0xc0, 0xe0, 0xf0};
  out += static_cast<char>(kFirst[more] | code >> 6 * more);
  for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (code >> 6 * i & 0x3f));
}

std::string Utf8Stream::Take(std::string_view piece, bool last) {
  std::string text = std::move(pending_) + std::string(piece), out;
  pending_.clear();
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t bytes = DecodeUtf8(rest).bytes;
    const std::size_t fitting = Fitting(rest);
    if (bytes == 0 && fitting == rest.size() && !last) break;
    if (bytes > 0) {
      out += rest.substr(0, bytes);
    } else {
      AppendUtf8(kReplacement, out);
    }
    rest.remove_prefix(bytes > 0 ? bytes : fitting > 0 ? fitting : 1);
  }
  pending_ = rest;
  return out;
}

}  // namespace polyveil
