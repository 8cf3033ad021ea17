// Text that came from outside (a peer, a file, a model's output), made safe for a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace polyveil {

// A copy on one line that a terminal shows and does not obey: control characters (C0, C1, DEL),
// those that reorder or hide text, and bytes that are no UTF-8 are escaped (\n, \x1b, \u{202e});
// what would exceed max_bytes is replaced by a count. Other text is unchanged.
std::string Printable(std::string_view text, size_t max_bytes = 1024);
// The same with line feeds and tabs kept, for text of several lines.
std::string PrintableLines(std::string_view text, size_t max_bytes);

}  // namespace polyveil
