// Public tokens over HTTP: the same results as all encrypted, nothing private in a request, and
// every bad context refused by name. Small insecure rings, for tests only.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "model/client/client_half.h"
#include "support/mock_model.h"
#include "support/served_client_files.h"

namespace polyveil::testing {
namespace {

using nlohmann::json;
using Tokens = std::vector<std::int32_t>;
using Values = std::vector<std::vector<double>>;

class PublicContextTest : public ClientFilesServedTest {
 protected:
  void SetUp() override {
    ClientFilesServedTest::SetUp();
    embedding_ = model::LoadTokenEmbedding(files_).value();
    client_ = std::make_unique<Client>(NewClient());
  }
  void ServeWith(u64 public_bytes) {
    client_.reset();
    serve::ServiceLimits limits = Limits();
    limits.public_bytes = public_bytes;
    Serve(limits, files_);
    client_ = std::make_unique<Client>(NewClient());
  }
  auto NewSession(std::span<const std::int32_t> known) {
    return serve::EncryptedSession::Create(*client_->remote, client_->key, client_->keys, known);
  }
  // Two encrypted tokens behind `known` public ones of the text, against all of it in float64.
  void ExpectSameAsAllEncrypted(const Tokens& text, size_t known) {
    const Values values = embedding_->EmbedAll(text).value();
    model::DecoderReference reference(*served_.decoder);
    const auto session = NewSession(std::span(text).first(known));
    ASSERT_TRUE(session.ok()) << session.error().message;
    EXPECT_EQ((*session)->position(), static_cast<int>(known));
    for (size_t i = 0; i < values.size(); ++i) {
      const auto expected = reference.Step(values[i]).value();
      if (i < known) continue;
      const auto step = (*session)->Step(values[i], {});
      ASSERT_TRUE(step.ok()) << step.error().message;
      for (size_t j = 0; j < expected.size(); ++j)
        EXPECT_NEAR(step->residual[j], expected[j], 0.05) << "token " << i << " slot " << j;
    }
  }
  json Asked(const Tokens& tokens) const {
    const Digest digest = serve::PublicDigest(served_.info.tensors_sha256, tokens);
    return {{"keys", client_->keys}, {"public", {{"tokens", tokens}, {"digest", ToHex(digest)}}}};
  }
  Error Refused(const std::string& body) {
    const wire::ByteView view(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
    const auto reply =
        client_->remote->http().Send({.method = "POST", .path = "/v1/sessions", .body = view});
    if (!reply.ok()) return reply.error();
    EXPECT_NE(reply->status, 201) << body.substr(0, 200);
    return serve::ErrorFromReply(reply->status, reply->text());
  }
  void ExpectRefused(const std::string& body, ErrorCode code, const std::string& part) {
    const Error error = Refused(body);
    EXPECT_EQ(error.code, code) << error.message;
    EXPECT_NE(error.message.find(part), std::string::npos) << error.message;
  }
  u64 PublicBytes() {
    const auto memory = client_->remote->Memory().value();
    u64 bytes = 0;
    for (const auto& entry : memory) bytes += entry.name == "public contexts" ? entry.bytes : 0;
    return bytes;
  }

  std::shared_ptr<const model::TokenEmbedding> embedding_;
  std::unique_ptr<Client> client_;
};

TEST_F(PublicContextTest, ResultsEqualThoseOfAllEncryptedTokens) {
  EXPECT_EQ(client_->remote->info().public_tokens, bundle_->config.context - 1);
  // Runs of tokens have an embedding too: the first encrypted one's begins in the public part.
  for (const size_t known : {1, 2, 4}) {
    Tokens text;
    for (size_t i = 0; i < known + 2; ++i) text.push_back(static_cast<int>(7 * i + known));
    ExpectSameAsAllEncrypted(text, known);
  }
}

TEST_F(PublicContextTest, IsKeptForAllClientsWithinItsBudget) {
  const u64 two = model::PublicContextBytes(*served_.decoder, 2);
  ServeWith(2 * two);
  ExpectSameAsAllEncrypted({1, 2, 3}, 2);
  EXPECT_EQ(PublicBytes(), two);
  Client other = NewClient();
  ASSERT_TRUE(
      serve::EncryptedSession::Create(*other.remote, other.key, other.keys, Tokens{1, 2}).ok());
  EXPECT_EQ(PublicBytes(), two);  // the same one
  ExpectSameAsAllEncrypted({3, 4, 5}, 2);
  EXPECT_EQ(PublicBytes(), 2 * two);
  // The longest unused one makes room; one that a session will still read does not.
  ExpectSameAsAllEncrypted({5, 6, 7}, 2);
  EXPECT_EQ(PublicBytes(), 2 * two);
  const auto first = NewSession(Tokens{8, 9}), second = NewSession(Tokens{9, 8});
  ASSERT_TRUE(first.ok() && second.ok());
  ExpectRefused(
      Asked({1, 1}).dump(), ErrorCode::kResource,
      fmt::format("one of {} bytes beside {} in use, the limit is {}", two, 2 * two, 2 * two));
  ExpectRefused(Asked({1, 1, 1, 1, 1}).dump(), ErrorCode::kResource, "public contexts");
  // Nothing was lost: the sessions' texts go on.
  EXPECT_TRUE((*first)->Step(embedding_->EmbedAll(Tokens{8, 9, 1}).value()[2], {}).ok());
}

TEST_F(PublicContextTest, AfterARestartTheContextIsComputedAnew) {
  ExpectSameAsAllEncrypted({1, 2, 3, 4}, 3);
  const auto old = std::move(client_);
  const Tokens text = {1, 2, 3};
  auto session =
      serve::EncryptedSession::Create(*old->remote, old->key, old->keys, std::span(text).first(2))
          .value();
  ServeWith(Limits().public_bytes);  // another server in place of the session's
  EXPECT_EQ(session->Step(embedding_->EmbedAll(text).value()[2], {}).error().code,
            ErrorCode::kUnavailable);
  EXPECT_EQ(PublicBytes(), 0u);
  ExpectSameAsAllEncrypted({1, 2, 3, 4}, 3);
}

TEST_F(PublicContextTest, RefusesBadContextsByName) {
  const int context = bundle_->config.context;
  const std::string keys = R"({"keys":")" + client_->keys + "\",";
  const auto with = [&](const std::string& field) { return keys + field + "}"; };
  ExpectRefused(with(R"("public":[{"tokens":[1]}])"), ErrorCode::kCorrupt, "'public' is no object");
  ExpectRefused(with(R"("public":{"tokens":[1]},"public":{"tokens":[2]})"), ErrorCode::kCorrupt,
                "public");
  ExpectRefused(with(R"("private":[1],"public":{"tokens":[1]})"), ErrorCode::kCorrupt,
                "unknown field 'private'");
  ExpectRefused(with(R"("public":{"tokens":[1],"digest":"00","after":2})"), ErrorCode::kCorrupt,
                "unknown field 'after'");
  for (const char* bad : {"[1,-1]", "[1,1.5]", "[1,\"2\"]", "[1,[2]]", "[1,null]", "[1,2147483648]",
                          "[1,1e3]", "[1,NaN]", "[1,1e400]", "[1,true]", "[1,", "{}", "7", "null"})
    EXPECT_EQ(Refused(with(R"("public":{"tokens":)" + std::string(bad) + "}")).code ==
                  ErrorCode::kOutOfRange,
              bad == std::string("{}") || bad == std::string("7") || bad == std::string("null"))
        << bad;
  ExpectRefused(Asked({}).dump(), ErrorCode::kInvalidArgument, "empty");
  ExpectRefused(Asked({1, 1 << 20}).dump(), ErrorCode::kOutOfRange,
                "tokens[1]: token 1048576 outside the vocabulary of");
  ExpectRefused(Asked(Tokens(static_cast<size_t>(context), 1)).dump(), ErrorCode::kOutOfRange,
                fmt::format("{}, not an array of at most {}", context, context - 1));
  ExpectRefused(Asked(Tokens(100'000, 1)).dump(), ErrorCode::kOutOfRange, "bytes above");
  json other = Asked({1, 2});
  other["public"]["tokens"] = {1, 3};
  ExpectRefused(other.dump(), ErrorCode::kMismatch, "public.digest = ");
  other["public"]["digest"] = std::string(64, 'x');
  EXPECT_EQ(Refused(other.dump()).code, ErrorCode::kInvalidArgument);
  other = Asked({1, 2});
  other["keys"] = "0123";
  EXPECT_EQ(Refused(other.dump()).code, ErrorCode::kNotFound);
  // The library refuses what the server would, before it sends anything.
  const auto refused = NewSession(Tokens(static_cast<size_t>(context), 1));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().message, fmt::format("a public context of {} tokens, the server takes "
                                                 "at most {}",
                                                 context, context - 1));
  ExpectSameAsAllEncrypted({1, 2, 3}, 2);
}

// A lost reply may be asked for again; the name of a request means one context.
TEST_F(PublicContextTest, ARequestSentAgainIsTheSameSession) {
  json asked = Asked({1, 2});
  asked["request_id"] = "r";
  const auto create = [&](const json& body) {
    const std::string text = body.dump();
    const wire::ByteView view(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    return json::parse(client_->remote->http()
                           .Send({.method = "POST", .path = "/v1/sessions", .body = view})
                           .value()
                           .text());
  };
  const json first = create(asked);
  EXPECT_EQ(first["position"], 2);
  EXPECT_EQ(first["public"]["tokens"], 2);
  EXPECT_EQ(create(asked)["id"], first["id"]);
  json other = Asked({1, 3});
  other["request_id"] = "r";
  ExpectRefused(other.dump(), ErrorCode::kMismatch, "its public context is");
  asked.erase("public");
  ExpectRefused(asked.dump(), ErrorCode::kMismatch, "its public context is");
  // No public part behind the first step, nor a token of a public position.
  const std::string session = first["id"];
  for (const char* method : {"POST", "PUT"})
    EXPECT_EQ(client_->remote->http()
                  .Send({.method = method, .path = "/v1/sessions/public", .handle = session})
                  .value()
                  .status,
              404);
}

// A program with matrices of public keys: what a session may have depends on its public part.
TEST_F(PublicContextTest, AServerWithMatricesOfPublicKeys) {
  client_.reset();
  RandomModelShape shape;
  shape.context = 40;
  ASSERT_EQ(WriteRandomBundle(folder_ / "long", 5, shape), 0);
  const auto served = serve::LoadServedModel((folder_ / "long").string(), "test10", "test",
                                             Limits(), {{}, {.known = 32}})
                          .value();
  ASSERT_TRUE(served.model->reads_known());
  EXPECT_EQ(served.info.public_tokens, 32);
  server_->Stop();
  server_.reset();
  service_ = std::make_unique<serve::ModelService>(served, Limits());
  server_ = serve::HttpServer::Start({}, *service_).value();
  client_ = std::make_unique<Client>(NewClient());
  Tokens text;
  for (int i = 0; i < 36; ++i) text.push_back(i % 50);
  const Values values = served.embedding->EmbedAll(text).value();
  model::DecoderReference reference(*served.decoder);
  const auto session = NewSession(std::span(text).first(32)).value();
  EXPECT_EQ(session->server_session().context, served.model->ContextBehind(32));
  for (size_t i = 0; i < values.size(); ++i) {
    const auto expected = reference.Step(values[i]).value();
    if (i < 32) continue;
    const auto step = session->Step(values[i], {});
    ASSERT_TRUE(step.ok()) << step.error().message;
    for (size_t j = 0; j < expected.size(); ++j)
      EXPECT_NEAR(step->residual[j], expected[j], 0.05) << "token " << i << " slot " << j;
  }
  // Without public tokens the caches end before the context does.
  const auto alone = NewSession({}).value();
  EXPECT_LT(alone->server_session().context, 40);
}

TEST_F(PublicContextTest, AServerWithoutEmbeddingTakesNone) {
  client_.reset();
  Serve(Limits());
  client_ = std::make_unique<Client>(NewClient());
  EXPECT_EQ(client_->remote->info().public_tokens, 0);
  EXPECT_EQ(NewSession(Tokens{1}).error().code, ErrorCode::kOutOfRange);
  ExpectRefused(Asked({1}).dump(), ErrorCode::kInvalidArgument, "takes no public context");
}

// What a client says, as a server hears it.
class PublicRequestsTest : public ClientFilesServedTest {
 protected:
  // All requests of a text with a public part and a private one of any words.
  std::vector<MockRequest> RequestsOf(const std::string& known, const std::string& secret,
                                      const std::string& reply = {}) {
    MockModel mock;
    mock.info().public_tokens = 7;
    MockServer server([&](const MockRequest& request, MockPeer& peer) {
      std::string answer = mock.Reply(request);
      if (request.Line() == "POST /v1/sessions")
        answer = MockReply(201, reply.empty() ? Taken(request) : reply);
      peer.Send(answer);
    });
    serve::RemoteOptions options = Options();
    const auto remote = serve::RemoteModel::Connect(server.url(), options).value();
    const ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
    auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)).value();
    EXPECT_TRUE(upload.Write(wire::Bytes(1000, 1)).ok());
    Run(*remote, key, upload.Finish().value(), known, secret);
    return server.Requests();
  }
  void Run(serve::RemoteModel& remote, const ckks::SecretKey& key, const std::string& keys,
           const std::string& known, const std::string& secret) {
    const auto half = Half();
    Tokens text = half->Encode(known);
    const size_t public_tokens = text.size();
    for (const auto token : half->EncodePart(secret)) text.push_back(token);
    auto session =
        serve::EncryptedSession::Create(remote, key, keys, std::span(text).first(public_tokens));
    error_ = session.ok() ? "" : session.error().message;
    for (size_t i = public_tokens; session.ok() && i < text.size(); ++i)
      EXPECT_TRUE((*session)->Step(half->Embed(std::span(text).first(i + 1)).value(), {}).ok());
  }
  std::shared_ptr<const model::ClientHalf> Half() {
    auto files = model::ClientFilesOfBundle((folder_ / "model").string()).value();
    auto codec = model::BundleCodec(files).value();
    return model::ClientHalf::Create(std::move(files), std::move(codec)).value();
  }
  static std::string Taken(const MockRequest& request) {
    const size_t tokens = json::parse(request.body)["public"]["tokens"].size();
    return json{{"id", "00112233"},
                {"context", 8},
                {"position", tokens},
                {"public", {{"tokens", tokens}, {"out_of_range", 0}, {"worst_site", ""}}}}
        .dump();
  }
  std::string error_;
};

TEST_F(PublicRequestsTest, HoldNoPrivateWordAndHaveTheShapeOfAnyOther) {
  const auto first = RequestsOf("once", "QZX"), second = RequestsOf("once", "\x01\x02~");
  ASSERT_EQ(first.size(), second.size());
  const auto half = Half();
  const Tokens known = half->Encode("once");
  int sessions = 0, steps = 0;
  for (size_t i = 0; i < first.size(); ++i) {
    const MockRequest &one = first[i], &other = second[i];
    EXPECT_EQ(one.Line(), other.Line());
    EXPECT_EQ(one.body.size(), other.body.size()) << one.Line();
    EXPECT_EQ(one.header.size(), other.header.size()) << one.Line();
    for (const std::string word : {"QZX", "QZ", "ZX"})
      EXPECT_EQ((one.header + one.path).find(word), std::string::npos);
    steps += one.path.ends_with("/step");
    if (one.Line() != "POST /v1/sessions") continue;
    ++sessions;
    const json body = json::parse(one.body);
    EXPECT_EQ(body.size(), 3u);
    EXPECT_EQ(body["public"].size(), 2u);
    EXPECT_EQ(body["public"]["tokens"].get<Tokens>(), known);
    EXPECT_EQ(body["public"], json::parse(other.body)["public"]);
  }
  EXPECT_EQ(sessions, 1);
  EXPECT_EQ(steps, 3);
}

TEST_F(PublicRequestsTest, AServerThatLeavesTokensOutIsRefused) {
  const auto refused = [&](const std::string& reply, const std::string& part) {
    RequestsOf("once", "Q", reply);
    EXPECT_NE(error_.find(part), std::string::npos) << error_;
  };
  refused(R"({"id":"aa"})", "context");
  refused(R"({"id":"aa","context":9,"position":1})", "context");
  refused(R"({"id":"aa","context":8})", "position");
  refused(R"({"id":"aa","context":8,"position":0})", "public");
  refused(
      R"({"id":"aa","context":8,"position":0,"public":{"tokens":0,"out_of_range":0,"worst_site":""}})",
      "the server has taken 0, position 0");
  refused(
      R"({"id":"aa","context":8,"position":-1,"public":{"tokens":1,"out_of_range":0,"worst_site":""}})",
      "position");
  refused(R"({"id":"aa","context":8,"position":9,"public":{"tokens":1e300,"out_of_range":0}})",
          "tokens");
}

}  // namespace
}  // namespace polyveil::testing
