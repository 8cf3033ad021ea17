// Hostile and broken requests: each refused by name, another client's session unharmed.
#include <nlohmann/json.hpp>

#include "ckks/client/encryptor.h"
#include "e2e/served_fixture.h"

namespace polyveil::testing {
namespace {

using serve::ClientRequest;

class HostileTest : public ServedModelTest {
 protected:
  void SetUp() override {
    ServedModelTest::SetUp();
    victim_ = std::make_unique<Client>(NewClient());
    session_ = victim_->NewSession();
    reference_ = std::make_unique<model::DecoderReference>(*served_.decoder);
    ExpectStepsAgree(*session_, *reference_, 1, random_);
    attacker_ = Connect();
  }
  // Whatever a test has done, the victim's text goes on.
  void TearDown() override {
    ExpectStepsAgree(*session_, *reference_, 1, random_);
    session_.reset();
    ServedModelTest::TearDown();
  }

  Error Refused(const ClientRequest& request) {
    const auto reply = attacker_->http().Send(request);
    if (!reply.ok()) return reply.error();
    EXPECT_NE(reply->status / 100, 2) << request.method << " " << request.path;
    return serve::ErrorFromReply(reply->status, reply->text());
  }
  Error RefusedText(const char* method, const std::string& path, const std::string& body,
                    const std::string& handle = {}) {
    const wire::ByteView view(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
    return Refused({.method = method, .path = path, .body = view, .handle = handle});
  }

  // A good token of `client` for its session's position 0, to be damaged.
  wire::Bytes Token(const Client& client, const std::string& model_digest, u32 position = 0) {
    const auto& remote = *client.remote;
    const ckks::Encoder encoder(remote.params());
    const std::vector<double> values(static_cast<size_t>(remote.info().d_model), 0.1);
    const int level = remote.info().input_level;
    const auto plain = encoder.Encode(values, level, remote.params()->scale(level)).value();
    const wire::Binding binding{remote.params()->digest(), DigestFromHex(model_digest).value(),
                                wire::KeyIdOf(client.key)};
    return wire::FormatToken(*remote.params(), binding, position,
                             ckks::Encryptor(client.key).Encrypt(plain));
  }
  Error RefusedToken(const std::string& session, const wire::Bytes& body) {
    return Refused({.method = "POST",
                    .path = "/v1/sessions/step",
                    .body = body,
                    .content_type = serve::kBinaryType,
                    .handle = session});
  }
  static void ExpectNames(const Error& error, ErrorCode code, const char* what) {
    EXPECT_EQ(error.code, code) << error.message;
    EXPECT_NE(error.message.find(what), std::string::npos) << error.message;
  }

  std::mt19937_64 random_{3};
  std::unique_ptr<Client> victim_;
  std::unique_ptr<serve::EncryptedSession> session_;
  std::unique_ptr<model::DecoderReference> reference_;
  std::unique_ptr<serve::RemoteModel> attacker_;
};

TEST_F(HostileTest, UnknownRoutesNamesAndMethods) {
  for (const auto& [method, path] :
       {std::pair{"GET", "/"}, std::pair{"GET", "/v1/nothing"}, std::pair{"POST", "/v1/model"},
        std::pair{"GET", "/v1/keys/no"}, std::pair{"DELETE", "/v1/sessions/../../etc/passwd"},
        std::pair{"GET", "/v1/keys"}, std::pair{"GET", "/v1/sessions/latency"}}) {
    EXPECT_EQ(RefusedText(method, path, "").code, ErrorCode::kNotFound) << method << " " << path;
    EXPECT_EQ(RefusedText(method, path, "", "no").code, ErrorCode::kNotFound) << path;
  }
}

TEST_F(HostileTest, BrokenJson) {
  for (const char* body :
       {"", "{", "[]", "null", "{\"key_id\":5}", "{\"keys\":[]}", "\xff\xfe",
        "{\"key_id\":\"00\",\"total_bytes\":1}", "{\"key_id\":\"zz\",\"total_bytes\":1e400}"}) {
    RefusedText("POST", "/v1/keys", body);
    RefusedText("POST", "/v1/sessions", body);
  }
  RefusedText("POST", "/v1/keys", std::string(4096, '['));
}

TEST_F(HostileTest, OversizedBodiesAreRefusedUnread) {
  ExpectNames(RefusedText("POST", "/v1/keys", std::string(100000, ' ')), ErrorCode::kOutOfRange,
              "100000 bytes above 4096");
  const auto handle = victim_->remote->CreateSession(victim_->keys).value();
  const wire::Bytes big(wire::TokenBytes(*victim_->remote->params(), served_.info.input_level) + 1);
  ExpectNames(RefusedToken(handle, big), ErrorCode::kOutOfRange, "request body");
}

TEST_F(HostileTest, TokensOfAnotherKeyModelPositionOrBroken) {
  const auto handle = victim_->remote->CreateSession(victim_->keys).value();
  const std::string digest = served_.info.program_digest;
  Client foreign = NewClient();
  ExpectNames(RefusedToken(handle, Token(foreign, digest)), ErrorCode::kMismatch, "key id");
  const std::string other(64, 'a');
  ExpectNames(RefusedToken(handle, Token(*victim_, other)), ErrorCode::kMismatch, "model digest");
  ExpectNames(RefusedToken(handle, Token(*victim_, digest, 3)), ErrorCode::kMismatch,
              "position = 3, expected 0");
  wire::Bytes token = Token(*victim_, digest);
  token[token.size() / 2] ^= 4;
  ExpectNames(RefusedToken(handle, token), ErrorCode::kCorrupt, "checksum");
  token = Token(*victim_, digest);
  token[20] ^= 1;
  ExpectNames(RefusedToken(handle, token), ErrorCode::kMismatch, "parameter digest");
  for (const size_t size : {size_t{0}, size_t{1}, size_t{151}, size_t{152}, token.size() - 1}) {
    token = Token(*victim_, digest);
    token.resize(size);
    EXPECT_NE(RefusedToken(handle, token).code, ErrorCode::kUnavailable) << size;
  }
}

TEST_F(HostileTest, UploadsOutOfOrderDamagedOrForeign) {
  const ckks::SecretKey key = ckks::SecretKey::Generate(attacker_->params());
  const wire::Bytes stream = KeyStream(*attacker_, key);
  const auto begin = [&](const Digest& key_id) {
    return serve::KeyUpload::Begin(*attacker_, key_id).value().handle();
  };
  const auto put = [&](const std::string& handle, u64 index, wire::ByteView bytes) {
    return Refused({.method = "PUT",
                    .path = "/v1/keys/chunks/" + std::to_string(index),
                    .body = bytes,
                    .checksum = ToHex(serve::ChunkChecksum(bytes)),
                    .handle = handle});
  };
  const wire::ByteView first = wire::ByteView(stream).first(Limits().chunk_bytes);
  const std::string handle = begin(wire::KeyIdOf(key));
  ExpectNames(put(handle, 1, first), ErrorCode::kMismatch, "expected 0");
  ExpectNames(put(handle, 0, first.first(10)), ErrorCode::kMismatch, "10 bytes");
  ExpectNames(Refused({.method = "PUT",
                       .path = "/v1/keys/chunks/0",
                       .body = first,
                       .checksum = "00",
                       .handle = handle}),
              ErrorCode::kCorrupt, "computed");
  EXPECT_EQ(
      Refused({.method = "PUT", .path = "/v1/keys/chunks/-1", .body = first, .handle = handle})
          .code,
      ErrorCode::kInvalidArgument);
  ExpectNames(RefusedText("POST", "/v1/keys/complete", "", handle), ErrorCode::kMismatch,
              "bytes received");
  EXPECT_EQ(RefusedText("POST", "/v1/sessions", "{\"keys\":\"" + handle + "\"}").code,
            ErrorCode::kUnavailable);
  // A stream that lies about its key ends the upload, and its place is free again.
  const std::string lying = begin(wire::KeyIdOf(victim_->key));
  ExpectNames(put(lying, 0, first), ErrorCode::kMismatch, "key id");
  EXPECT_EQ(put(lying, 0, first).code, ErrorCode::kNotFound);
  ASSERT_TRUE(attacker_->RemoveKeys(handle).ok());
}

TEST_F(HostileTest, AnnouncesAWrongSize) {
  const std::string key_id = ToHex(wire::KeyIdOf(victim_->key));
  const nlohmann::json body = {{"key_id", key_id}, {"total_bytes", 1}};
  ExpectNames(RefusedText("POST", "/v1/keys", body.dump()), ErrorCode::kMismatch,
              "1 bytes announced");
}

TEST_F(HostileTest, RandomBytesInEveryRoute) {
  std::mt19937_64 random(17);
  const auto handle = victim_->remote->CreateSession(victim_->keys).value();
  const std::string paths[] = {"/v1/keys", "/v1/sessions", "/v1/sessions/step",
                               "/v1/keys/chunks/0"};
  for (int i = 0; i < 200; ++i) {
    wire::Bytes body(random() % 3000);
    for (auto& byte : body) byte = static_cast<std::uint8_t>(random());
    Refused({.method = i % 2 ? "POST" : "PUT",
             .path = paths[random() % 4],
             .body = body,
             .handle = handle});
  }
}

}  // namespace
}  // namespace polyveil::testing
