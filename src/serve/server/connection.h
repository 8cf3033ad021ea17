// One connection of the server, on the thread that calls Serve.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <functional>
#include <optional>
#include <vector>

#include "base/system.h"
#include "serve/byte_stream.h"
#include "serve/server/growing_body.h"
#include "serve/server/host_rules.h"
#include "serve/server/http_server.h"

namespace polyveil::serve {

// Every socket operation is asynchronous with a deadline and waited for on the connection's own
// io_context: blocking code, but no operation can hang.
class Connection final : public Exchange {
 public:
  Connection(const HttpLimits& limits, const HostRules& hosts, HttpHandler& handler,
             boost::asio::ssl::context* tls, const std::atomic<bool>& stopping)
      : limits_(limits),
        hosts_(hosts),
        handler_(handler),
        stopping_(stopping),
        context_(1),
        stream_(context_, tls) {}

  // Of the connection's own io_context; to accept into.
  boost::asio::ip::tcp::socket& socket() { return stream_.tcp().socket(); }
  // Requests until the client leaves, an error or a stop.
  void Serve();
  // Says 503 and closes.
  void Refuse();
  // Aborts the operation under way; from any thread.
  void Interrupt();
  // For how long others have had a better right to its place than it has, waiting for a request;
  // negative: not at all. From any thread.
  double OverdueSeconds() const;

  const HttpRequest& request() const override { return request_; }
  Status Reply(const HttpReply& reply) override;
  Status BeginStream(const char* content_type) override;
  Status Send(wire::ByteView bytes) override;
  Status EndStream() override;
  bool Disconnected() override;
  std::weak_ptr<const void> connection() const override { return alive_; }

 private:
  using IoError = boost::beast::error_code;
  using RequestParser = boost::beast::http::request_parser<GrowingBody>;

  // Starts an operation, waits for it: its error, or a timeout's.
  IoError Run(double seconds, const std::function<void(ByteStream::Done)>& start);
  // More of what the client sends, into buffer_.
  IoError ReadMore(double seconds);
  // Calls `action`; its exceptions become a reply, where none has been given, and a close.
  void Guarded(const std::function<void()>& action);
  // Waits for a client on others' patience.
  void YieldAfter(double seconds) { overdue_from_ = age_.Seconds() + seconds; }
  bool Handshake();
  void SayTlsEnds();
  bool WaitForRequest();
  bool ServeOne();
  void Linger();
  bool ReadRequest(RequestParser& parser);
  IoError ReadHeader(RequestParser& parser);
  bool TakeHeader(const RequestParser& parser);
  Status CheckNames(const RequestParser& parser, int& status) const;
  bool AdmitBody(RequestParser& parser);
  bool ReadBody(RequestParser& parser);
  IoError ReadPieces(RequestParser& parser);
  using Buffers = std::vector<boost::asio::const_buffer>;
  Status Write(const Buffers& buffers);
  using Header = boost::beast::http::response<boost::beast::http::empty_body>;
  Header HeaderOf(const HttpReply& reply, size_t body_bytes) const;
  Status ReplyInPieces(const std::string& header, wire::ByteView body);
  // The connection closes after it.
  void ReplyError(int status, const Error& error) { Refuse({status, error}); }
  void Refuse(const Refusal& refusal);

  const HttpLimits& limits_;
  const HostRules& hosts_;
  HttpHandler& handler_;
  const std::atomic<bool>& stopping_;
  boost::asio::io_context context_;
  ByteStream stream_;
  boost::beast::flat_buffer buffer_;
  HttpRequest request_;
  bool head_ = false;  // the request's method is HEAD
  bool keep_alive_ = false;
  bool answered_ = false;
  int status_ = 0;      // that was answered
  Timer since_header_;  // of the request
  const Timer age_;
  bool served_ = false;  // a request
  // The age from which on others may have its place; negative while it has a request.
  std::atomic<double> overdue_from_{-1};
  const std::shared_ptr<const int> alive_ = std::make_shared<const int>(0);
};

}  // namespace polyveil::serve
