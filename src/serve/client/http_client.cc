#include "serve/client/http_client.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <chrono>

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

bool IsPort(const std::string& text) {
  if (text.empty() || text.size() > 5) return false;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
  }
  const int port = std::stoi(text);
  return port >= 1 && port <= 65535;
}

}  // namespace

Result<Url> ParseUrl(const std::string& text) {
  const std::string scheme = "http://";
  std::string rest = text.starts_with(scheme) ? text.substr(scheme.size()) : text;
  if (rest.ends_with('/')) rest.pop_back();
  const size_t colon = rest.rfind(':');
  Url url{rest.substr(0, colon), colon == std::string::npos ? "80" : rest.substr(colon + 1)};
  const bool plain = url.host.find_first_of("/@?# []") == std::string::npos;
  if (!url.host.empty() && plain && IsPort(url.port)) return url;
  return MakeError(ErrorCode::kInvalidArgument, "server '{}' is no http://host:port", text);
}

HttpClient::HttpClient(Url url, const std::atomic<bool>* cancel)
    : url_(std::move(url)), cancel_(cancel) {}

template <typename Start>
Status HttpClient::Run(double seconds, const char* action, Start&& start) {
  const auto asked = [&] { return cancel_ != nullptr && !ignore_cancel_ && *cancel_; };
  if (asked()) {
    stream_.reset();
    return MakeError(ErrorCode::kCancelled, "cancelled before {}", action);
  }
  beast::error_code result = asio::error::operation_aborted;
  bool done = false;
  stream_->expires_after(std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::duration<double>(seconds)));
  start([&](beast::error_code error) {
    result = error;
    done = true;
  });
  context_.restart();
  bool cancelled = false;
  while (!done) {
    context_.run_for(std::chrono::milliseconds(100));
    cancelled = cancelled || asked();
    if (cancelled && !done) stream_->close();
    if (context_.stopped() && !done) context_.restart();
  }
  context_.run();  // a timer's handler that the operation has cancelled
  if (!result) return {};
  stream_.reset();
  if (cancelled) return MakeError(ErrorCode::kCancelled, "cancelled while {}", action);
  return MakeError(ErrorCode::kUnavailable, "{}: {}: {}", url_.Text(), action, result.message());
}

Status HttpClient::Connect() {
  if (stream_ && idle_.Seconds() < kReconnectAfterSeconds) return {};
  buffer_.clear();
  beast::error_code error;
  tcp::resolver resolver(context_);
  const auto endpoints = resolver.resolve(url_.host, url_.port, error);
  if (error) {
    return MakeError(ErrorCode::kUnavailable, "{}: cannot resolve the name: {}", url_.Text(),
                     error.message());
  }
  stream_.emplace(context_);
  PV_RETURN_IF_ERROR(Run(kConnectSeconds, "connecting", [&](auto done) {
    stream_->async_connect(endpoints,
                           [done](beast::error_code e, const tcp::endpoint&) { done(e); });
  }));
  stream_->socket().set_option(tcp::no_delay(true), error);
  return {};
}

Status HttpClient::Write(const ClientRequest& request) {
  http::request<http::span_body<const std::uint8_t>> message;
  message.method_string(request.method);
  message.target(request.path);
  message.set(http::field::host, url_.host + ":" + url_.port);
  message.set(http::field::user_agent, "polyveil");
  if (!request.body.empty()) message.set(http::field::content_type, request.content_type);
  if (!request.checksum.empty()) message.set(kChecksumHeader, request.checksum);
  message.body() = {request.body.data(), request.body.size()};
  message.prepare_payload();
  return Run(kWriteSeconds, "sending the request", [&](auto done) {
    http::async_write(*stream_, message, [this, done](beast::error_code e, size_t n) {
      bytes_sent_ += n;
      done(e);
    });
  });
}

Status HttpClient::ReadBody(const ClientRequest& request, Parser& parser, const Sink& sink) {
  std::array<std::uint8_t, 65536> piece;
  u64 received = 0;
  while (!parser.is_done()) {
    parser.get().body().data = piece.data();
    parser.get().body().size = piece.size();
    PV_RETURN_IF_ERROR(Run(request.reply_seconds, "reading the reply", [&](auto done) {
      http::async_read_some(*stream_, buffer_, parser, [this, done](beast::error_code e, size_t n) {
        bytes_received_ += n;
        done(e == http::error::need_buffer ? beast::error_code() : e);
      });
    }));
    const size_t got = piece.size() - parser.get().body().size;
    received += got;
    if (received > request.max_reply_bytes) {
      stream_.reset();
      return MakeError(ErrorCode::kOutOfRange, "{}: a reply above {} bytes", url_.Text(),
                       request.max_reply_bytes);
    }
    PV_RETURN_IF_ERROR(sink(wire::ByteView(piece.data(), got)));
  }
  return {};
}

Result<ClientReply> HttpClient::SendStreaming(const ClientRequest& request, const Sink& sink) {
  ignore_cancel_ = request.ignore_cancel;
  PV_RETURN_IF_ERROR(Connect());
  PV_RETURN_IF_ERROR(Write(request));
  Parser parser;
  parser.body_limit(boost::none);  // counted in ReadBody
  PV_RETURN_IF_ERROR(Run(request.reply_seconds, "waiting for the reply", [&](auto done) {
    http::async_read_header(*stream_, buffer_, parser, [this, done](beast::error_code e, size_t n) {
      bytes_received_ += n;
      done(e);
    });
  }));
  ClientReply reply;
  reply.status = static_cast<int>(parser.get().result_int());
  const Sink keep = [&](wire::ByteView bytes) -> Status {
    reply.body.insert(reply.body.end(), bytes.begin(), bytes.end());
    return {};
  };
  const Status body = ReadBody(request, parser, reply.status == 200 ? sink : keep);
  if (!body.ok()) {
    stream_.reset();
    return body.error();
  }
  if (!parser.get().keep_alive()) stream_.reset();
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
  if (reply.status == 200) reply.body = std::move(body);
  return reply;
}

}  // namespace polyveil::serve
