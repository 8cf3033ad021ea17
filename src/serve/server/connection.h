// One connection of the server, on the thread that calls Serve.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>

#include "serve/server/http_server.h"

namespace polyveil::serve {

// Every socket operation is asynchronous with a deadline and waited for on the connection's own
// io_context: blocking code, but no operation can hang.
class Connection final : public Exchange {
 public:
  Connection(const HttpLimits& limits, HttpHandler& handler, const std::atomic<bool>& stopping)
      : limits_(limits), handler_(handler), stopping_(stopping), context_(1), stream_(context_) {}

  boost::asio::io_context& context() { return context_; }
  void Adopt(boost::asio::ip::tcp::socket socket) { stream_.socket() = std::move(socket); }
  // Requests until the client leaves, an error or a stop.
  void Serve();
  // Says 503 and closes.
  void Refuse();
  // Aborts the operation under way; from any thread.
  void Interrupt();

  const HttpRequest& request() const override { return request_; }
  Status Reply(const HttpReply& reply) override;
  Status BeginStream(const char* content_type) override;
  Status Send(wire::ByteView bytes) override;
  Status EndStream() override;
  bool Disconnected() override;

 private:
  using RequestParser =
      boost::beast::http::request_parser<boost::beast::http::vector_body<std::uint8_t>>;

  // Starts an operation, waits for it: its error, or a timeout's.
  template <typename Start>
  boost::beast::error_code Run(double seconds, Start&& start);
  bool ServeOne();
  void Linger();
  bool WaitForRequest();
  bool ReadRequest(RequestParser& parser);
  bool ReadBody(RequestParser& parser);
  void HandleRequest();
  template <typename Message>
  Status WriteMessage(Message& message);
  void ReplyError(int status, const Error& error);

  const HttpLimits& limits_;
  HttpHandler& handler_;
  const std::atomic<bool>& stopping_;
  boost::asio::io_context context_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
  HttpRequest request_;
  bool keep_alive_ = false;
  bool answered_ = false;
};

}  // namespace polyveil::serve
