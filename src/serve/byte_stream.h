// A TCP connection, in the clear or inside TLS: one type, so that one code serves both.
#pragma once

#include <boost/asio/ssl/stream.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <optional>
#include <utility>

namespace polyveil::serve {

// Reads and writes as Asio's streams do; deadlines are those of the TCP stream below.
class ByteStream {
 public:
  using executor_type = boost::beast::tcp_stream::executor_type;

  // tls: null for bytes in the clear; else outlives the stream.
  ByteStream(boost::asio::io_context& context, boost::asio::ssl::context* tls) : tcp_(context) {
    if (tls != nullptr) tls_.emplace(tcp_, *tls);
  }
  ByteStream(const ByteStream&) = delete;

  boost::beast::tcp_stream& tcp() { return tcp_; }
  bool encrypted() const { return tls_.has_value(); }
  // Requires encrypted().
  SSL* tls() { return tls_->native_handle(); }
  executor_type get_executor() { return tcp_.get_executor(); }

  // handler: (error_code). Requires encrypted().
  template <typename Handler>
  void async_handshake(boost::asio::ssl::stream_base::handshake_type type, Handler&& handler) {
    tls_->async_handshake(type, std::forward<Handler>(handler));
  }
  template <typename Handler>
  void async_shutdown(Handler&& handler) {
    tls_->async_shutdown(std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  void async_read_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) return (void)tls_->async_read_some(buffers, std::forward<Handler>(handler));
    tcp_.async_read_some(buffers, std::forward<Handler>(handler));
  }
  template <typename Buffers, typename Handler>
  void async_write_some(const Buffers& buffers, Handler&& handler) {
    if (tls_) return (void)tls_->async_write_some(buffers, std::forward<Handler>(handler));
    tcp_.async_write_some(buffers, std::forward<Handler>(handler));
  }

 private:
  boost::beast::tcp_stream tcp_;
  std::optional<boost::asio::ssl::stream<boost::beast::tcp_stream&>> tls_;
};

}  // namespace polyveil::serve
