#include "base/printable.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "base/utf8.h"

namespace polyveil {
namespace {

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
    const CodePoint c = DecodeUtf8(text);
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
