#include "base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

namespace polyveil {
namespace {

struct CodePoint {
  std::uint32_t value = 0;
  size_t bytes = 0;  // 0: no UTF-8
};

CodePoint Decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return {first, 1};
  const size_t bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < bytes) return {};
  std::uint32_t value = first & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    value = value << 6 | (byte(i) & 0x3fu);
  }
  constexpr std::uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < kSmallest[bytes] || value > 0x10ffff || surrogate) return {};
  return {value, bytes};
}

// Controls, and the format characters that reorder, hide or break a line.
bool IsUnsafe(std::uint32_t c) {
  constexpr std::pair<std::uint32_t, std::uint32_t> kRanges[] = {
      {0x00, 0x1f},     {0x7f, 0x9f},     {0x61c, 0x61c},   {0x200b, 0x200b}, {0x200e, 0x200f},
      {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};
  return std::any_of(std::begin(kRanges), std::end(kRanges),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}

std::string Escape(std::uint32_t c) {
  if (c == '\n') return "\\n";
  return c < 0x80 ? fmt::format("\\x{:02x}", c) : fmt::format("\\u{{{:x}}}", c);
}

std::string Convert(std::string_view text, size_t max_bytes, bool keep_lines) {
  std::string out;
  while (!text.empty()) {
    const CodePoint c = Decode(text);
    const size_t bytes = std::max<size_t>(1, c.bytes);
    std::string piece(text.substr(0, bytes));
    if (c.bytes == 0) {
      piece = fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    } else if (IsUnsafe(c.value) && !(keep_lines && (c.value == '\n' || c.value == '\t'))) {
      piece = Escape(c.value);
    }
    if (out.size() + piece.size() > max_bytes) {
      return out + fmt::format("... ({} bytes more)", text.size());
    }
    out += piece;
    text.remove_prefix(bytes);
  }
  return out;
}

}  // namespace

std::string Printable(std::string_view text, size_t max_bytes) {
  return Convert(text, max_bytes, false);
}

std::string PrintableLines(std::string_view text, size_t max_bytes) {
  return Convert(text, max_bytes, true);
}

}  // namespace polyveil
