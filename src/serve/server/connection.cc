#include "serve/server/connection.h"

#include <sys/socket.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <cerrno>
#include <chrono>
#include <new>

#include "serve/protocol.h"

namespace polyveil::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

namespace {

constexpr char kServerName[] = "polyveil";
constexpr size_t kLingerBytes = size_t{32} << 20;
constexpr double kLingerSeconds = 1;

std::string PathOf(std::string_view target) {
  return std::string(target.substr(0, target.find('?')));
}

Status ToStatus(const beast::error_code& error, const char* action) {
  if (!error) return {};
  return MakeError(ErrorCode::kUnavailable, "{}: {}", action, error.message());
}

}  // namespace

template <typename Start>
beast::error_code Connection::Run(double seconds, Start&& start) {
  beast::error_code result = asio::error::operation_aborted;
  stream_.expires_after(std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::duration<double>(seconds)));
  start([&result](beast::error_code error, size_t) { result = error; });
  context_.restart();
  context_.run();
  return result;
}

void Connection::Interrupt() {
  asio::post(context_, [this] { stream_.close(); });
}

void Connection::Serve() {
  buffer_.max_size(limits_.header_bytes + 65536);
  while (!stopping_ && ServeOne()) {
  }
  Linger();
}

// A close with unread bytes resets the connection and the client loses the reply: say that we are
// done, read what is still coming, for a bounded time and size.
void Connection::Linger() {
  beast::error_code ignored;
  stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  std::array<char, 65536> sink;
  for (size_t drained = 0; !stopping_ && drained < kLingerBytes;) {
    size_t got = 0;
    const auto error = Run(kLingerSeconds, [&](auto done) {
      stream_.async_read_some(asio::buffer(sink), [&got, done](beast::error_code e, size_t n) {
        got = n;
        done(e, n);
      });
    });
    if (error) break;
    drained += got;
  }
  stream_.close();
}

void Connection::Refuse() {
  keep_alive_ = false;
  ReplyError(
      503, MakeError(ErrorCode::kResource, "connections: all {} are in use", limits_.connections));
  stream_.close();
}

bool Connection::ServeOne() {
  request_ = {};
  answered_ = false;
  if (buffer_.size() == 0 && !WaitForRequest()) return false;
  RequestParser parser;
  parser.header_limit(static_cast<std::uint32_t>(limits_.header_bytes));
  parser.body_limit(boost::none);  // set for the route once the header is there
  if (!ReadRequest(parser) || !ReadBody(parser)) return false;
  keep_alive_ = parser.get().keep_alive();
  request_.body = std::move(parser.get().body());
  HandleRequest();
  return keep_alive_;
}

// Reads nothing but the first bytes, so that an idle connection and a slow header differ.
bool Connection::WaitForRequest() {
  const auto error = Run(limits_.idle_seconds, [&](auto done) {
    stream_.async_read_some(buffer_.prepare(4096), [&, done](beast::error_code e, size_t n) {
      buffer_.commit(n);
      done(e, n);
    });
  });
  return !error;
}

bool Connection::ReadRequest(RequestParser& parser) {
  const auto error = Run(limits_.header_seconds, [&](auto done) {
    http::async_read_header(stream_, buffer_, parser, done);
  });
  if (!error) {
    const auto& header = parser.get();
    request_.method = std::string(header.method_string());
    request_.path = PathOf({header.target().data(), header.target().size()});
    const auto checksum = header[kChecksumHeader];
    request_.checksum.assign(checksum.data(), checksum.size());
    return true;
  }
  keep_alive_ = false;
  if (error == http::error::header_limit) {
    ReplyError(431, MakeError(ErrorCode::kOutOfRange, "request header: more than {} bytes",
                              limits_.header_bytes));
  } else if (error != http::error::end_of_stream &&
             error.category() == http::make_error_code(http::error::bad_method).category()) {
    ReplyError(400, MakeError(ErrorCode::kCorrupt, "request: {}", error.message()));
  }
  return false;
}

bool Connection::ReadBody(RequestParser& parser) {
  const u64 limit = handler_.BodyLimit(request_.method, request_.path);
  const auto length = parser.content_length();
  keep_alive_ = false;
  if (length && *length > limit) {
    ReplyError(413, MakeError(ErrorCode::kOutOfRange, "request body of {} {}: {} bytes above {}",
                              request_.method, request_.path, *length, limit));
    return false;
  }
  parser.body_limit(limit);
  if (beast::iequals(parser.get()[http::field::expect], "100-continue")) {
    http::response<http::empty_body> go_on(http::status::continue_, 11);
    if (!WriteMessage(go_on).ok()) return false;
  }
  const auto error = Run(limits_.body_seconds,
                         [&](auto done) { http::async_read(stream_, buffer_, parser, done); });
  if (error == http::error::body_limit) {
    ReplyError(413, MakeError(ErrorCode::kOutOfRange, "request body of {} {}: more than {} bytes",
                              request_.method, request_.path, limit));
  }
  return !error;
}

void Connection::HandleRequest() {
  try {
    handler_.Handle(*this);
  } catch (const std::bad_alloc&) {
    keep_alive_ = false;
    if (!answered_) ReplyError(503, MakeError(ErrorCode::kResource, "out of memory"));
  } catch (const std::exception& exception) {
    keep_alive_ = false;
    if (!answered_) ReplyError(500, MakeError(ErrorCode::kIo, "internal: {}", exception.what()));
  }
}

template <typename Message>
Status Connection::WriteMessage(Message& message) {
  const auto error =
      Run(limits_.write_seconds, [&](auto done) { http::async_write(stream_, message, done); });
  return ToStatus(error, "writing the reply");
}

void Connection::ReplyError(int status, const Error& error) {
  HttpReply reply;
  reply.status = status;
  reply.text = ErrorToJson(error);
  // The connection closes after it: nothing is left to tell anyone when the write fails.
  (void)Reply(reply).ok();
}

Status Connection::Reply(const HttpReply& reply) {
  answered_ = true;
  http::response<http::span_body<const std::uint8_t>> message(
      static_cast<http::status>(reply.status), 11);
  message.set(http::field::server, kServerName);
  message.set(http::field::content_type, reply.content_type);
  message.set(http::field::cache_control, "no-store");
  message.keep_alive(keep_alive_);
  const auto* text = reinterpret_cast<const std::uint8_t*>(reply.text.data());
  message.body() = reply.bytes.empty()
                       ? beast::span<const std::uint8_t>(text, reply.text.size())
                       : beast::span<const std::uint8_t>(reply.bytes.data(), reply.bytes.size());
  message.prepare_payload();
  const Status status = WriteMessage(message);
  if (!status.ok()) keep_alive_ = false;
  return status;
}

Status Connection::BeginStream(const char* content_type) {
  answered_ = true;
  http::response<http::empty_body> header(http::status::ok, 11);
  header.set(http::field::server, kServerName);
  header.set(http::field::content_type, content_type);
  header.set(http::field::cache_control, "no-store");
  header.keep_alive(keep_alive_);
  header.chunked(true);
  http::response_serializer<http::empty_body> serializer(header);
  const auto error = Run(limits_.write_seconds,
                         [&](auto done) { http::async_write_header(stream_, serializer, done); });
  if (error) keep_alive_ = false;
  return ToStatus(error, "writing the reply's header");
}

Status Connection::Send(wire::ByteView bytes) {
  const auto chunk = http::make_chunk(asio::buffer(bytes.data(), bytes.size()));
  const auto error =
      Run(limits_.write_seconds, [&](auto done) { asio::async_write(stream_, chunk, done); });
  if (error) keep_alive_ = false;
  return ToStatus(error, "writing the reply");
}

Status Connection::EndStream() {
  const auto chunk = http::make_chunk_last();
  const auto error =
      Run(limits_.write_seconds, [&](auto done) { asio::async_write(stream_, chunk, done); });
  if (error) keep_alive_ = false;
  return ToStatus(error, "ending the reply");
}

bool Connection::Disconnected() {
  if (stopping_) return true;
  char byte;
  const ssize_t got = recv(stream_.socket().native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

}  // namespace polyveil::serve
