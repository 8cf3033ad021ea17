// /v1/embeddings: its requests, and the proxy's HTTP side before an encoder that needs no server.
#include <gtest/gtest.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "serve/client/http_client.h"
#include "serve/client/proxy/api_fields.h"
#include "serve/client/proxy/openai_embeddings.h"
#include "serve/client/proxy/proxy_service.h"
#include "serve/server/test_socket.h"

namespace polyveil::serve {
namespace {

using nlohmann::json;

std::string Body(const std::string& more) { return R"({"model":"m",)" + more + "}"; }

std::string FieldRefused(const std::string& more) {
  const auto request = ParseEmbeddingRequest(Body(more));
  return request.ok() ? "" : FieldOf(request.error());
}

TEST(OpenAiEmbeddings, ReadsTexts) {
  EXPECT_EQ(ParseEmbeddingRequest(Body(R"("input":"a b")"))->texts,
            (std::vector<std::string>{"a b"}));
  const auto many = ParseEmbeddingRequest(
      Body(R"("input":["a","b"],"encoding_format":"base64","user":"u","dimensions":null)"));
  ASSERT_TRUE(many.ok()) << many.error().message;
  EXPECT_EQ(many->texts, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(many->base64);
}

TEST(OpenAiEmbeddings, RefusesByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("input":"a","dimensions":3)", "dimensions"},
      {R"("input":"a","encoding_format":"int8")", "encoding_format"},
      {R"("input":"a","encoding_format":1)", "encoding_format"},
      {R"("input":"a","nonsense":1)", "nonsense"},
      {R"("user":"a")", "input"},
      {R"("input":null)", "input"},
      {R"("input":[])", "input"},
      {R"("input":"")", "input"},
      {R"("input":[1,2])", "input"},
      {R"("input":{})", "input"},
      {R"("input":["a",""])", "input[1]"},
      {R"("input":["a",[1,2]])", "input[1]"},
      {R"("input":[[1,2]])", "input[0]"},
      {R"("input":["a",null])", "input[1]"}};
  for (const auto& [more, field] : cases) EXPECT_EQ(FieldRefused(more), field) << more;
  EXPECT_EQ(FieldOf(ParseEmbeddingRequest(R"({"input":"a"})").error()), "model");
  json many = json::array();
  for (int i = 0; i < 2049; ++i) many.push_back("a");
  EXPECT_EQ(FieldRefused("\"input\":" + many.dump()), "input");
}

TEST(OpenAiEmbeddings, WritesNumbersOrFloat32) {
  EmbeddingRequest request{"m", {"a"}, false};
  EXPECT_EQ(json::parse(EmbeddingReply(request, 3, {{1, -0.5}}))["data"][0]["embedding"],
            (json{1.0, -0.5}));
  request.base64 = true;
  const json reply = json::parse(EmbeddingReply(request, 3, {{1, -0.5}, {0, 2}}));
  EXPECT_EQ(reply["data"][0]["embedding"], "AACAPwAAAL8=");
  EXPECT_EQ(reply["data"][1]["index"], 1);
  EXPECT_EQ(reply["usage"]["total_tokens"], 3);
}

// Bytes exchanged at random: taken or refused, never anything else.
TEST(OpenAiEmbeddings, SurvivesDamage) {
  std::mt19937_64 random(11);
  const std::string whole = Body(R"("input":["a","b"],"encoding_format":"base64")");
  for (int i = 0; i < 20000; ++i) {
    std::string body = whole;
    for (u64 n = 1 + random() % 4; n > 0; --n)
      body[random() % body.size()] = static_cast<char>("[]{},:\"0-9truenl\\u\xff"[random() % 20]);
    const auto request = ParseEmbeddingRequest(body);
    EXPECT_TRUE(request.ok() || request.error().message.size() < 2000u);
  }
}

// A vector of a text's length; waits at "wait" until it is told to go on, fails at "fail".
class FakeEncoder final : public EmbeddingEngine {
 public:
  const std::string& model() const override { return name_; }
  EngineFacts facts() const override { return {"http://there", "test10", "none", 77, 2, true}; }
  Result<std::vector<model::EncoderText>> Prepare(
      const std::vector<std::string>& texts) const override {
    std::vector<model::EncoderText> prepared;
    for (const std::string& text : texts) {
      if (text.size() > 10)
        return MakeError(ErrorCode::kOutOfRange,
                         "input[{}]: {} tokens, the server reads 10 at once", prepared.size(),
                         text.size());
      prepared.push_back({std::vector<model::TokenId>(text.begin(), text.end()), {}});
    }
    return prepared;
  }
  Result<std::vector<std::vector<double>>> Run(const std::vector<model::EncoderText>& texts,
                                               const std::atomic<bool>& cancel,
                                               const RunEvents& events) override {
    ++running;
    std::vector<std::vector<double>> vectors;
    for (const model::EncoderText& text : texts) {
      const std::string words(text.tokens.begin(), text.tokens.end());
      events.on_progress({0.5, "layer 1", 0});
      if (words == "fail") return MakeError(ErrorCode::kUntrustedResult, "not believed");
      while (words == "wait" && !go && !cancel)
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      if (cancel) {
        ++cancelled;
        return MakeError(ErrorCode::kCancelled, "cancelled");
      }
      vectors.push_back({static_cast<double>(words.size()), 0.25});
    }
    events.on_token({2, {{"norm", 2.0}}, 100, 10, 99, "\x01"});
    return vectors;
  }
  std::atomic<int> running{0}, cancelled{0};
  std::atomic<bool> go{false};

 private:
  const std::string name_ = "fake";
};

class ProxyEmbeddingsTest : public ::testing::Test {
 protected:
  void SetUp() override { server_ = HttpServer::Start({}, service_).value(); }
  void TearDown() override { server_->Stop(); }

  ClientReply Ask(const std::string& method, const std::string& path,
                  const std::string& body = "") const {
    HttpClient client({"127.0.0.1", std::to_string(server_->port())});
    ClientRequest request;
    request.method = method;
    request.path = path;
    request.body = {reinterpret_cast<const std::uint8_t*>(body.data()), body.size()};
    request.max_reply_bytes = 1 << 20;
    return client.Send(request).value();
  }
  ClientReply Embed(const std::string& input) const {
    return Ask("POST", "/v1/embeddings", R"({"model":"fake","input":)" + input + "}");
  }

  FakeEncoder engine_;
  Metrics metrics_;
  ProxyService service_{engine_, {}, metrics_};
  std::unique_ptr<HttpServer> server_;
};

TEST_F(ProxyEmbeddingsTest, AnswersInTheApisShape) {
  const auto reply = Embed(R"(["abc","a"])");
  ASSERT_EQ(reply.status, 200) << reply.text();
  const json body = json::parse(reply.text());
  EXPECT_EQ(body["object"], "list");
  EXPECT_EQ(body["model"], "fake");
  EXPECT_EQ(body["data"][0]["embedding"], (json{3.0, 0.25}));
  EXPECT_EQ(body["data"][1]["embedding"], (json{1.0, 0.25}));
  EXPECT_EQ(body["usage"]["prompt_tokens"], 4);
  const json status = json::parse(Ask("GET", "/status").text());
  EXPECT_EQ(status["encoder"], true);
  EXPECT_EQ(status["tokens"].size(), 1u);
  EXPECT_EQ(status["running"], false);
}

TEST_F(ProxyEmbeddingsTest, RefusesInTheApisShape) {
  const auto error = [](const ClientReply& reply) { return json::parse(reply.text())["error"]; };
  const auto longer = Embed(R"(["a","aaaaaaaaaaaa"])");
  EXPECT_EQ(longer.status, 400);
  EXPECT_EQ(error(longer)["code"], "context_length_exceeded");
  EXPECT_EQ(error(longer)["param"], "input[1]");
  EXPECT_EQ(error(longer)["message"], "input[1]: 12 tokens, the server reads 10 at once");
  EXPECT_EQ(Ask("POST", "/v1/embeddings", R"({"model":"other","input":"a"})").status, 404);
  EXPECT_EQ(Ask("POST", "/v1/embeddings", "{").status, 400);
  for (const char* path : {"/v1/chat/completions", "/v1/completions"}) {
    const auto refused = Ask("POST", path, R"({"model":"fake","prompt":"a"})");
    EXPECT_EQ(refused.status, 400);
    EXPECT_EQ(error(refused)["code"], "no_decoder");
  }
  const auto failed = Embed(R"("fail")");
  EXPECT_EQ(failed.status, 502);
  EXPECT_EQ(error(failed)["type"], "server_error");
}

TEST_F(ProxyEmbeddingsTest, CancelsWhenThePeerGoesAway) {
  const std::string body = R"({"model":"fake","input":["a","wait"]})";
  const auto within = [](const std::function<bool()>& condition) {
    for (const Timer timer; timer.Seconds() < 10;) {
      if (condition()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return condition();
  };
  TestSocket socket(server_->port());
  socket.Write("POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: " +
               std::to_string(body.size()) + "\r\n\r\n" + body);
  ASSERT_TRUE(within([&] { return engine_.running == 1; }));
  socket.Close();
  EXPECT_TRUE(within([&] { return engine_.cancelled == 1; }));
  engine_.go = true;
  EXPECT_EQ(Embed(R"("wait")").status, 200);
}

}  // namespace
}  // namespace polyveil::serve
