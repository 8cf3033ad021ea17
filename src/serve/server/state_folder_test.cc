#include "serve/server/state_folder.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace polyveil::serve {
namespace {

namespace fs = std::filesystem;

class StateFolderTest : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = ::testing::TempDir() + "state" + std::to_string(getpid());
    fs::remove_all(path_);
    folder_ = StateFolder::Open(path_).value();
  }
  void TearDown() override { fs::remove_all(path_); }
  static StoredKeys Keys(const std::string& handle = "a1") {
    return {handle, std::string(64, 'b'), "request", "ann", 25, 10};
  }
  u64 Chunks(std::string* all = nullptr) {
    return folder_
        ->ReadChunks(Keys(),
                     [&](wire::ByteView bytes) -> Status {
                       if (all) all->append(bytes.begin(), bytes.end());
                       return {};
                     })
        .value();
  }
  void Write(u64 index, const std::string& text) {
    const Status wrote = folder_->WriteChunk(
        Keys(), index, {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
    ASSERT_TRUE(wrote.ok()) << wrote.error().message;
  }

  std::string path_;
  std::unique_ptr<StateFolder> folder_;
};

TEST_F(StateFolderTest, KeysComeBackChunkByChunk) {
  ASSERT_TRUE(folder_->AddKeys(Keys()).ok());
  Write(0, "0123456789");
  EXPECT_EQ(Chunks(), 1u);
  Write(1, "abcde");  // killed in the middle of it
  EXPECT_EQ(Chunks(), 1u);
  Write(1, "abcdefghij");
  Write(2, "ABCDE");
  std::string all;
  EXPECT_EQ(Chunks(&all), 3u);
  EXPECT_EQ(all, "0123456789abcdefghijABCDE");
  const auto keys = folder_->ListKeys(60);
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0].handle, "a1");
  EXPECT_EQ(keys[0].account, "ann");
  EXPECT_EQ(keys[0].total_bytes, 25u);
}

TEST_F(StateFolderTest, SessionsKeepTwoStates) {
  ASSERT_TRUE(folder_->AddSession({"s1", "a1", "", {3, 4}}).ok());
  const wire::Bytes bytes = {1, 2, 3};
  const std::string session = folder_->SessionFolder("s1");
  for (int position = 0; position < 12; ++position) {
    ASSERT_TRUE(folder_->WriteState(session, position, bytes).ok());
    folder_->KeepStates(session, position, position - 1);
  }
  EXPECT_EQ(folder_->Positions(session), (std::vector<int>{11, 10}));
  EXPECT_TRUE(folder_->HasState(session, 10));
  EXPECT_FALSE(folder_->HasState(session, 9));
  EXPECT_EQ(folder_->ReadState(session, 11).value(), bytes);
  const auto sessions = folder_->ListSessions(60);
  ASSERT_EQ(sessions.size(), 1u);
  EXPECT_EQ(sessions[0].public_tokens, (std::vector<std::int32_t>{3, 4}));
}

TEST_F(StateFolderTest, SubmissionsComeBack) {
  const StoredSubmission stored = {"j1", "a1", std::string(64, 'c'), "r",   "ann", 5,
                                   7,    0.5,  std::string(64, 'd'), {1, 2}};
  ASSERT_TRUE(folder_->AddSubmission(stored).ok());
  const std::string folder = folder_->SubmissionFolder("j1");
  EXPECT_FALSE(folder_->HasPart(folder, "0.token"));
  const wire::Bytes bytes = {4, 5};
  ASSERT_TRUE(folder_->WritePart(folder, "0.token", bytes).ok());
  EXPECT_EQ(folder_->ReadPart(folder, "0.token").value(), bytes);
  EXPECT_TRUE(folder_->Positions(folder).empty());  // a token is no state
  const auto back = folder_->ListSubmissions(60);
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].handle, "j1");
  EXPECT_EQ(back[0].account, "ann");
  EXPECT_EQ(back[0].prompt_tokens, 5);
  EXPECT_EQ(back[0].new_tokens, 7);
  EXPECT_EQ(back[0].temperature, 0.5);
  EXPECT_EQ(back[0].seed, stored.seed);
  EXPECT_EQ(back[0].public_tokens, stored.public_tokens);
  folder_->RemovePart(folder, "0.token");
  EXPECT_FALSE(folder_->HasPart(folder, "0.token"));
  std::ofstream(folder + "/about.json") << "{\"format\":\"polyveil-stored-job/1\",\"keys\":\"a1\"}";
  EXPECT_TRUE(folder_->ListSubmissions(60).empty());
}

TEST_F(StateFolderTest, WhatIsOldOrCannotBeReadGoes) {
  ASSERT_TRUE(folder_->AddKeys(Keys("old")).ok());
  ASSERT_TRUE(folder_->AddKeys(Keys("broken")).ok());
  ASSERT_TRUE(folder_->AddKeys(Keys("good")).ok());
  std::ofstream(folder_->KeysFolder("broken") + "/about.json") << "{\"format\":";
  fs::create_directory(folder_->KeysFolder("empty"));
  const timespec times[2] = {{1000, 0}, {1000, 0}};
  utimensat(AT_FDCWD, (folder_->KeysFolder("old") + "/about.json").c_str(), times, 0);
  const auto keys = folder_->ListKeys(3600);
  ASSERT_EQ(keys.size(), 1u);
  EXPECT_EQ(keys[0].handle, "good");
  for (const char* gone : {"old", "broken", "empty"})
    EXPECT_FALSE(fs::exists(folder_->KeysFolder(gone))) << gone;
}

TEST_F(StateFolderTest, APartGoesWithItsOwnerOnlyWhenItIsRemoved) {
  ASSERT_TRUE(folder_->AddKeys(Keys()).ok());
  std::atomic<bool> removed{false};
  { const StoredPart part(folder_->KeysFolder("a1"), removed); }
  EXPECT_TRUE(fs::exists(folder_->KeysFolder("a1")));
  removed = true;
  { const StoredPart part(folder_->KeysFolder("a1"), removed); }
  EXPECT_FALSE(fs::exists(folder_->KeysFolder("a1")));
}

TEST_F(StateFolderTest, IsOneServersAndOneUsers) {
  EXPECT_EQ(StateFolder::Open(path_).error().code, ErrorCode::kUnavailable);
  folder_.reset();
  EXPECT_TRUE(StateFolder::Open(path_).ok());
  chmod(path_.c_str(), 0755);
  EXPECT_EQ(StateFolder::Open(path_).error().code, ErrorCode::kSecurity);
  EXPECT_EQ(StateFolder::Open(path_ + "/keys/a/b").error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace polyveil::serve
