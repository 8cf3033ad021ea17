// A server on loopback that says whatever a test wants, byte by byte.
#pragma once

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "serve/client/http_client.h"

namespace polyveil::testing {

struct MockRequest {
  std::string method, path, body;
  std::string header;  // all of it
  std::string Line() const { return method + " " + path; }
};

// One connection, as the test's answer sees it.
class MockPeer {
 public:
  MockPeer(int fd, const std::atomic<bool>& stop) : fd_(fd), stop_(stop) {}
  // False once the client is gone or the server stops.
  bool Send(std::string_view bytes);
  // Sends the piece again and again until the client has had enough of it; returns the bytes sent.
  size_t SendForEver(std::string_view piece, double pause_seconds = 0);
  // Waits until the client is gone.
  void WaitForEver();
  void Close() { open_ = false; }
  bool open() const { return open_; }

 private:
  friend class MockServer;
  bool Read(std::string& buffer);
  bool ReadRequest(std::string& buffer, MockRequest& request);

  int fd_;
  const std::atomic<bool>& stop_;
  bool open_ = true;
};

class MockServer {
 public:
  using Answer = std::function<void(const MockRequest&, MockPeer&)>;
  explicit MockServer(Answer answer, bool ipv6 = false);
  ~MockServer();

  serve::Url url() const;
  // Requests so far, in their order.
  std::vector<MockRequest> Requests() const;

 private:
  void Accept();
  void Serve(int fd);

  const Answer answer_;
  const bool ipv6_;
  int listener_ = -1, port_ = 0;
  std::atomic<bool> stop_{false};
  mutable std::mutex mutex_;
  std::vector<MockRequest> requests_;  // guarded by mutex_
  std::list<std::thread> connections_;
  std::thread acceptor_;
};

// The answer that a test has exchanged for an honest one. Copied out: the last connection may still
// be answered when the next exchange begins.
class ExchangedAnswer {
 public:
  using Chosen = std::function<bool(const std::string& request_line)>;
  void Set(Chosen chosen, MockServer::Answer answer);
  // Null: an honest one.
  MockServer::Answer For(const MockRequest& request) const;

 private:
  mutable std::mutex mutex_;
  Chosen chosen_;              // guarded by mutex_
  MockServer::Answer answer_;  // guarded by mutex_
};

// A whole reply, and the same as one chunk.
std::string MockReply(int status, std::string_view body);
std::string MockChunkedHeader();
std::string MockChunk(std::string_view data);

}  // namespace polyveil::testing
