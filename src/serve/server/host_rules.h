// Which names a server answers to. Any web page can make a browser send requests to a loopback
// server, under a name of the page's owner that resolves to it (DNS rebinding): such a name is
// refused, and so is a request that another origin's page has sent.
#pragma once

#include <boost/asio/ip/address.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace polyveil::serve {

class HostRules {
 public:
  // `bound`: where the server listens; `names`: others that it is known by.
  HostRules(boost::asio::ip::address bound, const std::vector<std::string>& names);

  // `host`, the field of a request: localhost, a name of the list, or a number: a loopback
  // address, the bound one, any when every address is bound. Ports are not looked at, a tunnel
  // changes them. Errors: kCorrupt (no host), kSecurity (a foreign one); the host is named.
  Status CheckHost(std::string_view host) const;
  // `origin`, the field of a request to `host`: the same authority, or a name of the list. Errors:
  // kSecurity.
  Status CheckOrigin(std::string_view origin, std::string_view host) const;

 private:
  bool Named(const std::string& name) const;

  const boost::asio::ip::address bound_;
  std::vector<std::string> names_;  // lower case
};

}  // namespace polyveil::serve
