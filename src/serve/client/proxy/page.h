// The page's files (page/), which the build makes part of the program.
#pragma once

#include <optional>
#include <string_view>

namespace polyveil::serve {

struct PageFile {
  const char* content_type;
  std::string_view text;
};

// Of "/", "/page.css", "/page.js"; nothing for other paths.
std::optional<PageFile> FindPageFile(std::string_view path);

}  // namespace polyveil::serve
