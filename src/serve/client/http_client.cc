#include "serve/client/http_client.h"

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/error.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <cctype>
#include <chrono>
#include <optional>
#include <sstream>

#include "base/system.h"
#include "serve/byte_stream.h"
#include "serve/client/resolve.h"
#include "serve/protocol.h"

namespace polyveil::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::ip::tcp;

namespace {

constexpr double kConnectSeconds = 20;
constexpr double kWriteSeconds = 120;
constexpr double kReconnectAfterSeconds = 20;  // a server closes an idle connection after 60
constexpr size_t kReadBytes = 65536;
constexpr double kLapSeconds = 0.1;  // between two looks at cancel and at the time

bool IsPort(const std::string& text) {
  if (text.empty() || text.size() > 5) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  const int port = std::stoi(text);
  return port >= 1 && port <= 65535;
}

bool IsLoopback(const std::string& host) {
  if (host == "localhost" || host.ends_with(".localhost")) return true;
  beast::error_code no_number;
  const auto address = asio::ip::make_address(host, no_number);
  return !no_number && address.is_loopback();
}

}  // namespace

std::string Url::Authority() const {
  return (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":" + port;
}

namespace {

// "host:port", "host", "[address]:port", "[address]".
Url SplitAuthority(std::string_view text, const char* default_port) {
  const bool bracketed = text.starts_with('[');
  const size_t end = bracketed ? text.find(']') : text.find(':');
  if (bracketed && end == std::string_view::npos) return {};
  const std::string_view host = bracketed ? text.substr(1, end - 1) : text.substr(0, end);
  std::string_view rest = end == std::string_view::npos ? "" : text.substr(end + bracketed);
  if (rest.empty()) return {std::string(host), default_port};
  if (rest.front() != ':') return {};
  return {std::string(host), std::string(rest.substr(1))};
}

bool IsHost(std::string_view host, bool bracketed) {
  const std::string_view allowed = bracketed ? "0123456789abcdefABCDEF:." : "-_.";
  const auto is_allowed = [&](unsigned char c) {
    return allowed.find(static_cast<char>(c)) != std::string_view::npos ||
           (!bracketed && c < 0x80 && std::isalnum(c));
  };
  const bool colons = host.find(':') != std::string_view::npos;
  return !host.empty() && colons == bracketed && std::ranges::all_of(host, is_allowed);
}

}  // namespace

Result<Url> ParseUrl(const std::string& text) {
  const bool tls = text.starts_with("https://");
  std::string rest = tls || text.starts_with("http://") ? text.substr(tls ? 8 : 7) : text;
  if (rest.ends_with('/')) rest.pop_back();
  Url url = SplitAuthority(rest, tls ? "443" : "80");
  url.tls = tls;
  if (IsHost(url.host, rest.starts_with('[')) && IsPort(url.port)) return url;
  return MakeError(ErrorCode::kInvalidArgument,
                   "server '{}' is no https://host:port or http://host:port", text);
}

class HttpClient::Connection {
 public:
  Connection(Url url, const std::atomic<bool>* cancel, HttpAccess access)
      : url(std::move(url)), cancel(cancel), access_(std::move(access)) {}

  Result<ClientReply> Send(const ClientRequest& request, const Sink& sink);

  const Url url;
  std::string key_digest;
  const std::atomic<bool>* cancel;
  u64 bytes_sent = 0, bytes_received = 0;

 private:
  using Parser = http::response_parser<http::buffer_body>;
  using Done = std::function<void(beast::error_code)>;
  double Lap(double most);
  Status Run(double seconds, const char* action, const std::function<void(Done)>& start);
  bool Cancelled() const { return cancel != nullptr && !ignore_cancel_ && *cancel; }
  Status Connect();
  Status CheckPlain() const;
  Status Handshake();
  Status Write(const ClientRequest& request);
  // Calls done once the parser has its header, a piece of the body, or an error.
  void Read(Parser& parser, const Done& done);
  beast::error_code Parse(Parser& parser);
  Status ReadHeader(const ClientRequest& request, Parser& parser);
  Error Explain(beast::error_code error, const char* action) const;
  Status ReadBody(const ClientRequest& request, Parser& parser, const Sink& sink);

  HttpAccess access_;
  bool ignore_cancel_ = false;  // of the request under way
  asio::io_context context_{1};
  std::optional<ByteStream> stream_;
  beast::flat_buffer buffer_{kMaxHeaderBytes};
  Timer idle_;                                     // since the last reply
  double total_seconds_ = 0, waited_seconds_ = 0;  // of the request under way: allowed, waited
};

// Works for one lap. What the clock says beyond two of them this process was stopped (Ctrl-Z, a
// paused machine), and so was not waiting for its peer.
double HttpClient::Connection::Lap(double most) {
  const Timer timer;
  context_.run_for(std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::duration<double>(std::min(most, kLapSeconds))));
  return std::min(timer.Seconds(), 2 * kLapSeconds);
}

Status HttpClient::Connection::Run(double seconds, const char* action,
                                   const std::function<void(Done)>& start) {
  if (Cancelled()) {
    stream_.reset();
    return MakeError(ErrorCode::kCancelled, "cancelled before {}", action);
  }
  const double until = std::min(waited_seconds_ + seconds, total_seconds_);
  if (until <= waited_seconds_) {
    stream_.reset();
    return MakeError(ErrorCode::kUnavailable, "{}: no end of the reply after {} s", url.Text(),
                     total_seconds_);
  }
  beast::error_code result = asio::error::operation_aborted;
  bool done = false, cancelled = false, late = false;
  start([&](beast::error_code error) {
    result = error;
    done = true;
  });
  context_.restart();
  while (!done) {  // NOLINT(bugprone-infinite-loop): the handler above sets it
    waited_seconds_ += Lap(std::max(until - waited_seconds_, 1e-3));
    cancelled = cancelled || Cancelled();
    late = late || waited_seconds_ >= until;
    if ((cancelled || late) && !done) stream_->tcp().close();
    if (context_.stopped() && !done) context_.restart();
  }
  context_.run();  // what the operation has left behind
  if (!result) return {};
  stream_.reset();
  if (cancelled) return MakeError(ErrorCode::kCancelled, "cancelled while {}", action);
  return Explain(late ? beast::error_code(beast::error::timeout) : result, action);
}

// What a peer sends on purpose is told apart from a connection that broke: only the latter is worth
// another try.
Error HttpClient::Connection::Explain(beast::error_code error, const char* action) const {
  const bool broke = error == http::error::end_of_stream || error == http::error::partial_message;
  if (error == http::error::buffer_overflow || error == http::error::header_limit) {
    return MakeError(ErrorCode::kOutOfRange, "{}: {}: a header above its bound ({})", url.Text(),
                     action, error.message());
  }
  if (error == http::error::body_limit) {
    return MakeError(ErrorCode::kOutOfRange, "{}: {}: a body above its bound", url.Text(), action);
  }
  if (error.category() == asio::error::get_ssl_category())
    return MakeError(ErrorCode::kSecurity, "{}: {}: {}", url.Text(), action, error.message());
  const bool http = error.category() == make_error_code(http::error::bad_chunk).category();
  return MakeError(http && !broke ? ErrorCode::kCorrupt : ErrorCode::kUnavailable, "{}: {}: {}",
                   url.Text(), action, error.message());
}

Status HttpClient::Connection::Connect() {
  if (stream_ && idle_.Seconds() < kReconnectAfterSeconds) return {};
  PV_RETURN_IF_ERROR(CheckPlain());
  if (url.tls && !access_.tls) {
    PV_ASSIGN_OR_RETURN(access_.tls, MakeClientTls({}));
  }
  buffer_.clear();
  const auto cancelled = [&] { return Cancelled(); };
  const Timer resolving;
  const auto endpoints =
      ResolveWithin(std::min(kConnectSeconds, total_seconds_ - waited_seconds_), cancelled,
                    [url = url] { return LookUp(url.host, url.port); });
  waited_seconds_ += resolving.Seconds();
  if (!endpoints.ok()) {
    return MakeError(endpoints.error().code, "{}: {}", url.Text(), endpoints.error().message);
  }
  stream_.emplace(context_, url.tls ? access_.tls.get() : nullptr);
  PV_RETURN_IF_ERROR(Run(kConnectSeconds, "connecting", [&](const Done& done) {
    stream_->tcp().async_connect(endpoints.value(),
                                 [done](beast::error_code e, const tcp::endpoint&) { done(e); });
  }));
  beast::error_code error;
  stream_->tcp().socket().set_option(tcp::no_delay(true), error);
  return url.tls ? Handshake() : Status();
}

Status HttpClient::Connection::CheckPlain() const {
  if (url.tls || access_.plain_http || IsLoopback(url.host)) return {};
  return MakeError(ErrorCode::kSecurity,
                   "{}: without TLS whoever is on the way sees and changes what is sent, the "
                   "account's token included: use https:// (--plain-http sends it all the same)",
                   url.Text());
}

// The certificate must lead to an authority and have the name that the user gave.
Status HttpClient::Connection::Handshake() {
  if (Status expected = ExpectHost(stream_->tls(), url.host); !expected.ok()) {
    stream_.reset();
    return expected;
  }
  std::string why;
  Status status = Run(kConnectSeconds, "TLS handshake", [&](const Done& done) {
    stream_->HandshakeAsClient([&, done](beast::error_code e, size_t) {
      const long verified = SSL_get_verify_result(stream_->tls());
      if (verified != X509_V_OK) why = X509_verify_cert_error_string(verified);
      done(e);
    });
  });
  if (status.ok() || why.empty()) return status;
  return MakeError(status.error().code, "{} ({})", status.error().message, why);
}

Status HttpClient::Connection::Write(const ClientRequest& request) {
  http::request<http::empty_body> message;
  message.method_string(request.method);
  message.target(request.path);
  message.set(http::field::host, url.Authority());
  message.set(http::field::user_agent, "polyveil");
  if (!request.body.empty()) message.set(http::field::content_type, request.content_type);
  if (!request.handle.empty()) message.set(kHandleHeader, request.handle);
  if (!key_digest.empty()) message.set(kKeyDigestHeader, key_digest);
  if (!request.checksum.empty()) message.set(kChecksumHeader, request.checksum);
  if (!request.range.empty()) message.set(http::field::range, request.range);
  if (!access_.token.empty()) message.set(http::field::authorization, "Bearer " + access_.token);
  message.prepare_payload();  // announces no bytes where a body is usual
  if (!request.body.empty()) message.content_length(request.body.size());
  std::ostringstream text;
  text << message.base();
  const std::string header = text.str();
  return Run(kWriteSeconds, "sending the request", [&](const Done& done) {
    stream_->Write({asio::buffer(header), asio::buffer(request.body.data(), request.body.size())},
                   [this, done](beast::error_code e, size_t n) {
                     bytes_sent += n;
                     done(e);
                   });
  });
}

beast::error_code HttpClient::Connection::Parse(Parser& parser) {
  beast::error_code error;
  const size_t used = parser.put(buffer_.data(), error);
  buffer_.consume(used);
  bytes_received += used;
  return error == http::error::need_buffer ? beast::error_code() : error;
}

void HttpClient::Connection::Read(Parser& parser, const Done& done) {
  const beast::error_code error = buffer_.size() > 0 ? Parse(parser) : http::error::need_more;
  if (error != http::error::need_more) return done(error);
  const size_t room = std::min(kReadBytes, buffer_.max_size() - buffer_.size());
  if (room == 0) return done(http::error::buffer_overflow);
  stream_->ReadSome(buffer_.prepare(room), [this, &parser, done](beast::error_code e, size_t n) {
    buffer_.commit(n);
    if (e == asio::error::eof) {
      e = http::error::end_of_stream;
      if (parser.got_some()) parser.put_eof(e = {});
      return done(e);
    }
    return e ? done(e) : Read(parser, done);
  });
}

Status HttpClient::Connection::ReadHeader(const ClientRequest& request, Parser& parser) {
  parser.body_limit(request.max_reply_bytes);
  return Run(request.reply_seconds, "waiting for the reply",
             [&](const Done& done) { Read(parser, done); });
}

Status HttpClient::Connection::ReadBody(const ClientRequest& request, Parser& parser,
                                        const Sink& sink) {
  std::array<std::uint8_t, kReadBytes> piece;
  const u64 before = bytes_received;
  // Frames of a hundred bytes in chunks of their own take a twelfth more than their body.
  const u64 most = request.max_reply_bytes + request.max_reply_bytes / 8 + kMaxHeaderBytes;
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    PV_RETURN_IF_ERROR(Run(request.reply_seconds, "reading the reply",
                           [&](const Done& done) { Read(parser, done); }));
    if (bytes_received - before > most) {
      return MakeError(ErrorCode::kOutOfRange, "{}: a reply of more than {} bytes for a body of {}",
                       url.Text(), most, request.max_reply_bytes);
    }
    const size_t got = piece.size() - parser.get().body().size;
    PV_RETURN_IF_ERROR(sink(wire::ByteView(piece.data(), got)));
  }
  return {};
}

Result<ClientReply> HttpClient::Connection::Send(const ClientRequest& request, const Sink& sink) {
  ignore_cancel_ = request.ignore_cancel;
  total_seconds_ = request.total_seconds;
  waited_seconds_ = 0;
  PV_RETURN_IF_ERROR(Connect());
  PV_RETURN_IF_ERROR(Write(request));
  Parser parser;
  PV_RETURN_IF_ERROR(ReadHeader(request, parser));
  ClientReply reply;
  reply.status = static_cast<int>(parser.get().result_int());
  if (reply.status < 200) {  // nothing here asks for an interim reply
    stream_.reset();
    return MakeError(ErrorCode::kCorrupt, "{}: a reply with status {}", url.Text(), reply.status);
  }
  reply.content_range = std::string(parser.get()[http::field::content_range]);
  const bool taken = reply.status == 200 || reply.status == 206;
  const Sink keep = [&](wire::ByteView bytes) -> Status {
    reply.body.insert(reply.body.end(), bytes.begin(), bytes.end());
    return {};
  };
  const Status body = ReadBody(request, parser, taken ? sink : keep);
  // What came behind the reply belongs to no request.
  if (!body.ok() || !parser.get().keep_alive() || buffer_.size() > 0) stream_.reset();
  if (!body.ok()) return body.error();
  idle_.Reset();
  return reply;
}

Result<ClientReply> HttpClient::Send(const ClientRequest& request) {
  wire::Bytes body;
  PV_ASSIGN_OR_RETURN(ClientReply reply,
                      SendStreaming(request, [&](wire::ByteView bytes) -> Status {
                        body.insert(body.end(), bytes.begin(), bytes.end());
                        return {};
                      }));
  if (reply.status == 200 || reply.status == 206) reply.body = std::move(body);
  return reply;
}

HttpClient::HttpClient(Url url, const std::atomic<bool>* cancel, HttpAccess access)
    : connection_(std::make_unique<Connection>(std::move(url), cancel, std::move(access))) {}

HttpClient::~HttpClient() = default;

const Url& HttpClient::url() const { return connection_->url; }
void HttpClient::set_cancel(const std::atomic<bool>* cancel) { connection_->cancel = cancel; }
void HttpClient::set_key_digest(std::string digest) { connection_->key_digest = std::move(digest); }
u64 HttpClient::bytes_sent() const { return connection_->bytes_sent; }
u64 HttpClient::bytes_received() const { return connection_->bytes_received; }

Result<ClientReply> HttpClient::SendStreaming(const ClientRequest& request, const Sink& sink) {
  return connection_->Send(request, sink);
}

}  // namespace polyveil::serve
