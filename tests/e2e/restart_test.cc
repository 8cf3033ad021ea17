// A service that ends and begins again on the same folder: keys, uploads and sessions are where
// they were, and a client notices a pause only.
#include <nlohmann/json.hpp>
#include <thread>

#include "ckks/client/encryptor.h"
#include "e2e/restart_fixture.h"

namespace polyveil::testing {
namespace {

TEST_F(RestartTest, SessionsGoOnWhereTheyWere) {
  Client client = PatientClient();
  auto first = client.NewSession(), second = client.NewSession();
  model::DecoderReference one(*served_.decoder), other(*served_.decoder);
  for (int round = 0; round < 3; ++round) {
    ExpectStepsAgree(*first, one, round == 0 ? 2 : 1, random_);
    Restart();
    if (round > 0) ExpectStepsAgree(*second, other, 1, random_);
  }
  EXPECT_EQ(Folders("keys"), 1u);
  EXPECT_EQ(Folders("sessions"), 2u);
  first.reset();
  second.reset();
  EXPECT_EQ(Folders("sessions"), 0u);
  ASSERT_TRUE(client.remote->RemoveKeys(client.keys).ok());
  EXPECT_EQ(Folders("keys"), 0u);
}

// The step had finished, its answer was lost with the server: the same token again.
TEST_F(RestartTest, AStepWhoseAnswerWasLostIsRunAnew) {
  Client client = PatientClient();
  for (const int steps : {0, 2}) {
    auto session = client.NewSession();
    model::DecoderReference reference(*served_.decoder);
    ExpectStepsAgree(*session, reference, steps, random_);
    const auto x = Embedding(random_);
    const std::string& id = session->server_session().id;
    const ckks::Encoder encoder(client.remote->params());
    const int level = client.remote->info().input_level;
    std::vector<double> slots = x;
    for (double& value : slots) value /= client.remote->info().input_unit;
    const auto plain = encoder.Encode(slots, level, client.remote->params()->scale(level)).value();
    ASSERT_TRUE(client.remote
                    ->Step(id, wire::KeyIdOf(client.key), static_cast<u32>(steps),
                           ckks::Encryptor(client.key).Encrypt(plain), {})
                    .ok());
    Restart();
    // This session has not heard of it.
    const auto step = session->Step(x, {});
    ASSERT_TRUE(step.ok()) << step.error().message;
    const auto expected = reference.Step(x).value();
    for (size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(step->residual[i], expected[i], 0.05);
    ExpectStepsAgree(*session, reference, 1, random_);
  }
}

TEST_F(RestartTest, AnUploadGoesOn) {
  auto remote = serve::RemoteModel::Connect(url(), Patient()).value();
  ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
  const wire::Bytes stream = KeyStream(*remote, key);
  auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)).value();
  const size_t piece = stream.size() / 3;
  for (size_t at = 0; at < stream.size(); at += piece) {
    ASSERT_TRUE(
        upload.Write(wire::ByteView(stream).subspan(at, std::min(piece, stream.size() - at))).ok());
    Restart();
  }
  Client client{std::move(remote), std::move(key), upload.Finish().value()};
  auto session = client.NewSession();
  model::DecoderReference reference(*served_.decoder);
  ExpectStepsAgree(*session, reference, 2, random_);
}

// A request for a session whose answer was lost, too.
// What could not be written is no chunk yet: the same one again is.
TEST_F(RestartTest, AChunkCountsWhenItIsOnTheDisk) {
  auto remote = serve::RemoteModel::Connect(url(), Patient()).value();
  ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
  const wire::Bytes stream = KeyStream(*remote, key);
  const auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)).value();
  const auto ask = [&](const char* method, const char* path, wire::ByteView body) {
    serve::ClientRequest request = remote->NewRequest(method, path);
    request.handle = upload.handle();
    request.body = body;
    request.content_type = serve::kBinaryType;
    request.checksum = body.empty() ? "" : ToHex(serve::ChunkChecksum(body));
    return remote->Call(request);
  };
  const auto chunk = wire::ByteView(stream).first(remote->info().chunk_bytes);
  const fs::path path = folder_ + "/keys/" + upload.handle() + "/stream";
  fs::create_directory(path);
  EXPECT_EQ(ask("PUT", "/v1/keys/chunks/0", chunk).error().code, ErrorCode::kIo);
  EXPECT_EQ(ask("GET", "/v1/keys", {}).value()["next_chunk"], 0);
  fs::remove(path);
  EXPECT_TRUE(ask("PUT", "/v1/keys/chunks/0", chunk).ok());
  EXPECT_EQ(ask("GET", "/v1/keys", {}).value()["next_chunk"], 1);
  EXPECT_EQ(fs::file_size(path), chunk.size());
}

TEST_F(RestartTest, RepeatedRequestsAreAnsweredAsTheFirst) {
  Client client = PatientClient();
  const std::string body = nlohmann::json{{"keys", client.keys}, {"request_id", "once"}}.dump();
  const auto ask = [&] {
    const auto request = client.remote->NewRequest("POST", "/v1/sessions", body);
    return (*client.remote->CallRepeated(request))["id"].get<std::string>();
  };
  const std::string first = ask();
  Restart();
  ASSERT_TRUE(client.remote->Latency(first).ok());  // once it is there
  EXPECT_EQ(ask(), first);
}

TEST_F(RestartTest, DamageAndOtherModelsTakeNothingElseAlong) {
  Client one = PatientClient(), two = PatientClient();
  auto first = one.NewSession(), second = two.NewSession();
  model::DecoderReference reference(*served_.decoder), other(*served_.decoder);
  ExpectStepsAgree(*first, reference, 2, random_);
  ExpectStepsAgree(*second, other, 2, random_);
  const std::string state = folder_ + "/sessions/" + first->server_session().id + "/2.state";
  ASSERT_TRUE(fs::exists(state));
  fs::resize_file(state, fs::file_size(state) / 2);
  Restart();
  EXPECT_EQ(first->Step(Embedding(random_), {}).error().code, ErrorCode::kNotFound);
  ExpectStepsAgree(*second, other, 1, random_);
  auto anew = one.NewSession();  // the keys are there
  model::DecoderReference again(*served_.decoder);
  ExpectStepsAgree(*anew, again, 2, random_);
}

TEST_F(RestartTest, WhatExpiresLeavesTheDisk) {
  serve::ServiceLimits limits = Limits();
  limits.session_idle_seconds = limits.key_idle_seconds = 0.2;
  Restart(limits);
  Client client = PatientClient();
  (void)client.remote->CreateSession(client.keys).ok();
  const Timer timer;
  while (Folders("keys") + Folders("sessions") > 0 && timer.Seconds() < 20)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(Folders("keys") + Folders("sessions"), 0u);
}

}  // namespace
}  // namespace polyveil::testing
