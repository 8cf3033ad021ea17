// Clients that vanish, ask twice, or take more than their share: the others are served.
#include <nlohmann/json.hpp>
#include <thread>

#include "ckks/client/encryptor.h"
#include "e2e/served_fixture.h"

namespace polyveil::testing {
namespace {

using nlohmann::json;
using serve::ClientRequest;

class TenancyTest : public ServedModelTest {
 protected:
  // Keys that many clients may upload: making them takes longer than anything here.
  void SetUp() override {
    ServedModelTest::SetUp();
    remote_ = Connect();
    key_ = std::make_unique<ckks::SecretKey>(ckks::SecretKey::Generate(remote_->params()));
    stream_ = KeyStream(*remote_, *key_);
  }
  wire::ByteView FirstChunk() const { return wire::ByteView(stream_).first(Limits().chunk_bytes); }
  // Sends all keys over `remote` and completes them.
  std::string Upload(serve::RemoteModel& remote) const {
    auto upload = serve::KeyUpload::Begin(remote, wire::KeyIdOf(*key_)).value();
    EXPECT_TRUE(upload.Write(stream_).ok());
    return upload.Finish().value();
  }
  static json Ask(serve::RemoteModel& remote, const char* method, const std::string& path,
                  const std::string& body = {}, int* status = nullptr,
                  const std::string& handle = {}) {
    const wire::ByteView view(reinterpret_cast<const std::uint8_t*>(body.data()), body.size());
    const auto reply = remote.http()
                           .Send({.method = method, .path = path, .body = view, .handle = handle})
                           .value();
    if (status) *status = reply.status;
    return json::parse(reply.text());
  }
  static json Counts(serve::RemoteModel& remote) { return Ask(remote, "GET", "/v1/status"); }
  Result<serve::RemoteStep> Step(serve::RemoteModel& remote, const std::string& session,
                                 int position) const {
    const ckks::Encoder encoder(remote.params());
    const int level = remote.info().input_level;
    const std::vector<double> values(static_cast<size_t>(remote.info().d_model), 0.1);
    const auto plain = encoder.Encode(values, level, remote.params()->scale(level)).value();
    return remote.Step(session, wire::KeyIdOf(*key_), static_cast<u32>(position),
                       ckks::Encryptor(*key_).Encrypt(plain), {});
  }
  template <typename Condition>
  static bool Within(double seconds, Condition&& condition) {
    const Timer timer;
    while (!condition()) {
      if (timer.Seconds() > seconds) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    return true;
  }

  std::unique_ptr<serve::RemoteModel> remote_;
  std::unique_ptr<ckks::SecretKey> key_;
  wire::Bytes stream_;
};

TEST_F(TenancyTest, TwoClientsVanishEightTimesAndTheNinthIsServed) {
  serve::ServiceLimits limits = Limits();
  limits.key_sets = 2;
  limits.sessions = 2;
  limits.left_seconds = 0.05;
  Serve(limits);
  for (int round = 0; round < 8; ++round) {
    auto uploading = Connect();
    auto stepping = Connect();
    ASSERT_TRUE(Within(20, [&] { return BeginUpload(*uploading, *key_, FirstChunk()).ok(); }));
    ASSERT_TRUE(Within(20, [&] { return BeginUpload(*stepping, *key_, FirstChunk()).ok(); }));
    ASSERT_EQ(BeginUpload(*Connect(), *key_, FirstChunk()).error().code, ErrorCode::kResource);
    if (round % 3 != 1) continue;  // neither has finished its upload
    uploading.reset();
    std::string keys;
    ASSERT_TRUE(Within(20, [&] {
      auto upload = serve::KeyUpload::Begin(*stepping, wire::KeyIdOf(*key_));
      if (!upload.ok() || !upload->Write(stream_).ok()) return false;
      keys = upload->Finish().value();
      return true;
    }));
    ASSERT_TRUE(Step(*stepping, stepping->CreateSession(keys).value(), 0).ok());
    ASSERT_TRUE(stepping->CreateSession(keys).ok());
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  Client ninth = NewClient();
  auto session = ninth.NewSession();
  model::DecoderReference reference(*served_.decoder);
  std::mt19937_64 random(3);
  ExpectStepsAgree(*session, reference, 2, random);
}

TEST_F(TenancyTest, AskingTakesNoPlace) {
  const std::string body =
      json{{"key_id", ToHex(wire::KeyIdOf(*key_))}, {"total_bytes", stream_.size()}}.dump();
  for (int i = 0; i < 200; ++i) {
    int status = 0;
    Ask(*remote_, "POST", "/v1/keys", body, &status);
    ASSERT_EQ(status, 201);
  }
  EXPECT_LE(Counts(*remote_)["key_sets"], 64);
  for (size_t i = 0; i < Limits().key_sets; ++i) {
    EXPECT_TRUE(BeginUpload(*remote_, *key_, FirstChunk()).ok());
  }
  EXPECT_EQ(BeginUpload(*remote_, *key_, FirstChunk()).error().code, ErrorCode::kResource);
}

TEST_F(TenancyTest, APolledUploadWithoutProgressEnds) {
  serve::ServiceLimits limits = Limits();
  limits.upload_idle_seconds = 0.3;
  Serve(limits);
  auto remote = Connect();
  const std::string handle = BeginUpload(*remote, *key_, FirstChunk()).value();
  EXPECT_TRUE(Within(20, [&] {
    int status = 0;
    Ask(*remote, "GET", "/v1/keys", {}, &status, handle);
    return status == 404;
  }));
}

// Nobody asks for anything else, the server's own timer ends them.
TEST_F(TenancyTest, IdleSessionsAndKeysEndAndTheirMemoryIsFree) {
  serve::ServiceLimits limits = Limits();
  limits.key_idle_seconds = limits.session_idle_seconds = 1;
  Serve(limits);
  auto remote = Connect();
  (void)remote->CreateSession(Upload(*remote)).ok();  // a slow machine may be late
  json counts;
  EXPECT_TRUE(Within(20, [&] {
    counts = Counts(*remote);
    return counts["key_sets"] == 0 && counts["sessions"] == 0;
  }));
  for (const auto& entry : counts["memory"]) {
    EXPECT_FALSE(std::string(entry["name"]).starts_with("keys")) << entry;
  }
}

TEST_F(TenancyTest, KeysInUseDoNotExpire) {
  serve::ServiceLimits limits = Limits();
  limits.upload_idle_seconds = 0;
  serve::SessionStore sessions(limits);
  serve::KeyStore keys(served_.model, limits, sessions);
  const auto connection = std::make_shared<const int>(0);
  const auto set = keys.Begin({wire::KeyIdOf(*key_), stream_.size(), ""}, connection).value();
  auto pin = serve::Pin(set);
  keys.RemoveExpired();
  EXPECT_TRUE(keys.Find(set->handle).ok());
  pin.reset();
  keys.RemoveExpired();
  EXPECT_EQ(keys.Find(set->handle).error().code, ErrorCode::kNotFound);
  EXPECT_TRUE(set->removed);
}

TEST_F(TenancyTest, RemovedKeysCountUntilTheirBytesAreReleased) {
  serve::ServiceLimits limits = Limits();
  limits.key_memory_bytes = served_.model->estimate().key_bytes_compact * 3 / 2;
  serve::SessionStore sessions(limits);
  serve::KeyStore keys(served_.model, limits, sessions);
  const auto connection = std::make_shared<const int>(0);
  const auto start = [&]() -> Result<std::shared_ptr<serve::KeySet>> {
    PV_ASSIGN_OR_RETURN(auto set,
                        keys.Begin({wire::KeyIdOf(*key_), stream_.size(), ""}, connection));
    const auto chunk = FirstChunk();
    PV_RETURN_IF_ERROR(
        keys.AddChunk(*set, 0, chunk, ToHex(serve::ChunkChecksum(chunk)), connection));
    return set;
  };
  auto held = start().value();  // as a waiting completion holds it
  ASSERT_TRUE(keys.Remove(held->handle).ok());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(start().error().code, ErrorCode::kResource);
  held.reset();
  EXPECT_TRUE(start().ok());
}

TEST_F(TenancyTest, NoSessionOutlivesTheRemovalOfItsKeys) {
  const serve::ServiceLimits limits = Limits();
  serve::SessionStore sessions(limits);
  serve::KeyStore keys(served_.model, limits, sessions);
  serve::ComputeQueue queue(4, 1);
  const auto connection = std::make_shared<const int>(0);
  const auto set = keys.Begin({wire::KeyIdOf(*key_), stream_.size(), ""}, connection).value();
  for (u64 at = 0, index = 0; at < stream_.size(); at += limits.chunk_bytes, ++index) {
    const auto rest = wire::ByteView(stream_).subspan(at);
    const auto chunk = rest.first(std::min<size_t>(rest.size(), limits.chunk_bytes));
    ASSERT_TRUE(
        keys.AddChunk(*set, index, chunk, ToHex(serve::ChunkChecksum(chunk)), connection).ok());
  }
  const auto job =
      serve::PrepareKeys(serve::SharedModel::Create(served_.model, {}), set, queue).value();
  ASSERT_TRUE(job->WaitFor(60));
  // As a request does that has found the keys just before they are removed, again and again.
  std::atomic<bool> removed{false};
  std::thread creating([&] {
    while (!removed) (void)sessions.Create(set, {}, connection).ok();
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_TRUE(keys.Remove(set->handle).ok());
  EXPECT_EQ(sessions.Create(set, {}, connection).error().code, ErrorCode::kNotFound);
  removed = true;
  creating.join();
  MemoryReport report;
  EXPECT_EQ(sessions.Report(report), 0u);
}

TEST_F(TenancyTest, RepeatedRequestsAreAnsweredAsTheFirst) {
  json begin = {{"key_id", ToHex(wire::KeyIdOf(*key_))},
                {"total_bytes", stream_.size()},
                {"request_id", std::string(32, 'a')}};
  const std::string keys = Ask(*remote_, "POST", "/v1/keys", begin.dump())["id"];
  EXPECT_EQ(Ask(*remote_, "POST", "/v1/keys", begin.dump())["id"], keys);
  begin["request_id"] = std::string(32, 'b');
  EXPECT_NE(Ask(*remote_, "POST", "/v1/keys", begin.dump())["id"], keys);

  const std::string handle = Upload(*remote_);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Ask(*remote_, "POST", "/v1/keys/complete", {}, nullptr, handle)["ready"], true);
  }
  json create = {{"keys", handle}, {"request_id", "once"}};
  const std::string session = Ask(*remote_, "POST", "/v1/sessions", create.dump())["id"];
  ASSERT_TRUE(Step(*remote_, session, 0).ok());
  EXPECT_EQ(Ask(*remote_, "POST", "/v1/sessions", create.dump()),
            (json{{"id", session}, {"position", 1}, {"context", bundle_->config.context}}));
  create["request_id"] = "twice";
  EXPECT_NE(Ask(*remote_, "POST", "/v1/sessions", create.dump())["id"], session);
  // A step whose answer was lost, repeatedly.
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Step(*remote_, session, 1).ok());
  EXPECT_TRUE(Step(*remote_, session, 2).ok());
  EXPECT_EQ(Step(*remote_, session, 0).error().code, ErrorCode::kMismatch);
}

// Who has the result may step again at once, over another connection too.
TEST_F(TenancyTest, TheNextStepMayComeOverAnotherConnection) {
  auto other = Connect();
  const std::string keys = Upload(*remote_);
  const std::string session = remote_->CreateSession(keys).value();
  for (int i = 0; i < bundle_->config.context; ++i) {
    const auto step = Step(i % 2 ? *remote_ : *other, session, i);
    ASSERT_TRUE(step.ok()) << step.error().message;
  }
}

TEST_F(TenancyTest, TheClientWithTheMostSessionsMakesRoom) {
  const std::string keys = Upload(*remote_);
  std::vector<std::string> greedy;
  for (size_t i = 0; i < Limits().sessions; ++i) {
    greedy.push_back(remote_->CreateSession(keys).value());
  }
  ASSERT_TRUE(Step(*remote_, greedy[0], 0).ok());
  auto other = Connect();
  const std::string modest = Upload(*other);
  for (size_t i = 0; i < Limits().sessions / 2; ++i) {
    EXPECT_TRUE(other->CreateSession(modest).ok());
  }
  EXPECT_EQ(other->CreateSession(modest).error().code, ErrorCode::kResource);
  EXPECT_TRUE(Step(*remote_, greedy[0], 1).ok());  // the longest idle are gone
  EXPECT_EQ(Step(*remote_, greedy[1], 0).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace polyveil::testing
