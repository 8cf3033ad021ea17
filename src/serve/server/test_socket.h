// A bare TCP client for tests: bytes as they are, no HTTP.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

namespace polyveil::serve {

class TestSocket {
 public:
  TestSocket() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  explicit TestSocket(int port) : TestSocket() { Connect(port); }
  TestSocket(TestSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  TestSocket& operator=(TestSocket&&) = delete;
  ~TestSocket() { Close(); }

  // To this machine.
  bool Connect(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  // No operation takes longer.
  void SetTimeout(int seconds) {
    const timeval limit{seconds, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  // False when the other side has closed.
  bool Write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t n = send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      text.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  // What comes until the other side closes.
  std::string ReadAll() {
    std::string out;
    char piece[4096];
    for (ssize_t n; (n = recv(fd_, piece, sizeof piece, 0)) > 0;)
      out.append(piece, static_cast<size_t>(n));
    return out;
  }
  // What comes next; empty at the end.
  std::string ReadSome() {
    char piece[65536];
    const ssize_t n = recv(fd_, piece, sizeof piece, 0);
    return n > 0 ? std::string(piece, static_cast<size_t>(n)) : std::string();
  }
  void ShutdownWrite() { shutdown(fd_, SHUT_WR); }
  // The other side sees a reset, not an end.
  void Abort() {
    const linger now{1, 0};
    setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    Close();
  }
  void Close() {
    if (fd_ >= 0) close(std::exchange(fd_, -1));
  }

 private:
  int fd_;
};

}  // namespace polyveil::serve
