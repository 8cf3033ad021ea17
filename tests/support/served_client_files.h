// A server of a small random bundle's folder that sends the client's half too.
#pragma once

#include <filesystem>
#include <memory>

#include "e2e/served_fixture.h"
#include "model/client_files.h"
#include "support/random_bundle.h"

namespace polyveil::testing {

class ClientFilesServedTest : public ServedModelTest {
 protected:
  void SetUp() override {
    ServedModelTest::SetUp();
    std::string pattern = (std::filesystem::temp_directory_path() / "served-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    ASSERT_EQ(WriteRandomBundle(folder_ / "model", 5, {}), 0);
    files_ = std::make_shared<const model::ClientFiles>(
        model::ClientFilesOfBundle((folder_ / "model").string()).value());
    Serve(Limits(), files_);
  }
  void TearDown() override {
    ServedModelTest::TearDown();
    std::filesystem::remove_all(folder_);
  }

  std::filesystem::path folder_;
  std::shared_ptr<const model::ClientFiles> files_;
};

}  // namespace polyveil::testing
