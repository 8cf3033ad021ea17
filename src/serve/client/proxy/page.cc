#include "serve/client/proxy/page.h"

namespace polyveil::serve {
namespace {

// Made from page/ (CMakeLists.txt).
#include "page_files.inc"

}  // namespace

std::optional<PageFile> FindPageFile(std::string_view path) {
  if (path == "/") return PageFile{"text/html; charset=utf-8", kIndexHtml};
  if (path == "/page.css") return PageFile{"text/css; charset=utf-8", kPageCss};
  if (path == "/page.js") return PageFile{"text/javascript; charset=utf-8", kPageJs};
  return std::nullopt;
}

}  // namespace polyveil::serve
