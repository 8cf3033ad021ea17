// TLS for both sides: OpenSSL contexts made from files, 1.2 and newer.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"

namespace boost::asio::ssl {
class context;
}
struct ssl_st;

namespace polyveil::serve {

using TlsContext = std::shared_ptr<boost::asio::ssl::context>;

struct TlsFiles {
  std::string certificate;  // PEM, with the chain behind it
  std::string key;          // PEM
  // Of a server: clients must show a certificate of one of these. Of a client: what a server's must
  // lead to (empty: the system's).
  std::string authorities;
};

// Errors of both: kInvalidArgument, the file and OpenSSL's reason named.
Result<TlsContext> MakeServerTls(const TlsFiles& files);
// certificate and key: where the server wants one, else empty. The server's certificate is verified
// always.
Result<TlsContext> MakeClientTls(const TlsFiles& files);

// The name or number that the server's certificate must have; before the handshake.
Status ExpectHost(ssl_st* connection, const std::string& host);

}  // namespace polyveil::serve
