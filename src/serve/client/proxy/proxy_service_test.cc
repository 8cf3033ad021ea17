// The proxy's HTTP side before an engine that needs no server.
#include "serve/client/proxy/proxy_service.h"

#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "serve/client/http_client.h"
#include "serve/server/test_socket.h"

namespace polyveil::serve {
namespace {

using nlohmann::json;

// Says its prompt's words back; waits at "wait" until it is told to go on, fails at "fail".
class FakeEngine final : public TextEngine {
 public:
  const std::string& model() const override { return name_; }
  std::string fingerprint() const override { return "pv_test"; }
  EngineFacts facts() const override { return {"http://there", "test10", "none", 77, 2}; }
  Result<PreparedText> Prepare(TextRequest request) const override {
    const std::string& text = request.chat ? request.messages.back().text : request.prompt;
    if (text.size() > 1000)
      return MakeError(ErrorCode::kOutOfRange, "messages: {} tokens, the model's context is 1000",
                       text.size());
    PreparedText prepared;
    prepared.new_tokens = request.new_tokens.value_or(100);
    prepared.request = std::move(request);
    return prepared;
  }
  Result<TextOutcome> Run(const PreparedText& text, const std::atomic<bool>& cancel,
                          const TextEvents& events) override {
    const std::string said =
        text.request.chat ? text.request.messages.back().text : text.request.prompt;
    ++running;
    for (size_t i = 0; i < said.size(); ++i) {
      events.on_progress({0.5, "layer 1 / attention\x1b[2J", 0});
      if (said == "fail" && i == 2)
        return MakeError(ErrorCode::kUntrustedResult, "a value left its interval");
      while (said == "wait" && !go && !cancel)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (cancel) {
        ++cancelled;
        return MakeError(ErrorCode::kCancelled, "cancelled");
      }
      events.on_text(said.substr(i, 1));
      events.on_token({1.5, {{"norm", 1.0}, {"bootstrap", 0.5}}, 100, 10, 99, "\x01\xff"});
    }
    return TextOutcome{model::TextEnd::kEndToken, 3, 1, static_cast<int>(said.size())};
  }
  std::atomic<int> running{0}, cancelled{0};
  std::atomic<bool> go{false};

 private:
  const std::string name_ = "fake";
};

class ProxyServiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ProxyLimits limits;
    limits.waiting = 1;
    limits.keep_alive_seconds = 0.05;
    service_ = std::make_unique<ProxyService>(engine_, limits, metrics_);
    server_ = HttpServer::Start({}, *service_).value();
  }
  void TearDown() override { server_->Stop(); }

  ClientReply Ask(const std::string& method, const std::string& path, const std::string& body = "",
                  u64 bytes = 1 << 20) const {
    HttpClient client({"127.0.0.1", std::to_string(server_->port())});
    ClientRequest request;
    request.method = method;
    request.path = path;
    request.body = {reinterpret_cast<const std::uint8_t*>(body.data()), body.size()};
    request.max_reply_bytes = bytes;
    return client.Send(request).value();
  }
  static std::string Chat(const std::string& text, const std::string& more = "") {
    return R"({"model":"fake","messages":[{"role":"user","content":")" + text + "\"}]" + more + "}";
  }
  ClientReply AskChat(const std::string& text, const std::string& more = "") const {
    return Ask("POST", "/v1/chat/completions", Chat(text, more));
  }
  // A request on a socket of its own, whose answer nobody reads yet.
  TestSocket Open(const std::string& body) const {
    TestSocket socket(server_->port());
    socket.SetTimeout(20);
    socket.Write("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
                 std::to_string(body.size()) + "\r\n\r\n" + body);
    return socket;
  }
  static bool Within(double seconds, const std::function<bool()>& condition) {
    for (const Timer timer; timer.Seconds() < seconds;) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return condition();
  }

  FakeEngine engine_;
  Metrics metrics_;
  std::unique_ptr<ProxyService> service_;
  std::unique_ptr<HttpServer> server_;
};

json ErrorOf(const ClientReply& reply) { return json::parse(reply.text())["error"]; }

TEST_F(ProxyServiceTest, AnswersWhole) {
  const auto reply = AskChat("h\\u00e9llo");
  ASSERT_EQ(reply.status, 200);
  const json body = json::parse(reply.text());
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["choices"][0]["message"]["content"], "h\u00e9llo");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(body["usage"]["total_tokens"], 9);
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 1);
  const json text = json::parse(
      Ask("POST", "/v1/completions", R"({"model":"fake","prompt":"ab","echo":true})").text());
  EXPECT_EQ(text["object"], "text_completion");
  EXPECT_EQ(text["choices"][0]["text"], "abab");
}

TEST_F(ProxyServiceTest, StreamsEventsThatAddUpToTheText) {
  const auto reply = AskChat("hello", R"(,"stream":true,"stream_options":{"include_usage":true})");
  ASSERT_EQ(reply.status, 200);
  std::string text(reply.text()), content;
  ASSERT_TRUE(text.ends_with("data: [DONE]\n\n")) << text;
  std::vector<json> events;
  for (size_t at = 0; (at = text.find("data: {", at)) != std::string::npos; ++at)
    events.push_back(json::parse(text.substr(at + 6, text.find("\n\n", at) - at - 6)));
  ASSERT_GE(events.size(), 4u);
  EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
  for (const json& event : events) {
    EXPECT_EQ(event["id"], events[0]["id"]);
    if (!event["choices"].empty())
      content += event["choices"][0]["delta"].value("content", std::string());
  }
  EXPECT_EQ(content, "hello");
  EXPECT_EQ(events[events.size() - 2]["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 5);
}

TEST_F(ProxyServiceTest, KeepsAWaitingStreamAliveAndTellsTheOperation) {
  TestSocket socket = Open(Chat("wait", R"(,"stream":true)"));
  std::string seen;
  while (seen.find("\n: 50% of a step: layer 1 / attention\\x1b[2J\n\n") == std::string::npos) {
    const std::string more = socket.ReadSome();
    ASSERT_FALSE(more.empty()) << seen;
    seen += more;
  }
  engine_.go = true;
  while (seen.find("[DONE]") == std::string::npos) seen += socket.ReadSome();
  EXPECT_EQ(seen.find('\x1b'), std::string::npos);
}

TEST_F(ProxyServiceTest, CancelsWhenThePeerGoesAway) {
  for (const char* more : {"", R"(,"stream":true)"}) {
    const int before = engine_.cancelled;
    TestSocket socket = Open(Chat("wait", more));
    ASSERT_TRUE(Within(10, [&] { return engine_.running == before + 1; }));
    socket.Close();
    EXPECT_TRUE(Within(10, [&] { return engine_.cancelled == before + 1; })) << more;
  }
  engine_.go = true;
  EXPECT_EQ(AskChat("wait").status, 200);
}

TEST_F(ProxyServiceTest, AFullQueueIsSaidWithATime) {
  TestSocket first = Open(Chat("wait"));
  ASSERT_TRUE(Within(10, [&] { return engine_.running == 1; }));
  TestSocket second = Open(Chat("wait"));
  ASSERT_TRUE(Within(10, [&] {
    return std::string(Ask("GET", "/metrics").text()).find(R"({state="waiting"} 1)") !=
           std::string::npos;
  }));
  const auto third = AskChat("x");
  EXPECT_EQ(third.status, 429);
  EXPECT_EQ(ErrorOf(third)["code"], "queue_full");
  TestSocket fourth = Open(Chat("x"));
  EXPECT_NE(fourth.ReadSome().find("Retry-After: 5"), std::string::npos);
  engine_.go = true;
}

TEST_F(ProxyServiceTest, ErrorsHaveTheApisShape) {
  const auto refused = AskChat("x", R"(,"n":2)");
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(ErrorOf(refused)["param"], "n");
  EXPECT_EQ(ErrorOf(refused)["type"], "invalid_request_error");
  EXPECT_EQ(ErrorOf(AskChat(std::string(1001, 'x')))["code"], "context_length_exceeded");
  const auto other = Ask("POST", "/v1/completions", R"({"model":"other","prompt":"x"})");
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(ErrorOf(other)["code"], "model_not_found");
  const auto failed = AskChat("fail");
  EXPECT_EQ(failed.status, 502);
  EXPECT_EQ(ErrorOf(failed)["type"], "server_error");
  const auto stream = AskChat("fail", R"(,"stream":true)");
  EXPECT_EQ(stream.status, 200);
  EXPECT_NE(stream.text().find(R"(data: {"error":{)"), std::string::npos);
  EXPECT_EQ(stream.text().find("[DONE]"), std::string::npos);
  const auto embeddings = Ask("POST", "/v1/embeddings", R"({"model":"fake","input":"x"})");
  EXPECT_EQ(embeddings.status, 400);
  EXPECT_EQ(ErrorOf(embeddings)["code"], "no_encoder");
  for (const char* path : {"/nothing", "/v1", "/v1/chat", "/v1/models/x", "/v1/chat/completions"})
    EXPECT_EQ(Ask("GET", path).status, 404) << path;
}

TEST_F(ProxyServiceTest, ErrorsBeforeTheHandlerHaveItToo) {
  TestSocket socket(server_->port());
  socket.Write("GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n");
  const std::string reply = socket.ReadAll();
  EXPECT_NE(reply.find("403"), std::string::npos);
  EXPECT_NE(reply.find(R"("type":"invalid_request_error")"), std::string::npos) << reply;
  TestSocket large(server_->port());
  large.Write(
      "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n");
  EXPECT_NE(large.ReadAll().find("413"), std::string::npos);
}

TEST_F(ProxyServiceTest, ThePageAsksNobodyElse) {
  for (const auto& [path, type] : {std::pair{"/", "text/html"}, std::pair{"/page.css", "text/css"},
                                   std::pair{"/page.js", "text/javascript"}}) {
    TestSocket socket(server_->port());
    socket.Write(std::string("GET ") + path +
                 " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const std::string reply = socket.ReadAll();
    EXPECT_NE(reply.find(std::string("Content-Type: ") + type), std::string::npos) << reply;
    EXPECT_NE(reply.find("default-src 'none'"), std::string::npos);
    EXPECT_EQ(reply.find("://"), std::string::npos) << path;  // no address at all
  }
  EXPECT_EQ(Ask("GET", "/page.html").status, 404);
}

TEST_F(ProxyServiceTest, StatusCountsAndTellsNoWord) {
  AskChat("secret");
  const json status = json::parse(Ask("GET", "/status").text());
  EXPECT_EQ(status["running"], false);
  EXPECT_EQ(status["tokens"].size(), 6u);
  EXPECT_EQ(status["tokens"][0]["parts"][1][0], "bootstrap");
  EXPECT_EQ(status["bytes_up"], 600);
  EXPECT_EQ(status["seen"]["hex"], "01ff");
  EXPECT_EQ(status["key_bytes"], 77);
  EXPECT_EQ(status.dump().find("secret"), std::string::npos);
  for (int i = 0; i < 20; ++i) AskChat("secret");
  EXPECT_EQ(json::parse(Ask("GET", "/status").text())["tokens"].size(), 64u);
}

TEST_F(ProxyServiceTest, ShowsModelsHealthAndMetrics) {
  const json models = json::parse(Ask("GET", "/v1/models").text());
  EXPECT_EQ(models["data"][0]["id"], "fake");
  EXPECT_EQ(json::parse(Ask("GET", "/v1/models/fake").text())["owned_by"], "polyveil");
  EXPECT_EQ(Ask("GET", "/health").status, 200);
  AskChat("hello");
  Ask("GET", "/nowhere/\"evil");
  // A request is counted behind its reply.
  const char* last = R"(polyveil_proxy_requests_total{path="other",code="404"} 1)";
  std::string text;
  for (int i = 0; i < 500 && text.find(last) == std::string::npos; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(i > 0 ? 10 : 0));
    text = Ask("GET", "/metrics").text();
  }
  EXPECT_NE(text.find(last), std::string::npos) << text;
  EXPECT_NE(text.find(R"(polyveil_proxy_tokens_total{kind="answer"} 5)"), std::string::npos)
      << text;
  EXPECT_NE(text.find("polyveil_proxy_text_seconds_count 1"), std::string::npos);
  EXPECT_EQ(text.find("evil"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::serve
