// A server of a small random model on loopback, in this process, and its clients.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "base/thread_pool.h"
#include "ckks/client/secret_key.h"
#include "model/decoder_reference.h"
#include "serve/client/encrypted_session.h"
#include "serve/client/remote_model.h"
#include "serve/server/http_server.h"
#include "serve/server/key_preparation.h"
#include "serve/server/model_service.h"
#include "serve/server/served_model.h"
#include "support/random_model.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::testing {

// Everything that a client owns.
struct Client {
  std::unique_ptr<serve::RemoteModel> remote;
  ckks::SecretKey key;
  std::string keys;  // the server's name

  std::unique_ptr<serve::EncryptedSession> NewSession() {
    return serve::EncryptedSession::Create(*remote, key, keys).value();
  }
};

class ServedModelTest : public ::testing::Test {
 protected:
  static serve::ServiceLimits Limits() {
    serve::ServiceLimits limits;
    limits.chunk_bytes = 100000;
    limits.sessions = 4;
    limits.key_sets = 3;
    return limits;
  }

  void SetUp() override {
    // Tiny work items: on a busy machine they wait longer for a second thread than they take.
    SetThreads(1);
    Serve(Limits());
  }
  // The model is compiled once for all tests: limits are the service's.
  static const serve::ServedModel& Served() {
    static const serve::ServedModel served =
        serve::ServeDecoder(Shared(*Bundle()), "test10", "test", Limits()).value();
    return served;
  }
  static std::shared_ptr<model::BodyBundle> Bundle() {
    static const auto bundle = std::make_shared<model::BodyBundle>(RandomModel({}, 5));
    return bundle;
  }
  void Serve(const serve::ServiceLimits& limits,
             std::shared_ptr<const model::ClientFiles> client = nullptr) {
    ServedModelTest::TearDown();
    server_.reset();
    serve::ServedModel served = served_;
    if (client) {
      EXPECT_TRUE(serve::AddClientHalf(std::move(client), served).ok());
    }
    service_ = std::make_unique<serve::ModelService>(served, limits);
    server_ = serve::HttpServer::Start({}, *service_).value();
  }
  void TearDown() override {
    if (server_) server_->Stop();
  }

  serve::Url url() const { return {"127.0.0.1", std::to_string(server_->port())}; }

  static serve::RemoteOptions Options() {
    serve::RemoteOptions options;
    options.allow_insecure = true;
    options.retry_seconds = 1;
    return options;
  }
  std::unique_ptr<serve::RemoteModel> Connect() const {
    return serve::RemoteModel::Connect(url(), Options()).value();
  }

  Client NewClient() const {
    auto remote = Connect();
    ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
    auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)).value();
    const auto sink = [&](wire::ByteView bytes) { return upload.Write(bytes); };
    EXPECT_TRUE(wire::WriteKeyStream(key, remote->info().keys, sink).ok());
    std::string keys = upload.Finish().value();
    return Client{std::move(remote), std::move(key), std::move(keys)};
  }

  // The evaluation keys of `key` as they travel.
  static wire::Bytes KeyStream(const serve::RemoteModel& remote, const ckks::SecretKey& key) {
    wire::Bytes stream;
    const auto sink = [&](wire::ByteView bytes) -> Status {
      stream.insert(stream.end(), bytes.begin(), bytes.end());
      return {};
    };
    EXPECT_TRUE(wire::WriteKeyStream(key, remote.info().keys, sink).ok());
    return stream;
  }
  // Begins an upload and sends the first bytes of the stream: the upload's name.
  static Result<std::string> BeginUpload(serve::RemoteModel& remote, const ckks::SecretKey& key,
                                         wire::ByteView first_bytes) {
    PV_ASSIGN_OR_RETURN(auto upload, serve::KeyUpload::Begin(remote, wire::KeyIdOf(key)));
    PV_RETURN_IF_ERROR(upload.Write(first_bytes));
    return upload.handle();
  }

  std::vector<double> Embedding(std::mt19937_64& random) const {
    return RandomEmbedding(bundle_->config.d_model, random);
  }

  // Steps a session beside the reference and expects them to agree.
  void ExpectStepsAgree(serve::EncryptedSession& session, model::DecoderReference& reference,
                        int steps, std::mt19937_64& random) const {
    for (int i = 0; i < steps; ++i) {
      const auto x = Embedding(random);
      const int position = session.position();
      const auto step = session.Step(x, {});
      ASSERT_TRUE(step.ok()) << step.error().message;
      const auto expected = reference.Step(x).value();
      // runtime's own test derives a tolerance; here a wrong byte anywhere would give noise of
      // size 1.
      for (size_t j = 0; j < expected.size(); ++j) {
        EXPECT_NEAR(step->residual[j], expected[j], 0.05) << "token " << position << " slot " << j;
      }
    }
  }

  const std::shared_ptr<model::BodyBundle> bundle_ = Bundle();
  serve::ServedModel served_ = Served();
  std::unique_ptr<serve::ModelService> service_;
  std::unique_ptr<serve::HttpServer> server_;
};

}  // namespace polyveil::testing
