#include "serve/byte_stream.h"

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>

namespace polyveil::serve {

namespace asio = boost::asio;
using boost::beast::error_code;

struct ByteStream::Tls {
  asio::ssl::stream<boost::beast::tcp_stream&> stream;
};

ByteStream::ByteStream(asio::io_context& context, asio::ssl::context* tls)
    : tcp_(context), tls_(tls ? new Tls{{tcp_, *tls}} : nullptr) {}

ByteStream::~ByteStream() = default;

ssl_st* ByteStream::tls() { return tls_->stream.native_handle(); }

void ByteStream::HandshakeAsServer(Done done) {
  tls_->stream.async_handshake(asio::ssl::stream_base::server,
                               [done](error_code error) { done(error, 0); });
}

void ByteStream::HandshakeAsClient(Done done) {
  tls_->stream.async_handshake(asio::ssl::stream_base::client,
                               [done](error_code error) { done(error, 0); });
}

void ByteStream::EndTls(Done done) {
  tls_->stream.async_shutdown([done](error_code error) { done(error, 0); });
}

void ByteStream::ReadSome(asio::mutable_buffer buffer, Done done) {
  if (!tls_) return ReadSomeBelowTls(buffer, std::move(done));
  tls_->stream.async_read_some(buffer, std::move(done));
}

void ByteStream::ReadSomeBelowTls(asio::mutable_buffer buffer, Done done) {
  tcp_.async_read_some(buffer, std::move(done));
}

void ByteStream::Write(const std::vector<asio::const_buffer>& buffers, Done done) {
  if (tls_) return asio::async_write(tls_->stream, buffers, std::move(done));
  asio::async_write(tcp_, buffers, std::move(done));
}

}  // namespace polyveil::serve
