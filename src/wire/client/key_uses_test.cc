#include "wire/client/key_uses.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace polyveil::wire {
namespace {

class KeyUsesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/polyveil-uses-XXXXXX";
    directory_ = mkdtemp(name);
    key_ = directory_ + "/key";
    std::ofstream(key_) << "key";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  void WriteUses(const std::string& text) { std::ofstream(KeyUsesPath(key_)) << text; }

  std::string directory_, key_;
  const Digest first_{1}, second_{2};
};

TEST_F(KeyUsesTest, CountsByKeyInAPrivateFile) {
  for (u64 i = 1; i <= 3; ++i) EXPECT_EQ(CountSession(key_, first_).value().sessions, i);
  EXPECT_EQ(CountSession(key_, second_).value().sessions, 1u);
  struct stat info;
  ASSERT_EQ(stat(KeyUsesPath(key_).c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(KeyUsesTest, AgeIsThatOfTheKeyFileAndSurvivesACopy) {
  timeval times[2] = {};
  gettimeofday(&times[0], nullptr);
  times[0].tv_sec -= 10 * 86400;
  times[1] = times[0];
  ASSERT_EQ(utimes(key_.c_str(), times), 0);
  EXPECT_NEAR(CountSession(key_, first_).value().days, 10, 0.01);
  std::ofstream(key_) << "key";  // a newer time
  EXPECT_NEAR(CountSession(key_, first_).value().days, 10, 0.01);
}

TEST_F(KeyUsesTest, SessionsAtTheSameTimeAreAllCounted) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) EXPECT_TRUE(CountSession(key_, first_).ok());
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(CountSession(key_, first_).value().sessions, 41u);
}

TEST_F(KeyUsesTest, RefusesWhatItDidNotWrite) {
  for (const std::string& text :
       {std::string("x"), std::string("{}"), std::string(2000, ' '), std::string(500, '['),
        std::string(R"({"format":"polyveil-key-uses/1","key_id":"","sessions":-1,"written":0})"),
        std::string(R"({"format":"polyveil-key-uses/2","key_id":"","sessions":1,"written":0})")}) {
    WriteUses(text);
    EXPECT_FALSE(CountSession(key_, first_).ok()) << text.substr(0, 80);
  }
  EXPECT_EQ(CountSession(directory_ + "/none", first_).error().code, ErrorCode::kNotFound);
}

TEST_F(KeyUsesTest, DoesNotFollowALink) {
  std::filesystem::create_symlink(directory_ + "/elsewhere", KeyUsesPath(key_));
  EXPECT_FALSE(CountSession(key_, first_).ok());
  EXPECT_FALSE(std::filesystem::exists(directory_ + "/elsewhere"));
}

}  // namespace
}  // namespace polyveil::wire
