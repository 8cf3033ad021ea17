#include "serve/server/connection.h"

#include <poll.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <new>
#include <sstream>

#include "base/csprng.h"
#include "base/digest.h"
#include "serve/protocol.h"

namespace polyveil::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

constexpr char kServerName[] = "polyveil";
constexpr size_t kPieceBytes = 65536;
constexpr size_t kLingerBytes = size_t{32} << 20;
// What chunks of one byte each add to them, and a little more.
constexpr u64 kFramingPerByte = 8;

std::string PathOf(std::string_view target) {
  return std::string(target.substr(0, target.find('?')));
}

// Of "Bearer TOKEN"; empty for anything else.
std::string TokenOf(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() <= kScheme.size() ||
      !beast::iequals(authorization.substr(0, kScheme.size()), kScheme))
    return {};
  return std::string(authorization.substr(kScheme.size()));
}

std::string NewRequestId() {
  const Seed seed = RandomSeed();
  return ToHex(std::span(seed).first(8));
}

std::string TextOf(const http::response<http::empty_body>& header) {
  std::ostringstream text;
  text << header.base();
  return text.str();
}

// What the client has sent is wrong, in contrast to a connection that broke.
bool IsParseError(const beast::error_code& error) {
  return error != http::error::end_of_stream &&
         error.category() == http::make_error_code(http::error::bad_method).category();
}

std::string_view View(beast::string_view text) { return {text.data(), text.size()}; }

}  // namespace

beast::error_code Connection::Run(double seconds,
                                  const std::function<void(ByteStream::Done)>& start) {
  beast::error_code result = asio::error::operation_aborted;
  stream_.tcp().expires_after(std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::duration<double>(std::max(seconds, 0.0))));
  start([&result](beast::error_code error, size_t) { result = error; });
  context_.restart();
  context_.run();
  return result;
}

beast::error_code Connection::ReadMore(double seconds) {
  return Run(seconds, [&](const ByteStream::Done& done) {
    stream_.ReadSome(buffer_.prepare(kPieceBytes), [&, done](beast::error_code e, size_t n) {
      buffer_.commit(n);
      done(e, n);
    });
  });
}

void Connection::Interrupt() {
  asio::post(context_, [this] { stream_.tcp().close(); });
}

double Connection::OverdueSeconds() const {
  const double from = overdue_from_;
  return from < 0 ? -1 : age_.Seconds() - from;
}

// A client that is slow with it waits like one without a request: it gives way to others.
bool Connection::Handshake() {
  if (!stream_.encrypted()) return true;
  YieldAfter(limits_.displace_new_seconds);
  const auto error = Run(limits_.header_seconds,
                         [&](const ByteStream::Done& done) { stream_.HandshakeAsServer(done); });
  overdue_from_ = -1;
  return !error;
}

// Sends the alert and does not wait for the client's.
void Connection::SayTlsEnds() {
  if (!stream_.encrypted()) return;
  stream_.tcp().expires_never();
  stream_.EndTls([](beast::error_code, size_t) {});
  context_.restart();
  context_.run_for(std::chrono::milliseconds(50));
  stream_.tcp().cancel();
  context_.run();
}

// Reads nothing but the first bytes, so that an idle connection and a slow header differ.
bool Connection::WaitForRequest() {
  if (buffer_.size() > 0) return true;
  YieldAfter(served_ ? limits_.displace_seconds : limits_.displace_new_seconds);
  const auto error = ReadMore(limits_.idle_seconds);
  overdue_from_ = -1;
  return !error;
}

void Connection::Guarded(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::bad_alloc&) {
    request_.body = {};
    if (!answered_) ReplyError(503, MakeError(ErrorCode::kResource, "out of memory"));
    keep_alive_ = false;
  } catch (const std::exception& exception) {
    if (!answered_) ReplyError(500, MakeError(ErrorCode::kIo, "internal: {}", exception.what()));
    keep_alive_ = false;
  }
}

// Whatever happens to a request, it ends its own connection only.
void Connection::Serve() {
  try {
    buffer_.max_size(limits_.header_bytes + 2 * kPieceBytes);
    bool more = Handshake();
    if (!more) return;
    while (!stopping_ && more) {
      more = false;
      Guarded([&] { more = ServeOne(); });
      if (!request_.id.empty()) handler_.Answered(request_, status_, since_header_.Seconds());
    }
    Linger();
  } catch (const std::exception&) {
    // Not even the reply could be made: the socket closes with this object.
  }
}

// A close with unread bytes resets the connection and the client loses the reply: say that we are
// done, read what is still coming, for a bounded time and size.
void Connection::Linger() {
  SayTlsEnds();
  beast::error_code error;
  stream_.tcp().socket().shutdown(asio::ip::tcp::socket::shutdown_send, error);
  buffer_.clear();
  const Timer timer;
  for (size_t drained = 0; !stopping_ && !error && drained < kLingerBytes;) {
    const double left = limits_.linger_seconds - timer.Seconds();
    if (left <= 0) break;
    error = Run(left, [&](const ByteStream::Done& done) {  // whatever it is
      stream_.ReadSomeBelowTls(buffer_.prepare(kPieceBytes),
                               [&, done](beast::error_code e, size_t n) {
                                 drained += n;
                                 done(e, n);
                               });
    });
  }
  stream_.tcp().close();
}

void Connection::Refuse() {
  try {
    if (!Handshake()) return;
    Refuse({503,
            MakeError(ErrorCode::kResource, "connections: all {} are in use", limits_.connections),
            {{"Retry-After", "1"}}});
    Linger();
  } catch (const std::exception&) {
  }
}

bool Connection::ServeOne() {
  request_ = {};
  answered_ = keep_alive_ = head_ = false;
  status_ = 0;
  if (!WaitForRequest()) return false;
  RequestParser parser;
  parser.header_limit(static_cast<std::uint32_t>(limits_.header_bytes));
  parser.body_limit(boost::none);  // set for the route once the header is there
  if (!ReadRequest(parser) || !AdmitBody(parser) || !ReadBody(parser)) return false;
  keep_alive_ = parser.get().keep_alive();
  request_.body = std::move(parser.get().body());
  handler_.Handle(*this);
  served_ = true;
  return keep_alive_;
}

bool Connection::ReadRequest(RequestParser& parser) {
  YieldAfter(limits_.displace_new_seconds);
  const auto error = ReadHeader(parser);
  overdue_from_ = -1;
  if (!error) return TakeHeader(parser);
  if (error == http::error::header_limit) {
    ReplyError(431, MakeError(ErrorCode::kOutOfRange, "request header: more than {} bytes",
                              limits_.header_bytes));
  } else if (IsParseError(error)) {
    ReplyError(400, MakeError(ErrorCode::kCorrupt, "request: {}", error.message()));
  }
  return false;
}

// The parser's own limit is one of a line's; this counts the header as a whole.
beast::error_code Connection::ReadHeader(RequestParser& parser) {
  const Timer timer;
  for (size_t parsed = 0;;) {
    beast::error_code error;
    const size_t used = parser.put(buffer_.data(), error);
    buffer_.consume(used);
    parsed += used;
    const bool done = parser.is_header_done();
    if (error && error != http::error::need_more) return error;
    if (parsed + (done ? 0 : buffer_.size()) > limits_.header_bytes) {
      return http::error::header_limit;
    }
    if (done) return {};
    error = ReadMore(limits_.header_seconds - timer.Seconds());
    if (error) return error;
  }
}

bool Connection::TakeHeader(const RequestParser& parser) {
  const auto& header = parser.get();
  head_ = header.method() == http::verb::head;
  request_.id = NewRequestId();
  since_header_.Reset();
  request_.method = head_ ? "GET" : std::string(header.method_string());
  request_.path = PathOf(View(header.target()));
  request_.handle = std::string(header[kHandleHeader]);
  request_.token = TokenOf(View(header[http::field::authorization]));
  request_.checksum = std::string(header[kChecksumHeader]);
  request_.range = std::string(header[http::field::range]);
  int status = 400;
  const Status names = CheckNames(parser, status);
  if (!names.ok()) ReplyError(status, names.error());
  return names.ok();
}

Status Connection::CheckNames(const RequestParser& parser, int& status) const {
  const auto& header = parser.get();
  const size_t hosts = header.count(http::field::host);
  const size_t origins = header.count(http::field::origin);
  if (hosts > 1 || origins > 1 || (hosts == 0 && header.version() >= 11)) {
    return MakeError(ErrorCode::kCorrupt,
                     "request: {} fields Host and {} Origin, expected 1 and at most 1", hosts,
                     origins);
  }
  const std::string_view host = View(header[http::field::host]);
  Status allowed = hosts == 0 ? Status() : hosts_.CheckHost(host);
  if (allowed.ok() && origins == 1) {
    allowed = hosts_.CheckOrigin(View(header[http::field::origin]), host);
  }
  if (!allowed.ok() && allowed.error().code == ErrorCode::kSecurity) status = 403;
  return allowed;
}

bool Connection::AdmitBody(RequestParser& parser) {
  if (const auto refusal = handler_.Admit(request_)) {
    Refuse(*refusal);
    return false;
  }
  const u64 limit = handler_.BodyLimit(request_.method, request_.path);
  const auto length = parser.content_length();
  if (length && *length > limit) {
    ReplyError(413, MakeError(ErrorCode::kOutOfRange, "request body of {} {}: {} bytes above {}",
                              request_.method, request_.path, *length, limit));
    return false;
  }
  parser.body_limit(limit);
  if (!beast::iequals(parser.get()[http::field::expect], "100-continue")) return true;
  const std::string go_on = TextOf(Header(http::status::continue_, 11));
  return Write({asio::buffer(go_on)}).ok();
}

bool Connection::ReadBody(RequestParser& parser) {
  const auto error = ReadPieces(parser);
  if (error == http::error::body_limit) {
    ReplyError(413, MakeError(ErrorCode::kOutOfRange, "request body of {} {}: more than {} bytes",
                              request_.method, request_.path,
                              handler_.BodyLimit(request_.method, request_.path)));
  } else if (IsParseError(error)) {
    ReplyError(400, MakeError(ErrorCode::kCorrupt, "request body: {}", error.message()));
  }
  return !error;
}

// Chunks' sizes, extensions and trailers are read, but count for nothing: neither for time nor,
// beyond what small chunks need, as bytes.
beast::error_code Connection::ReadPieces(RequestParser& parser) {
  const Timer timer;
  parser.eager(true);
  for (u64 parsed = 0; !parser.is_done();) {
    beast::error_code error;
    const size_t used = parser.put(buffer_.data(), error);
    buffer_.consume(used);
    parsed += used;
    if (error && error != http::error::need_more) return error;
    if (parser.is_done()) break;
    const u64 received = parser.get().body().size();
    const u64 framing = parsed - std::min<u64>(parsed, received) + buffer_.size();
    if (buffer_.size() > limits_.header_bytes ||
        framing > kFramingPerByte * received + limits_.header_bytes) {
      return http::error::bad_chunk_extension;
    }
    const double earned = static_cast<double>(received) / limits_.body_bytes_per_second;
    error = ReadMore(limits_.body_seconds + earned - timer.Seconds());
    if (error) return error;
  }
  return {};
}

// The connection closes behind a reply that did not go out whole.
Status Connection::Write(const Buffers& buffers) {
  const auto error = Run(limits_.write_seconds,
                         [&](const ByteStream::Done& done) { stream_.Write(buffers, done); });
  if (!error) return {};
  keep_alive_ = false;
  return MakeError(ErrorCode::kUnavailable, "writing the reply: {}", error.message());
}

void Connection::Refuse(const Refusal& refusal) {
  keep_alive_ = false;
  HttpReply reply;
  reply.status = refusal.status;
  reply.text = handler_.ErrorBody(refusal.status, refusal.error);
  reply.fields = refusal.fields;
  // The connection closes after it: nothing is left to tell anyone when the write fails.
  (void)Reply(reply).ok();
}

Connection::Header Connection::HeaderOf(const HttpReply& reply, size_t body_bytes) const {
  Header header(static_cast<http::status>(reply.status), 11);
  header.set(http::field::server, kServerName);
  header.set(http::field::content_type, reply.content_type);
  header.set(http::field::cache_control, "no-store");
  if (!reply.view.empty()) header.set(http::field::accept_ranges, "bytes");
  if (!reply.content_range.empty()) header.set(http::field::content_range, reply.content_range);
  if (!request_.id.empty()) header.set("X-Request-Id", request_.id);
  for (const auto& [name, value] : reply.fields) header.set(name, value);
  header.content_length(body_bytes);
  header.keep_alive(keep_alive_);
  return header;
}

// Of any length, so every piece has a deadline of its own. A reader that lags behind the rate that
// is asked of senders gives way to others.
Status Connection::ReplyInPieces(const std::string& header, wire::ByteView body) {
  constexpr size_t kBytes = size_t{1} << 20;
  const Timer timer;
  PV_RETURN_IF_ERROR(Write({asio::buffer(header)}));
  for (size_t sent = 0; sent < body.size();) {
    const size_t piece = std::min(body.size() - sent, kBytes);
    const double earned = static_cast<double>(sent + piece) / limits_.body_bytes_per_second;
    YieldAfter(limits_.body_seconds + earned - timer.Seconds());
    PV_RETURN_IF_ERROR(Write({asio::buffer(body.data() + sent, piece)}));
    sent += piece;
  }
  overdue_from_ = -1;
  return {};
}

Status Connection::Reply(const HttpReply& reply) {
  answered_ = true;
  status_ = reply.status;
  const auto* text = reinterpret_cast<const std::uint8_t*>(reply.text.data());
  const wire::ByteView body = !reply.view.empty()    ? reply.view
                              : !reply.bytes.empty() ? wire::ByteView(reply.bytes)
                                                     : wire::ByteView(text, reply.text.size());
  const std::string header = TextOf(HeaderOf(reply, body.size()));
  if (head_) return Write({asio::buffer(header)});
  if (!reply.view.empty()) return ReplyInPieces(header, body);
  return Write({asio::buffer(header), asio::buffer(body.data(), body.size())});
}

Status Connection::BeginStream(const char* content_type) {
  answered_ = true;
  HttpReply reply;
  reply.content_type = content_type;
  status_ = reply.status;
  Header header = HeaderOf(reply, 0);
  header.chunked(true);
  const std::string text = TextOf(header);
  return Write({asio::buffer(text)});
}

Status Connection::Send(wire::ByteView bytes) {
  if (head_ || bytes.empty()) return {};  // an empty chunk would end the stream
  const std::string size = fmt::format("{:x}\r\n", bytes.size());
  return Write(
      {asio::buffer(size), asio::buffer(bytes.data(), bytes.size()), asio::buffer("\r\n", 2)});
}

Status Connection::EndStream() {
  if (head_) return {};
  constexpr std::string_view kLastChunk = "0\r\n\r\n";
  return Write({asio::buffer(kLastChunk)});
}

// Seen even when bytes of another request are still unread.
bool Connection::Disconnected() {
  if (stopping_) return true;
  pollfd state{stream_.tcp().socket().native_handle(), POLLRDHUP, 0};
  return poll(&state, 1, 0) > 0 && (state.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL));
}

}  // namespace polyveil::serve
