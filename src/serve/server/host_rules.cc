#include "serve/server/host_rules.h"

#include <algorithm>

namespace polyveil::serve {

namespace asio = boost::asio;

namespace {

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

bool IsNumber(std::string_view text) {
  return text.size() <= 5 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// "name:80" -> "name", "[::1]:80" -> "::1"; empty when it is neither.
std::string HostOf(std::string_view authority) {
  std::string_view host = authority, port;
  const bool bracketed = authority.starts_with('[');
  const size_t end = bracketed ? authority.find(']') : authority.find(':');
  if (bracketed && end == std::string_view::npos) return {};
  if (end != std::string_view::npos) {
    host = authority.substr(bracketed, end - bracketed);
    port = authority.substr(end + bracketed);
  }
  const bool port_ok = port.empty() || (port[0] == ':' && IsNumber(port.substr(1)));
  const bool plain = host.find_first_of("/@?# \t[]") == std::string_view::npos;
  return port_ok && plain ? LowerCase(host) : std::string();
}

}  // namespace

HostRules::HostRules(asio::ip::address bound, const std::vector<std::string>& names)
    : bound_(std::move(bound)) {
  for (const std::string& name : names) names_.push_back(LowerCase(name));
}

bool HostRules::Named(const std::string& name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

Status HostRules::CheckHost(std::string_view host) const {
  const std::string name = HostOf(host);
  if (name.empty()) {
    return MakeError(ErrorCode::kCorrupt, "request: Host '{}' is no host", host.substr(0, 128));
  }
  if (name == "localhost" || Named(name)) return {};
  boost::system::error_code no_number;
  const auto address = asio::ip::make_address(name, no_number);
  if (!no_number && (address.is_loopback() || address == bound_ || bound_.is_unspecified())) {
    return {};
  }
  return MakeError(ErrorCode::kSecurity, "request: Host '{}' is not served here (--allow-host {})",
                   host.substr(0, 128), name.substr(0, 128));
}

Status HostRules::CheckOrigin(std::string_view origin, std::string_view host) const {
  const size_t slashes = origin.find("://");
  const std::string scheme = LowerCase(origin.substr(0, std::min(slashes, origin.size())));
  if (slashes != std::string_view::npos && (scheme == "http" || scheme == "https")) {
    const std::string_view authority = origin.substr(slashes + 3);
    if (LowerCase(authority) == LowerCase(host) || Named(HostOf(authority))) return {};
  }
  return MakeError(ErrorCode::kSecurity, "request: Origin '{}' is not served here",
                   origin.substr(0, 128));
}

}  // namespace polyveil::serve
