// A blocking HTTP/1.1 client on one connection, with deadlines and cancellation.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/tls.h"
#include "wire/bytes.h"

namespace polyveil::serve {

struct Url {
  std::string host;  // an IPv6 address without its brackets
  std::string port;
  bool tls = false;
  std::string Authority() const;  // "host:port", "[::1]:port"
  std::string Text() const { return (tls ? "https://" : "http://") + Authority(); }
};
// "https://host[:port]" (port 443 by default), "http://host[:port]" (80) or "host:port"; an IPv6
// address stands in brackets. Errors: kInvalidArgument.
Result<Url> ParseUrl(const std::string& text);

struct ClientReply {
  int status = 0;
  wire::Bytes body;
  std::string content_range;  // of Content-Range
  std::string_view text() const {
    return {reinterpret_cast<const char*>(body.data()), body.size()};
  }
};

struct ClientRequest {
  std::string method, path;
  wire::ByteView body = {};
  const char* content_type = "application/json";
  std::string checksum = {};           // kChecksumHeader's value, when not empty
  std::string range = {};              // of Range, when not empty
  std::string handle = {};             // kHandleHeader's, when not empty
  double reply_seconds = 60;           // to the reply's header, and between pieces of its body
  double total_seconds = 600;          // for all of it, whatever trickles in meanwhile
  u64 max_reply_bytes = u64{1} << 22;  // of the body
  bool ignore_cancel = false;          // for cleaning up after a cancellation
};

// What a client shows a server, and asks of it.
struct HttpAccess {
  TlsContext tls;     // for https; null: one with the system's authorities
  std::string token;  // of an account; empty: none
  // Without TLS a server must be on this machine, unless this says otherwise.
  bool plain_http = false;
};

// A server can make this client neither wait nor hold memory without end: headers, chunk headers
// with their extensions and trailers fit kMaxHeaderBytes each, a body its request's bound, all
// bytes of a reply an eighth more, and every request ends within its total_seconds, resolving
// the server's name included.
class HttpClient {
 public:
  static constexpr size_t kMaxHeaderBytes = size_t{1} << 17;

  // `cancel`, when given, ends any operation within a tenth of a second (kCancelled).
  explicit HttpClient(Url url, const std::atomic<bool>* cancel = nullptr, HttpAccess access = {});
  ~HttpClient();

  const Url& url() const;
  void set_cancel(const std::atomic<bool>* cancel);  // between requests
  // kKeyDigestHeader's value from now on.
  void set_key_digest(std::string digest);
  // Errors: kUnavailable (what was under way, the system's reason), kCancelled, kOutOfRange (reply
  // above its bound), kCorrupt (no HTTP). Any HTTP status is a reply.
  Result<ClientReply> Send(const ClientRequest& request);
  // The same; the body of a reply with status 200 or 206 goes to `sink` in pieces and is not kept.
  using Sink = std::function<Status(wire::ByteView)>;
  Result<ClientReply> SendStreaming(const ClientRequest& request, const Sink& sink);

  u64 bytes_sent() const;
  u64 bytes_received() const;

 private:
  class Connection;  // keeps Boost's headers out of this one
  std::unique_ptr<Connection> connection_;
};

}  // namespace polyveil::serve
