#include "serve/server/http_server.h"

#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#include "serve/server/connection.h"

namespace polyveil::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

class ThreadedServer final : public HttpServer {
 public:
  ThreadedServer(const HttpOptions& options, HttpHandler& handler)
      : options_(options), handler_(handler), acceptor_(context_), retry_(context_) {}
  ~ThreadedServer() override { Stop(); }

  Status Listen();
  int port() const override { return port_; }
  void Stop() override;

 private:
  struct Worker {
    std::unique_ptr<Connection> connection;
    std::thread thread;
    std::atomic<bool> finished{false};
  };

  void Accept();
  void Accepted(std::unique_ptr<Connection> connection, tcp::socket socket);
  void RetryLater();
  void CollectFinished();
  size_t Running();

  const HttpOptions options_;
  HttpHandler& handler_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer retry_;
  std::atomic<bool> stopping_{false};
  std::thread accept_thread_;
  int port_ = 0;
  std::mutex mutex_;
  std::list<Worker> workers_;  // guarded by mutex_
};

Status ThreadedServer::Listen() {
  error_code error;
  const auto address = asio::ip::make_address(options_.address, error);
  if (error) {
    return MakeError(ErrorCode::kInvalidArgument, "bind address '{}': {}", options_.address,
                     error.message());
  }
  const tcp::endpoint endpoint(address, static_cast<unsigned short>(options_.port));
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return MakeError(ErrorCode::kIo, "cannot listen on {}:{}: {}", options_.address, options_.port,
                     error.message());
  }
  port_ = acceptor_.local_endpoint().port();
  Accept();
  accept_thread_ = std::thread([this] { context_.run(); });
  return {};
}

void ThreadedServer::Accept() {
  auto connection = std::make_unique<Connection>(options_.limits, handler_, stopping_);
  asio::io_context& context = connection->context();
  acceptor_.async_accept(
      context, [this, held = std::move(connection)](error_code error, tcp::socket socket) mutable {
        if (stopping_) return;
        if (error) return RetryLater();  // out of file descriptors, a client that left
        Accepted(std::move(held), std::move(socket));
        Accept();
      });
}

void ThreadedServer::RetryLater() {
  retry_.expires_after(std::chrono::milliseconds(100));
  retry_.async_wait([this](error_code error) {
    if (!error && !stopping_) Accept();
  });
}

void ThreadedServer::Accepted(std::unique_ptr<Connection> connection, tcp::socket socket) {
  error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  connection->Adopt(std::move(socket));
  CollectFinished();
  // A few threads more than the limit, to say 503 without blocking this one.
  const size_t running = Running();
  const size_t limit = static_cast<size_t>(options_.limits.connections);
  if (running >= limit + 8) return;  // closes it
  const bool refuse = running >= limit;
  const std::lock_guard lock(mutex_);
  Worker& worker = workers_.emplace_back();
  worker.connection = std::move(connection);
  try {
    worker.thread = std::thread([&worker, refuse] {
      if (refuse) {
        worker.connection->Refuse();
      } else {
        worker.connection->Serve();
      }
      worker.finished = true;
    });
  } catch (const std::system_error&) {
    workers_.pop_back();  // the machine has no thread left: closes it
  }
}

size_t ThreadedServer::Running() {
  const std::lock_guard lock(mutex_);
  return workers_.size();
}

void ThreadedServer::CollectFinished() {
  const std::lock_guard lock(mutex_);
  for (auto it = workers_.begin(); it != workers_.end();) {
    if (!it->finished) {
      ++it;
      continue;
    }
    it->thread.join();
    it = workers_.erase(it);
  }
}

void ThreadedServer::Stop() {
  if (stopping_.exchange(true)) return;
  asio::post(context_, [this] {
    error_code ignored;
    acceptor_.close(ignored);
    retry_.cancel();
  });
  if (accept_thread_.joinable()) accept_thread_.join();
  const std::lock_guard lock(mutex_);
  for (Worker& worker : workers_) worker.connection->Interrupt();
  for (Worker& worker : workers_) worker.thread.join();
  workers_.clear();
}

}  // namespace

Result<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                      HttpHandler& handler) {
  auto server = std::make_unique<ThreadedServer>(options, handler);
  PV_RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace polyveil::serve
