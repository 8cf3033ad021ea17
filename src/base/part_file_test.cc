#include "base/part_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "base/file_descriptor.h"
#include "base/output_file.h"

namespace polyveil {
namespace {

namespace fs = std::filesystem;

class PartFileTest : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  size_t Count() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(folder_), fs::directory_iterator()));
  }
  // As a writer that was killed leaves it: no one holds it.
  std::string Leave(const std::string& path) const {
    std::string name;
    close(OpenPart(path, 0600, name));
    return name;
  }

  const std::string folder_ = ::testing::TempDir() + "/parts-" + std::to_string(getpid());
};

TEST_F(PartFileTest, TheNextWriteRemovesWhatAKilledOneLeft) {
  for (int i = 0; i < 3; ++i) Leave(Path("key"));
  ASSERT_EQ(Count(), 3u);
  ASSERT_TRUE(WriteFile(Path("key"), "new").ok());
  EXPECT_EQ(Count(), 1u);
  Leave(Path("key"));
  ASSERT_TRUE(CheckWritable(Path("key")).ok());
  EXPECT_EQ(Count(), 1u);
}

TEST_F(PartFileTest, WhatIsHeldOrOfAnotherFileStays) {
  std::string held;
  const Descriptor fd{OpenPart(Path("key"), 0600, held)};
  const std::string other = Leave(Path("key.eval"));
  for (const char* name :
       {"key.part-", "key.part-0123", "key.part-0123456789ag", "xkey.part-0123456789ab"})
    std::ofstream(Path(name)) << "a user's";
  fs::create_symlink("key.part-", Path("key.part-0123456789ab"));
  const size_t before = Count();
  RemoveLeftParts(Path("key"));
  EXPECT_EQ(Count(), before);
  EXPECT_TRUE(fs::exists(held) && fs::exists(other));
}

// Each takes the others' parts for left ones only where they are.
TEST_F(PartFileTest, ManyWritersOfOneFileDoNotDisturbEachOther) {
  std::vector<std::thread> writers;
  std::atomic<int> failed{0};
  for (int t = 0; t < 4; ++t)
    writers.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i)
        failed += !WriteFile(Path("file"), std::string(100, 'a' + t)).ok();
    });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(Count(), 1u);
  EXPECT_EQ(fs::file_size(Path("file")), 100u);
}

}  // namespace
}  // namespace polyveil
