#include "serve/server/http_server.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

namespace polyveil::serve {
namespace {

// Echoes bodies; /slow streams until its client leaves; /throw throws.
class Echo final : public HttpHandler {
 public:
  u64 BodyLimit(std::string_view, std::string_view path) const override {
    return path == "/big" ? 1 << 20 : 100;
  }
  void Handle(Exchange& exchange) override {
    if (exchange.request().path == "/throw") throw std::runtime_error("thrown");
    if (exchange.request().path == "/slow") return Slow(exchange);
    HttpReply reply;
    reply.text = exchange.request().method + " " + std::to_string(exchange.request().body.size());
    (void)exchange.Reply(reply).ok();
  }
  std::atomic<int> left{0};

 private:
  void Slow(Exchange& exchange) {
    ASSERT_TRUE(exchange.BeginStream("text/plain").ok());
    while (!exchange.Disconnected()) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    ++left;
  }
};

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    HttpOptions options;
    options.limits.connections = 4;
    options.limits.header_seconds = 0.5;
    options.limits.body_seconds = 0.5;
    options.limits.idle_seconds = 2;
    server_ = HttpServer::Start(options, echo_).value();
  }
  int Connect() const {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(server_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static void Write(int fd, const std::string& text) {
    size_t done = 0;
    while (done < text.size()) {
      const ssize_t n = send(fd, text.data() + done, text.size() - done, MSG_NOSIGNAL);
      if (n <= 0) return;
      done += static_cast<size_t>(n);
    }
  }
  static std::string ReadAll(int fd) {
    std::string out;
    char piece[4096];
    for (ssize_t n; (n = recv(fd, piece, sizeof piece, 0)) > 0;) out.append(piece, n);
    return out;
  }
  std::string Ask(const std::string& text) const {
    const int fd = Connect();
    Write(fd, text);
    const std::string reply = ReadAll(fd);
    close(fd);
    return reply;
  }
  static std::string Post(const std::string& path, const std::string& body) {
    return "POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  bool Alive() const { return Ask(Post("/big", std::string(5000, 'x'))).ends_with("POST 5000"); }

  Echo echo_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersSeveralRequestsOnAConnection) {
  const int fd = Connect();
  Write(fd,
        "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\nConnection: "
        "close\r\n\r\n");
  const std::string reply = ReadAll(fd);
  close(fd);
  EXPECT_NE(reply.find("GET 0HTTP/1.1 200"), std::string::npos) << reply;
}

TEST_F(HttpServerTest, RefusesABodyAboveItsRoutesLimitBeforeReadingIt) {
  const std::string reply =
      Ask("POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n");
  EXPECT_NE(reply.find("413"), std::string::npos) << reply;
  EXPECT_NE(reply.find("99999999999 bytes above 100"), std::string::npos) << reply;
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, RefusesAChunkedBodyAboveTheLimit) {
  std::string body = "POST /small HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 10; ++i) body += "20\r\n" + std::string(32, 'x') + "\r\n";
  const std::string reply = Ask(body + "0\r\n\r\n");
  EXPECT_NE(reply.find("413"), std::string::npos) << reply;
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, RefusesALongHeaderAndNonsense) {
  EXPECT_NE(Ask("GET / HTTP/1.1\r\nA: " + std::string(100000, 'a') + "\r\n\r\n").find("431"),
            std::string::npos);
  EXPECT_NE(Ask("\x16\x03\x01 nonsense\r\n\r\n").find("400"), std::string::npos);
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, EndsASlowHeaderAndASlowBody) {
  EXPECT_EQ(Ask("GET / HTT"), "");
  EXPECT_EQ(Ask("POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc"), "");
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, LimitsConnections) {
  std::vector<int> held;
  for (int i = 0; i < 4; ++i) held.push_back(Connect());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_NE(Ask("GET / HTTP/1.1\r\nHost: x\r\n\r\n").find("503"), std::string::npos);
  for (const int fd : held) close(fd);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, HandlerLearnsThatItsClientLeft) {
  const int fd = Connect();
  Write(fd, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(echo_.left, 0);
  close(fd);
  for (int i = 0; i < 200 && echo_.left == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(echo_.left, 1);
}

TEST_F(HttpServerTest, AnExceptionEndsOneConnectionOnly) {
  EXPECT_NE(Ask("GET /throw HTTP/1.1\r\nHost: x\r\n\r\n").find("500"), std::string::npos);
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, StopEndsHandlersAndIdleConnections) {
  const int slow = Connect();
  const int idle = Connect();
  Write(slow, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto start = std::chrono::steady_clock::now();
  server_->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(echo_.left, 1);
  close(slow);
  close(idle);
}

TEST_F(HttpServerTest, NamesAnAddressThatItCannotBind) {
  HttpOptions options;
  options.port = server_->port();
  const auto second = HttpServer::Start(options, echo_);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find(std::to_string(options.port)), std::string::npos);
  options.address = "not an address";
  EXPECT_EQ(HttpServer::Start(options, echo_).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace polyveil::serve
