// A TCP connection, in the clear or inside TLS: one type, so that one code serves both. What Asio
// and OpenSSL instantiate for an operation is compiled once, in byte_stream.cc.
#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <functional>
#include <memory>
#include <vector>

namespace boost::asio::ssl {
class context;
}
struct ssl_st;

namespace polyveil::serve {

// One operation at a time: it returns at once and calls `done` (error, bytes) from the io_context.
// Buffers outlive the operation. Deadlines are those of tcp().
class ByteStream {
 public:
  using Done = std::function<void(boost::beast::error_code, size_t)>;

  // tls: null for bytes in the clear; else outlives the stream.
  ByteStream(boost::asio::io_context& context, boost::asio::ssl::context* tls);
  ~ByteStream();
  ByteStream(const ByteStream&) = delete;

  boost::beast::tcp_stream& tcp() { return tcp_; }
  bool encrypted() const { return tls_ != nullptr; }

  // These require encrypted().
  ssl_st* tls();
  void HandshakeAsServer(Done done);
  void HandshakeAsClient(Done done);
  void EndTls(Done done);  // sends the alert, waits for the peer's

  // At least one byte, or an error.
  void ReadSome(boost::asio::mutable_buffer buffer, Done done);
  void ReadSomeBelowTls(boost::asio::mutable_buffer buffer, Done done);
  // All of them.
  void Write(const std::vector<boost::asio::const_buffer>& buffers, Done done);

 private:
  struct Tls;
  boost::beast::tcp_stream tcp_;
  const std::unique_ptr<Tls> tls_;
};

}  // namespace polyveil::serve
