// A bounded HTTP/1.1 server: one thread a connection, limits before allocation, deadlines
// everywhere.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "serve/tls.h"
#include "wire/bytes.h"

namespace polyveil::serve {

struct HttpLimits {
  // More displace the one that has waited longest for a request: for displace_seconds at least, or
  // for displace_new_seconds where no whole header of one has ever come;
  // where there is none, they are answered 503 and closed. Above the steps that may wait at a time,
  // so that one client's do not keep others out.
  int connections = 64;
  double displace_seconds = 5, displace_new_seconds = 0.5;
  size_t header_bytes = 8192;  // of a whole header
  double idle_seconds = 60;    // between requests of a connection
  double header_seconds = 15;  // from a request's first byte to the end of its header
  // A body may lag by body_seconds behind a sender of this rate.
  double body_seconds = 15;
  double body_bytes_per_second = 65536;
  double write_seconds = 60;  // each write
  double linger_seconds = 2;  // for what is still coming when a connection closes
};

struct HttpOptions {
  std::string address = "127.0.0.1";  // a number, in brackets or not, or a name
  int port = 0;                       // 0: any free one
  // Names that requests may give as their Host beside localhost, the address and its number.
  std::vector<std::string> allowed_hosts;
  TlsContext tls;           // null: plain HTTP, on a loopback address only,
  bool plain_http = false;  // unless this says otherwise
  HttpLimits limits;
};

struct HttpRequest {
  std::string id;        // of this exchange: in the reply's X-Request-Id, and in logs
  std::string method;    // GET for HEAD, whose reply goes without its body
  std::string path;      // without the query
  std::string handle;    // kHandleHeader's value
  std::string token;     // of "Authorization: Bearer"
  std::string checksum;  // kChecksumHeader's value
  std::string range;     // of Range
  wire::Bytes body;
};

struct HttpReply {
  int status = 200;
  const char* content_type = "application/json";
  std::string text;  // the body, unless `bytes` or `view` is given
  wire::Bytes bytes;
  wire::ByteView view;        // bytes of the handler's own, which outlive the server
  std::string content_range;  // of Content-Range, when not empty
  std::vector<std::pair<std::string, std::string>> fields;  // more of the header
};

// Why a request is not answered.
struct Refusal {
  int status = 400;
  Error error;
  std::vector<std::pair<std::string, std::string>> fields = {};
};

// One request and the way to its answer: Reply once, or BeginStream, Send..., EndStream.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual const HttpRequest& request() const = 0;
  // Errors of all: kUnavailable when the client is gone or too slow.
  virtual Status Reply(const HttpReply& reply) = 0;
  virtual Status BeginStream(const char* content_type) = 0;
  virtual Status Send(wire::ByteView bytes) = 0;
  virtual Status EndStream() = 0;
  // The client has closed its side, or the server is stopping. Cost: one system call.
  virtual bool Disconnected() = 0;
  // Expires when the connection has ended.
  virtual std::weak_ptr<const void> connection() const = 0;
};

class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  // Why a request is refused whatever its body; asked before any of that is read.
  virtual std::optional<Refusal> Admit(const HttpRequest& /*request*/) { return {}; }
  // Largest body of a request; asked before any of it is read. Nothing is reserved for it: memory
  // is taken as bytes arrive.
  virtual u64 BodyLimit(std::string_view method, std::string_view path) const = 0;
  // The body of a reply to a request that never came to Handle.
  virtual std::string ErrorBody(int status, const Error& error) const;
  // After each request whose header could be read, refused ones too; seconds: since it was.
  virtual void Answered(const HttpRequest& /*request*/, int /*status*/, double /*seconds*/) {}
  // All are called from many threads. Exceptions end the connection with status 500, or 503 where
  // memory is short.
  virtual void Handle(Exchange& exchange) = 0;
};

class HttpServer {
 public:
  // Binds the first of the address' numbers that can be (IPv4 first) and starts to answer.
  // `handler` outlives the server. Errors: kInvalidArgument (address), kIo (address and port
  // named), kSecurity (plain HTTP where others reach it).
  static Result<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                   HttpHandler& handler);
  virtual ~HttpServer() = default;  // stops

  virtual int port() const = 0;
  // What it listens on: "127.0.0.1:8117", "[::1]:8117".
  virtual std::string authority() const = 0;
  // Closes the listening socket, makes Disconnected() true everywhere, waits for every connection.
  virtual void Stop() = 0;
};

}  // namespace polyveil::serve
