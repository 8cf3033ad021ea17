// A service on a folder, ended and begun again as after a kill.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <string>

#include "e2e/served_fixture.h"

namespace polyveil::testing {

namespace fs = std::filesystem;

class RestartTest : public ServedModelTest {
 protected:
  void SetUp() override {
    ServedModelTest::SetUp();
    folder_ = ::testing::TempDir() + "restart" + std::to_string(getpid());
    fs::remove_all(folder_);
    Restart();
  }
  void TearDown() override {
    ServedModelTest::TearDown();
    server_.reset();
    service_.reset();
    fs::remove_all(folder_);
  }
  // As after a kill: nobody says goodbye. The port stays.
  void Restart(const serve::ServiceLimits& limits = Limits()) {
    serve::HttpOptions options;
    options.port = port_;
    ServedModelTest::TearDown();
    server_.reset();
    service_.reset();
    service_ = std::make_unique<serve::ModelService>(served_, limits, nullptr,
                                                     serve::StateFolder::Open(folder_).value());
    server_ = serve::HttpServer::Start(options, *service_).value();
    port_ = server_->port();
  }
  static serve::RemoteOptions Patient() {
    serve::RemoteOptions options = Options();
    options.retry_seconds = 20;
    return options;
  }
  Client PatientClient() const {
    auto remote = serve::RemoteModel::Connect(url(), Patient()).value();
    ckks::SecretKey key = ckks::SecretKey::Generate(remote->params());
    auto upload = serve::KeyUpload::Begin(*remote, wire::KeyIdOf(key)).value();
    EXPECT_TRUE(upload.Write(KeyStream(*remote, key)).ok());
    std::string keys = upload.Finish().value();
    return Client{std::move(remote), std::move(key), std::move(keys)};
  }
  size_t Folders(const char* kind) const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_ + "/" + kind), fs::directory_iterator()));
  }

  std::string folder_;
  int port_ = 0;
  std::mt19937_64 random_{3};
};

}  // namespace polyveil::testing
