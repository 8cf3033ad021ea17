#include "serve/server/http_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#include "base/system.h"
#include "serve/server/test_socket.h"

namespace polyveil::serve {
namespace {

// Echoes bodies; /slow streams until its client leaves; /throw throws; /refused and /poor are not
// admitted.
class Echo final : public HttpHandler {
 public:
  std::optional<Refusal> Admit(const HttpRequest& request) override {
    if (request.path == "/refused")
      return Refusal{404, MakeError(ErrorCode::kNotFound, "nothing is here")};
    if (request.path == "/poor") throw std::bad_alloc();
    return {};
  }
  u64 BodyLimit(std::string_view, std::string_view path) const override {
    if (path == "/huge") return u64{1} << 62;
    return path == "/big" ? 1 << 20 : 100;
  }
  void Handle(Exchange& exchange) override {
    if (exchange.request().path == "/throw") throw std::runtime_error("thrown");
    if (exchange.request().path == "/slow") return Slow(exchange);
    HttpReply reply;
    if (exchange.request().path == "/file") reply.view = file_;
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

  const std::vector<std::uint8_t> file_ = std::vector<std::uint8_t>(size_t{64} << 20);
};

class HttpServerTest : public ::testing::Test {
 protected:
  void SetUp() override { server_ = HttpServer::Start(Options(), echo_).value(); }
  static HttpOptions Options() {
    HttpOptions options;
    options.allowed_hosts = {"Models.Example"};
    options.limits.connections = 4;
    options.limits.header_seconds = 0.5;
    options.limits.body_seconds = 0.5;
    options.limits.idle_seconds = 2;
    options.limits.linger_seconds = 0.3;
    return options;
  }
  std::string Ask(const std::string& text) const {
    TestSocket socket(server_->port());
    socket.Write(text);
    return socket.ReadAll();
  }
  // A request without a body, closed after it.
  std::string AskWith(const std::string& fields, const std::string& method = "GET") const {
    return Ask(method + " /a HTTP/1.1\r\n" + fields + "Connection: close\r\n\r\n");
  }
  static std::string Post(const std::string& path, const std::string& body) {
    return "POST " + path +
           " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: " +
           std::to_string(body.size()) + "\r\n\r\n" + body;
  }
  static std::string Chunked(const std::string& chunks) {
    return "POST /big HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks;
  }
  bool Alive() const { return Ask(Post("/big", std::string(5000, 'x'))).ends_with("POST 5000"); }
  // Sends a byte every few milliseconds: the seconds until the server closes, at most `limit`.
  static double SecondsToClose(TestSocket& socket, double limit) {
    const Timer timer;
    while (timer.Seconds() < limit && socket.Write("x")) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return timer.Seconds();
  }

  Echo echo_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(HttpServerTest, AnswersSeveralRequestsOnAConnection) {
  TestSocket socket(server_->port());
  socket.Write(
      "GET /a?b=c HTTP/1.1\r\nHost: localhost\r\n\r\nGET /a HTTP/1.1\r\nHost: "
      "localhost\r\nConnection: "
      "close\r\n\r\n");
  const std::string reply = socket.ReadAll();
  EXPECT_NE(reply.find("GET 0HTTP/1.1 200"), std::string::npos) << reply;
}

TEST_F(HttpServerTest, RefusesABodyAboveItsRoutesLimitBeforeReadingIt) {
  const std::string reply =
      Ask("POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n");
  EXPECT_NE(reply.find("413"), std::string::npos) << reply;
  EXPECT_NE(reply.find("99999999999 bytes above 100"), std::string::npos) << reply;
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, RefusesAChunkedBodyAboveTheLimit) {
  std::string body =
      "POST /small HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
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
  EXPECT_EQ(Ask("POST /small HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nabc"), "");
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, LimitsConnections) {
  std::vector<TestSocket> held;
  for (int i = 0; i < 4; ++i) held.emplace_back(server_->port());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_NE(Ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").find("503"), std::string::npos);
  held.clear();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, ANewConnectionDisplacesTheLongestIdleOne) {
  HttpOptions options = Options();
  options.limits.displace_seconds = options.limits.displace_new_seconds = 0.1;
  server_ = HttpServer::Start(options, echo_).value();
  std::vector<TestSocket> held;
  for (int i = 0; i < 4; ++i) {
    held.emplace_back(server_->port());
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  ASSERT_TRUE(held[0].Write("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"));  // not idle
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_TRUE(Alive());
  EXPECT_EQ(held[1].ReadAll(), "");
  held[2].Write("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(held[2].ReadAll().ends_with("GET 0"));
}

// Connections that say nothing, or a byte now and then, keep nobody out for long; one that has been
// served waits in its place meanwhile.
TEST_F(HttpServerTest, SilentAndSlowNewcomersGiveWayFirst) {
  HttpOptions options = Options();
  options.limits.header_seconds = 30;
  options.limits.displace_seconds = 30;
  options.limits.displace_new_seconds = 0.2;
  server_ = HttpServer::Start(options, echo_).value();
  TestSocket served(server_->port());
  const std::string request = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
  ASSERT_TRUE(served.Write(request));
  ASSERT_NE(served.ReadSome().find("200"), std::string::npos);
  std::vector<TestSocket> held;
  for (int i = 0; i < 40; ++i) {
    held.emplace_back(server_->port());
    if (i % 2) held.back().Write("GET /a HTT");
  }
  const Timer timer;
  bool alive = false;
  while (!alive && timer.Seconds() < 5) alive = Alive();
  EXPECT_TRUE(alive);
  EXPECT_LT(timer.Seconds(), 1);
  ASSERT_TRUE(served.Write(request));
  EXPECT_NE(served.ReadSome().find("200"), std::string::npos);
}

// Whoever reads a long reply slowly keeps nobody out.
TEST_F(HttpServerTest, SlowReadersGiveWay) {
  HttpOptions options = Options();
  options.limits.body_bytes_per_second = 1e12;
  server_ = HttpServer::Start(options, echo_).value();
  std::vector<TestSocket> held;
  for (int i = 0; i < 4; ++i) {
    held.emplace_back(server_->port());
    ASSERT_TRUE(held.back().Write("GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  }
  const Timer timer;
  bool alive = false;
  while (!alive && timer.Seconds() < 10) alive = Alive();
  EXPECT_TRUE(alive);
}

TEST_F(HttpServerTest, HandlerLearnsThatItsClientLeft) {
  TestSocket socket(server_->port());
  socket.Write("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(echo_.left, 0);
  socket.Close();
  for (int i = 0; i < 200 && echo_.left == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(echo_.left, 1);
}

TEST_F(HttpServerTest, AnExceptionEndsOneConnectionOnly) {
  EXPECT_NE(Ask("GET /throw HTTP/1.1\r\nHost: localhost\r\n\r\n").find("500"), std::string::npos);
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, StopEndsHandlersAndIdleConnections) {
  TestSocket slow(server_->port()), idle(server_->port());
  slow.Write("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const auto start = std::chrono::steady_clock::now();
  server_->Stop();
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_EQ(echo_.left, 1);
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

TEST_F(HttpServerTest, TheHeaderIsBoundedAsAWhole) {
  std::string fields = "GET / HTTP/1.1\r\nHost: localhost\r\n";
  for (int i = 0; i < 100; ++i)
    fields += "A" + std::to_string(i) + ": " + std::string(90, 'a') + "\r\n";
  EXPECT_NE(Ask(fields + "\r\n").find("431"), std::string::npos);
  TestSocket socket(server_->port());  // no line is long, no piece is
  for (size_t i = 0; i < fields.size(); i += 1000) {
    socket.Write(fields.substr(i, 1000));
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  EXPECT_NE(socket.ReadAll().find("431"), std::string::npos);
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, AnswersToItsOwnNamesOnly) {
  const std::string port = std::to_string(server_->port());
  for (const std::string host : {"localhost", "LocalHost", "127.0.0.1", "127.0.0.1:80", "[::1]:9",
                                 "localhost:9000", "models.example", "MODELS.example:443"}) {
    EXPECT_NE(AskWith("Host: " + host + "\r\n").find(" 200 "), std::string::npos) << host;
  }
  for (const std::string host : {"evil.example", "localhost.evil.example", "192.0.2.1",
                                 "[2001:db8::1]:80", "127.0.0.1.evil.example:80"}) {
    EXPECT_NE(AskWith("Host: " + host + "\r\n").find(" 403 "), std::string::npos) << host;
  }
  for (const std::string field :
       {"", "Host:\r\n", "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nhost: evil.example\r\n", "Host: localhost:http\r\n",
        "Host: user@localhost\r\n", "Host: ::1\r\n", "Host: [::1\r\n"}) {
    EXPECT_NE(AskWith(field).find(" 400 "), std::string::npos) << field;
  }
}

TEST_F(HttpServerTest, RefusesPagesOfOtherOrigins) {
  const std::string host = "Host: localhost:81\r\n";
  for (const std::string origin :
       {"http://localhost:81", "HTTPS://LOCALHOST:81", "https://models.example"}) {
    EXPECT_NE(AskWith(host + "Origin: " + origin + "\r\n").find(" 200 "), std::string::npos)
        << origin;
  }
  for (const std::string origin :
       {"null", "http://evil.example", "http://localhost:82", "localhost:81", "file://localhost:81",
        "http://localhost:81.evil.example", ""}) {
    EXPECT_NE(AskWith(host + "Origin: " + origin + "\r\n").find(" 403 "), std::string::npos)
        << origin;
  }
}

TEST_F(HttpServerTest, AHeadRequestHasNoBodyInItsReply) {
  const std::string both =
      "HEAD /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
      "GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  const std::string reply = Ask(both);
  EXPECT_NE(reply.find("Content-Length: 5\r\n\r\nHTTP/1.1 200"), std::string::npos) << reply;
  EXPECT_TRUE(reply.ends_with("\r\n\r\nGET 0")) << reply;
  EXPECT_TRUE(AskWith("Host: evil.example\r\n", "HEAD").ends_with("\r\n\r\n"));
}

TEST_F(HttpServerTest, RefusesMalformedChunks) {
  for (const std::string& chunks : std::initializer_list<std::string>{
           std::string("zz\r\n"), std::string("5\r\nabcdeX5\r\n"), std::string("-1\r\n"),
           "5;" + std::string(100000, 'a') + "\r\nabcde\r\n0\r\n\r\n",
           std::string("0\r\nNo Field\r\n\r\n"),
           "0\r\nA: " + std::string(100000, 'a') + "\r\n\r\n"}) {
    EXPECT_NE(Ask(Chunked(chunks)).find(" 400 "), std::string::npos) << chunks.substr(0, 20);
  }
  std::string trailers = "0\r\n";
  for (int i = 0; i < 1000; ++i) trailers += "A: " + std::string(90, 'a') + "\r\n";
  EXPECT_NE(Ask(Chunked(trailers)).find(" 400 "), std::string::npos);
  EXPECT_NE(Ask("POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
                .find(" 400 "),
            std::string::npos);
  std::string small;
  for (int i = 0; i < 3000; ++i) small += "1\r\nx\r\n";
  EXPECT_NE(Ask(Chunked(small + "0\r\nA: b\r\n\r\n")).find("POST 3000"), std::string::npos);
}

TEST_F(HttpServerTest, AClaimedLengthReservesNothing) {
  TestSocket socket(server_->port());
  socket.Write(
      "POST /huge HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1152921504606846976\r\n\r\nabc");
  EXPECT_TRUE(Alive());
  EXPECT_EQ(socket.ReadAll(), "");  // too slow
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, RefusesBeforeTheBodyIsReadAndWhenMemoryIsShort) {
  const std::string claim = " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n";
  EXPECT_NE(Ask("POST /refused" + claim).find(" 404 "), std::string::npos);
  EXPECT_NE(Ask("POST /poor" + claim).find(" 503 "), std::string::npos);
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, SlowSendersEndWhateverTheySend) {
  TestSocket refused(server_->port());
  refused.Write("POST /refused HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
  EXPECT_LT(SecondsToClose(refused, 5), 2);
  TestSocket slow(server_->port());
  slow.Write("POST /big HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n");
  EXPECT_LT(SecondsToClose(slow, 5), 2);
  TestSocket chunks(server_->port());
  chunks.Write(Chunked("5;"));
  EXPECT_LT(SecondsToClose(chunks, 5), 2);
}

TEST_F(HttpServerTest, OutlivesALackOfDescriptors) {
  TestSocket waiting, another;
  std::vector<int> fillers;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{std::min<rlim_t>(256, before.rlim_max), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  for (int fd; (fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) fillers.push_back(fd);
  ASSERT_TRUE(waiting.Connect(server_->port()));
  ASSERT_TRUE(another.Connect(server_->port()));
  waiting.Write("GET /a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  // First there is room for nothing, then for one descriptor of the several that are needed.
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  close(fillers.back());
  fillers.pop_back();
  std::this_thread::sleep_for(std::chrono::milliseconds(250));
  for (const int fd : fillers) close(fd);
  EXPECT_TRUE(waiting.ReadAll().ends_with("GET 0"));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(Alive());
}

TEST_F(HttpServerTest, BindsNamesAndBracketedNumbers) {
  for (const std::string address : {"localhost", "127.0.0.1", "::1", "[::1]"}) {
    HttpOptions options = Options();
    options.address = address;
    const auto server = HttpServer::Start(options, echo_);
    if (!server.ok() && address.find("::") != std::string::npos) continue;  // no IPv6 here
    ASSERT_TRUE(server.ok()) << server.error().message;
    const std::string host = address.find("::") != std::string::npos ? "[::1]" : "127.0.0.1";
    EXPECT_EQ((*server)->authority(), host + ":" + std::to_string((*server)->port()));
  }
}

}  // namespace
}  // namespace polyveil::serve
