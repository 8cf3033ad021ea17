#include "serve/server/http_server.h"

#include <algorithm>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <list>
#include <mutex>
#include <system_error>
#include <thread>

#include "serve/protocol.h"
#include "serve/server/connection.h"
#include "serve/server/host_rules.h"

namespace polyveil::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kRetry(100);

std::string Authority(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + address + "]" : address) + ":" +
         std::to_string(endpoint.port());
}

// What `address` stands for: itself, or the numbers of a name, IPv4 first.
Result<std::vector<tcp::endpoint>> Resolve(const HttpOptions& options) {
  std::string text = options.address;
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  error_code error;
  const auto port = static_cast<unsigned short>(options.port);
  const auto number = asio::ip::make_address(text, error);
  if (!error) return std::vector{tcp::endpoint(number, port)};
  asio::io_context context;
  const auto found = tcp::resolver(context).resolve(text, std::to_string(port), error);
  if (error || found.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "bind address '{}': {}", options.address,
                     error.message());
  }
  std::vector<tcp::endpoint> endpoints(found.begin(), found.end());
  std::stable_sort(endpoints.begin(), endpoints.end(), [](const auto& a, const auto& b) {
    return a.address().is_v4() && !b.address().is_v4();
  });
  return endpoints;
}

Status CheckPlain(const HttpOptions& options, const tcp::endpoint& endpoint) {
  if (options.tls || options.plain_http || endpoint.address().is_loopback()) return {};
  return MakeError(
      ErrorCode::kSecurity,
      "bind address '{}': without TLS whoever is on the way sees and changes requests, "
      "accounts' tokens included: give a certificate (--tls-certificate, --tls-key), "
      "or --plain-http to serve all the same",
      options.address);
}

class ThreadedServer final : public HttpServer {
 public:
  ThreadedServer(const HttpOptions& options, HttpHandler& handler)
      : options_(options), handler_(handler), acceptor_(context_) {}
  ~ThreadedServer() override { Stop(); }

  Status Listen();
  int port() const override { return bound_.port(); }
  std::string authority() const override { return Authority(bound_); }
  void Stop() override;

 private:
  struct Worker {
    std::unique_ptr<Connection> connection;  // null once it has ended
    std::thread thread;
    bool finished = false;
  };

  error_code Open(const tcp::endpoint& endpoint);
  void AcceptAll();
  error_code AcceptOne();
  void Accepted(std::unique_ptr<Connection> connection);
  bool DisplaceIdle();
  void Work(Worker& worker, bool refuse);
  void CollectFinished();
  size_t Running();

  const HttpOptions options_;
  HttpHandler& handler_;
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  std::atomic<bool> stopping_{false};
  std::thread accept_thread_;
  tcp::endpoint bound_;
  std::unique_ptr<const HostRules> hosts_;
  std::mutex mutex_;
  std::list<Worker> workers_;  // guarded by mutex_, members too
};

error_code ThreadedServer::Open(const tcp::endpoint& endpoint) {
  error_code error, ignored;
  acceptor_.close(ignored);
  acceptor_.open(endpoint.protocol(), error);
  if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
  if (!error) acceptor_.bind(endpoint, error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (!error) bound_ = acceptor_.local_endpoint(error);
  return error;
}

Status ThreadedServer::Listen() {
  PV_ASSIGN_OR_RETURN(const auto endpoints, Resolve(options_));
  error_code error;
  for (const tcp::endpoint& endpoint : endpoints) {
    PV_RETURN_IF_ERROR(CheckPlain(options_, endpoint));
    error = Open(endpoint);
    if (!error) break;
  }
  if (error) {
    return MakeError(ErrorCode::kIo, "cannot listen on {}:{}: {}", options_.address, options_.port,
                     error.message());
  }
  std::vector<std::string> names = options_.allowed_hosts;
  names.push_back(options_.address);
  hosts_ = std::make_unique<const HostRules>(bound_.address(), names);
  accept_thread_ = std::thread([this] { AcceptAll(); });
  return {};
}

// Whatever a connection meets (no memory, no descriptor, no thread left), the next one is accepted.
void ThreadedServer::AcceptAll() {
  while (!stopping_) {
    error_code error = asio::error::operation_aborted;
    try {
      CollectFinished();
      error = AcceptOne();
    } catch (const std::exception&) {
    }
    if (error && !stopping_) std::this_thread::sleep_for(kRetry);
  }
}

// A connection needs descriptors of its own before its socket comes.
error_code ThreadedServer::AcceptOne() {
  auto connection = std::make_unique<Connection>(options_.limits, *hosts_, handler_,
                                                 options_.tls.get(), stopping_);
  error_code error = asio::error::operation_aborted;
  acceptor_.async_accept(connection->socket(), [&](error_code result) { error = result; });
  context_.restart();
  context_.run();
  if (!error && !stopping_) Accepted(std::move(connection));
  return error;
}

void ThreadedServer::Accepted(std::unique_ptr<Connection> connection) {
  error_code ignored;
  connection->socket().set_option(tcp::no_delay(true), ignored);
  CollectFinished();
  // A few threads more than the limit, to say 503 without blocking this one.
  const size_t running = Running();
  const size_t limit = static_cast<size_t>(options_.limits.connections);
  if (running >= limit + 8) return;  // closes it
  const bool refuse = running >= limit && !DisplaceIdle();
  const std::lock_guard lock(mutex_);
  Worker& worker = workers_.emplace_back();
  worker.connection = std::move(connection);
  try {
    worker.thread = std::thread([this, &worker, refuse] { Work(worker, refuse); });
  } catch (const std::system_error&) {
    workers_.pop_back();  // the machine has no thread left: closes it
    throw;
  }
}

// Ends the connection whose place is others' for longest; false where there is none.
bool ThreadedServer::DisplaceIdle() {
  const std::lock_guard lock(mutex_);
  Connection* longest = nullptr;
  double seconds = 0;
  for (const Worker& worker : workers_) {
    const double overdue = worker.connection ? worker.connection->OverdueSeconds() : -1;
    if (overdue <= seconds) continue;
    longest = worker.connection.get();
    seconds = overdue;
  }
  if (longest) longest->Interrupt();
  return longest != nullptr;
}

// Descriptors and memory go with the connection; the thread is collected later.
void ThreadedServer::Work(Worker& worker, bool refuse) {
  Connection* connection = nullptr;
  {
    const std::lock_guard lock(mutex_);
    connection = worker.connection.get();
  }
  refuse ? connection->Refuse() : connection->Serve();
  const std::lock_guard lock(mutex_);
  worker.connection.reset();
  worker.finished = true;
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
  error_code ignored;
  asio::post(context_, [this, &ignored] { acceptor_.cancel(ignored); });
  if (accept_thread_.joinable()) accept_thread_.join();
  acceptor_.close(ignored);
  {
    const std::lock_guard lock(mutex_);
    for (Worker& worker : workers_) {
      if (worker.connection) worker.connection->Interrupt();
    }
  }
  for (Worker& worker : workers_) worker.thread.join();
  workers_.clear();
}

}  // namespace

std::string HttpHandler::ErrorBody(int /*status*/, const Error& error) const {
  return ErrorToJson(error);
}

Result<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                      HttpHandler& handler) {
  auto server = std::make_unique<ThreadedServer>(options, handler);
  PV_RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace polyveil::serve
