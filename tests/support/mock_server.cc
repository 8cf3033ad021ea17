#include "support/mock_server.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace polyveil::testing {
namespace {

void Pause(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

size_t ContentLength(std::string_view header) {
  constexpr std::string_view kField = "Content-Length: ";
  const size_t at = header.find(kField);
  if (at == std::string_view::npos) return 0;
  return std::strtoull(std::string(header.substr(at + kField.size(), 20)).c_str(), nullptr, 10);
}

// Of 127.0.0.1 or ::1 on any port; its port.
int Bind(int fd, bool ipv6) {
  sockaddr_storage address{};
  socklen_t size = 0;
  if (ipv6) {
    auto& in = reinterpret_cast<sockaddr_in6&>(address);
    in.sin6_family = AF_INET6;
    in.sin6_addr = in6addr_loopback;
    size = sizeof in;
  } else {
    auto& in = reinterpret_cast<sockaddr_in&>(address);
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    size = sizeof in;
  }
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(fd, generic, size) != 0 || listen(fd, 16) != 0) return 0;
  getsockname(fd, generic, &size);
  return ntohs(ipv6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                    : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

}  // namespace

bool MockPeer::Send(std::string_view bytes) {
  while (open_ && !bytes.empty() && !stop_) {
    pollfd wait{fd_, POLLOUT, 0};
    if (poll(&wait, 1, 20) <= 0) continue;
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) bytes.remove_prefix(static_cast<size_t>(sent));
    if (sent < 0 && errno != EAGAIN && errno != EINTR) open_ = false;
  }
  return bytes.empty();
}

size_t MockPeer::SendForEver(std::string_view piece, double pause_seconds) {
  std::string pieces(piece);
  while (pause_seconds == 0 && pieces.size() < 16384) pieces += piece;
  size_t sent = 0;
  while (Send(pieces)) {
    sent += pieces.size();
    if (pause_seconds > 0) Pause(pause_seconds);
  }
  return sent;
}

void MockPeer::WaitForEver() {
  std::string ignored;
  while (Read(ignored)) ignored.clear();
}

bool MockPeer::Read(std::string& buffer) {
  while (open_ && !stop_) {
    pollfd wait{fd_, POLLIN, 0};
    if (poll(&wait, 1, 20) <= 0) continue;
    std::array<char, 65536> piece;
    const ssize_t got = recv(fd_, piece.data(), piece.size(), 0);
    if (got <= 0) break;
    buffer.append(piece.data(), static_cast<size_t>(got));
    return true;
  }
  open_ = false;
  return false;
}

bool MockPeer::ReadRequest(std::string& buffer, MockRequest& request) {
  size_t end = 0;
  while ((end = buffer.find("\r\n\r\n")) == std::string::npos) {
    if (!Read(buffer)) return false;
  }
  const std::string header = buffer.substr(0, end + 4);
  const size_t total = header.size() + ContentLength(header);
  while (buffer.size() < total) {
    if (!Read(buffer)) return false;
  }
  const size_t space = header.find(' ');
  request.method = header.substr(0, space);
  request.path = header.substr(space + 1, header.find(' ', space + 1) - space - 1);
  request.header = header;
  request.body = buffer.substr(header.size(), total - header.size());
  buffer.erase(0, total);
  return true;
}

MockServer::MockServer(Answer answer, bool ipv6) : answer_(std::move(answer)), ipv6_(ipv6) {
  listener_ = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  PV_CHECK(listener_ >= 0, "socket: {}", std::strerror(errno));
  port_ = Bind(listener_, ipv6);
  PV_CHECK(port_ > 0, "bind: {}", std::strerror(errno));
  acceptor_ = std::thread([this] { Accept(); });
}

MockServer::~MockServer() {
  stop_ = true;
  acceptor_.join();
  for (auto& connection : connections_) connection.join();
  close(listener_);
}

serve::Url MockServer::url() const { return {ipv6_ ? "::1" : "127.0.0.1", std::to_string(port_)}; }

std::vector<MockRequest> MockServer::Requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void MockServer::Accept() {
  while (!stop_) {
    pollfd wait{listener_, POLLIN, 0};
    if (poll(&wait, 1, 20) <= 0) continue;
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) connections_.emplace_back([this, fd] { Serve(fd); });
  }
}

void MockServer::Serve(int fd) {
  MockPeer peer(fd, stop_);
  MockRequest request;
  for (std::string buffer; peer.open() && peer.ReadRequest(buffer, request);) {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    answer_(request, peer);
  }
  close(fd);
}

void ExchangedAnswer::Set(Chosen chosen, MockServer::Answer answer) {
  const std::lock_guard lock(mutex_);
  chosen_ = std::move(chosen);
  answer_ = std::move(answer);
}

MockServer::Answer ExchangedAnswer::For(const MockRequest& request) const {
  const std::lock_guard lock(mutex_);
  return chosen_ && chosen_(request.Line()) ? answer_ : nullptr;
}

std::string MockReply(int status, std::string_view body) {
  return fmt::format(
      "HTTP/1.1 {} Mock\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", status,
      body.size(), body);
}

std::string MockChunkedHeader() { return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"; }

std::string MockChunk(std::string_view data) {
  return fmt::format("{:x}\r\n{}\r\n", data.size(), data);
}

}  // namespace polyveil::testing
