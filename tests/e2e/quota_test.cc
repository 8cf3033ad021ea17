// Accounts of one server: nobody without a token, nobody else's keys, and a quota that ends one
// account's share and no other's.
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "e2e/served_fixture.h"
#include "serve/server/accounts.h"
#include "serve/server/test_socket.h"

namespace polyveil::testing {
namespace {

using nlohmann::json;

class QuotaTest : public ServedModelTest {
 protected:
  void SetUp() override {
    ServedModelTest::SetUp();
    path_ = ::testing::TempDir() + "accounts" + std::to_string(getpid()) + ".json";
    std::filesystem::remove(path_);
    ann_ = serve::AddAccount(path_, "ann").value();
    bob_ = serve::AddAccount(path_, "bob").value();
  }
  void TearDown() override {
    ServedModelTest::TearDown();
    std::filesystem::remove(path_);
  }
  // A server on which ann has this quota, and bob none.
  void ServeWith(const json& quota, const serve::ServiceLimits& limits = Limits()) {
    json file = json::parse(std::ifstream(path_));
    for (json& account : file["accounts"])
      if (account["name"] == "ann") account["quota"] = quota;
    std::ofstream(path_) << file;
    ServedModelTest::TearDown();
    server_.reset();
    service_ = std::make_unique<serve::ModelService>(served_, limits,
                                                     serve::Accounts::Load(path_).value());
    server_ = serve::HttpServer::Start({}, *service_).value();
  }
  Result<std::unique_ptr<serve::RemoteModel>> ConnectAs(const std::string& token,
                                                        double retry_seconds = 1) const {
    serve::RemoteOptions options = Options();
    options.access.token = token;
    options.retry_seconds = retry_seconds;
    return serve::RemoteModel::Connect(url(), options);
  }
  Result<Client> ClientOf(const std::string& token, double retry_seconds = 1) const {
    PV_ASSIGN_OR_RETURN(auto remote, ConnectAs(token, retry_seconds));
    ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
    PV_ASSIGN_OR_RETURN(auto upload, serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)));
    PV_RETURN_IF_ERROR(upload.Write(KeyStream(*remote, key)));
    PV_ASSIGN_OR_RETURN(std::string keys, upload.Finish());
    return Client{std::move(remote), std::move(key), std::move(keys)};
  }
  // Bob is served whatever ann does.
  void ExpectBobIsServed() {
    auto bob = ClientOf(bob_);
    ASSERT_TRUE(bob.ok()) << bob.error().message;
    auto session = bob->NewSession();
    model::DecoderReference reference(*served_.decoder);
    ExpectStepsAgree(*session, reference, 2, random_);
  }
  static void ExpectOver(const Error& error, const std::string& what) {
    EXPECT_EQ(error.code, ErrorCode::kResource);
    EXPECT_NE(error.message.find("account 'ann': " + what), std::string::npos) << error.message;
  }
  // The whole reply to a request of ann's.
  std::string Raw(const std::string& line, const std::string& fields, const std::string& body) {
    serve::TestSocket socket(server_->port());
    socket.Write(line + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + fields +
                 "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
    return socket.ReadAll();
  }

  std::string path_, ann_, bob_;
  std::mt19937_64 random_{3};
};

TEST_F(QuotaTest, NobodyWithoutAToken) {
  ServeWith(json::object());
  for (const std::string& token : {std::string(), std::string("pv_no"), ann_ + "0"}) {
    const auto remote = ConnectAs(token);
    ASSERT_FALSE(remote.ok());
    EXPECT_EQ(remote.error().code, ErrorCode::kSecurity) << remote.error().message;
  }
  EXPECT_NE(Raw("GET /v1/model", "", "").find("401"), std::string::npos);
  EXPECT_NE(Raw("GET /v1/status", "Authorization: Basic " + ann_ + "\r\n", "").find("Bearer"),
            std::string::npos);
  EXPECT_NE(Raw("GET /v1/status", "Authorization: bearer " + ann_ + "\r\n", "").find("200 OK"),
            std::string::npos);
  // Refused before a byte of its body is read.
  EXPECT_NE(Raw("PUT /v1/keys/chunks/0", "X-Polyveil-Handle: a\r\n", "x").find("401"),
            std::string::npos);
  ExpectBobIsServed();
}

TEST_F(QuotaTest, OneAccountsKeysAndSessionsAreNotAnothers) {
  ServeWith(json::object());
  Client ann = ClientOf(ann_).value();
  const std::string session = ann.remote->CreateSession(ann.keys).value();
  const auto bob = ConnectAs(bob_).value();
  EXPECT_EQ(bob->CreateSession(ann.keys).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(bob->RemoveKeys(ann.keys).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(bob->RemoveSession(session).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(bob->Latency(session).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(ann.remote->Latency(session).ok());
}

TEST_F(QuotaTest, KeySets) {
  ServeWith({{"key_sets", 1}});
  const Client first = ClientOf(ann_).value();
  const auto second = ClientOf(ann_);
  ASSERT_FALSE(second.ok());
  ExpectOver(second.error(), "1 key sets of at most 1");
  const std::string body =
      json{{"key_id", std::string(64, 'a')}, {"total_bytes", first.remote->info().key_stream_bytes}}
          .dump();
  const std::string reply = Raw("POST /v1/keys", "Authorization: Bearer " + ann_ + "\r\n", body);
  EXPECT_NE(reply.find("429 Too Many Requests"), std::string::npos) << reply;
  EXPECT_NE(reply.find("Retry-After: 60"), std::string::npos) << reply;
  ExpectBobIsServed();
  // Who gives keys back has their place again.
  ASSERT_TRUE(first.remote->RemoveKeys(first.keys).ok());
  EXPECT_TRUE(ClientOf(ann_).ok());
}

TEST_F(QuotaTest, KeysOfAClientThatLeftGiveWayToItsAccount) {
  serve::ServiceLimits limits = Limits();
  limits.left_seconds = 0.1;
  ServeWith({{"key_sets", 1}, {"sessions", 1}}, limits);
  (void)ClientOf(ann_).value();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  Client second = ClientOf(ann_).value();
  ASSERT_TRUE(second.remote->CreateSession(second.keys).ok());
}

TEST_F(QuotaTest, KeyBytesAreReservedAsTheyArrive) {
  const u64 bytes = served_.info.key_stream_bytes;
  ServeWith({{"key_bytes", bytes + Limits().chunk_bytes}});
  // Asking announces all bytes and takes none.
  const auto remote = ConnectAs(ann_).value();
  const ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)).ok());
  Client first = ClientOf(ann_).value();
  const auto second = ClientOf(ann_);
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("bytes of keys"), std::string::npos)
      << second.error().message;
  ExpectBobIsServed();
  ASSERT_TRUE(first.remote->CreateSession(first.keys).ok());
}

TEST_F(QuotaTest, Sessions) {
  ServeWith({{"sessions", 2}});
  Client ann = ClientOf(ann_).value();
  const std::string first = ann.remote->CreateSession(ann.keys).value();
  ASSERT_TRUE(ann.remote->CreateSession(ann.keys).ok());
  const auto third = ann.remote->CreateSession(ann.keys);
  ASSERT_FALSE(third.ok());
  ExpectOver(third.error(), "2 sessions of at most 2");
  ExpectBobIsServed();
  ASSERT_TRUE(ann.remote->RemoveSession(first).ok());
  EXPECT_TRUE(ann.remote->CreateSession(ann.keys).ok());
}

TEST_F(QuotaTest, SecondsOfADay) {
  ServeWith({{"compute_seconds", 1e-6}});
  Client ann = ClientOf(ann_).value();
  auto session = ann.NewSession();
  ASSERT_TRUE(session->Step(Embedding(random_), {}).ok());
  const auto second = session->Step(Embedding(random_), {});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.error().message.find("s of computation today of at most"), std::string::npos);
  ExpectBobIsServed();
}

// Over it for a moment: its client asks again, and loses nothing.
TEST_F(QuotaTest, StepsAtATime) {
  ServeWith({{"steps", 1}});
  std::vector<Client> clients;
  // The other client's steps may come first, however slow they are.
  for (int i = 0; i < 2; ++i) clients.push_back(ClientOf(ann_, 60).value());
  std::vector<std::thread> threads;
  for (Client& client : clients)
    threads.emplace_back([&, seed = threads.size()] {
      std::mt19937_64 random(seed);
      auto session = client.NewSession();
      model::DecoderReference reference(*served_.decoder);
      ExpectStepsAgree(*session, reference, 3, random);
    });
  ExpectBobIsServed();  // at the same time
  for (std::thread& thread : threads) thread.join();
  ServeWith({{"steps", 0}});
  Client none = ClientOf(ann_).value();
  auto session = none.NewSession();
  const auto step = session->Step(Embedding(random_), {});
  ASSERT_FALSE(step.ok());
  EXPECT_NE(step.error().message.find("0 steps run or wait of at most 0"), std::string::npos);
  ExpectBobIsServed();
}

}  // namespace
}  // namespace polyveil::testing
