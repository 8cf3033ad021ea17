#include "wire/client/secret_key_file.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "wire/client/wire_fixture.h"
#include "wire/file.h"

namespace polyveil::wire {
namespace {

const PassphraseCost kCheap{1, 8192 * 8};

class SecretKeyFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "pv-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string Path(const char* name) const { return directory_ + "/" + name; }
  size_t Files() const {
    return std::distance(std::filesystem::directory_iterator(directory_), {});
  }
  std::string directory_;
};

TEST_F(SecretKeyFile, RoundTripWithMode600) {
  const Fixture f = Fixture::Make();
  ASSERT_TRUE(WriteSecretKey(Path("k"), f.key, std::nullopt).ok());
  struct stat info;
  ASSERT_EQ(stat(Path("k").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  EXPECT_EQ(Files(), 1u);
  const auto key = ReadSecretKey(Path("k"), std::nullopt);
  ASSERT_TRUE(key.ok()) << key.error().message;
  EXPECT_EQ(key->seed(), f.key.seed());
}

TEST_F(SecretKeyFile, RefusesAFileThatOthersMayRead) {
  const Fixture f = Fixture::Make();
  ASSERT_TRUE(WriteSecretKey(Path("k"), f.key, std::nullopt).ok());
  ASSERT_EQ(chmod(Path("k").c_str(), 0644), 0);
  EXPECT_EQ(ReadSecretKey(Path("k"), std::nullopt).error().code, ErrorCode::kSecurity);
}

TEST_F(SecretKeyFile, PassphraseSealsTheSeed) {
  const Fixture f = Fixture::Make();
  const auto bytes = FormatSecretKey(f.key, "correct horse", kCheap).value();
  const auto& seed = f.key.seed();
  EXPECT_EQ(std::search(bytes.begin(), bytes.end(), seed.begin(), seed.end()), bytes.end());
  EXPECT_EQ(ParseSecretKey(bytes, "correct horse").value().seed(), seed);
  EXPECT_EQ(ParseSecretKey(bytes, "wrong").error().code, ErrorCode::kMismatch);
  EXPECT_EQ(ParseSecretKey(bytes, std::nullopt).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(ParseSecretKeyInfo(bytes).value().encrypted);
  EXPECT_FALSE(FormatSecretKey(f.key, "", kCheap).ok());
}

TEST_F(SecretKeyFile, RefusesTruncationAndBitFlips) {
  const Fixture f = Fixture::Make();
  const auto bytes = FormatSecretKey(f.key, std::nullopt).value();
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(ParseSecretKey(ByteView(bytes).first(size), std::nullopt).ok()) << size;
  }
  for (size_t bit = 0; bit < bytes.size() * 8; bit += 5) {
    Bytes altered(bytes.begin(), bytes.end());
    altered[bit / 8] ^= 1u << (bit % 8);
    EXPECT_FALSE(ParseSecretKey(altered, std::nullopt).ok()) << bit;
  }
}

TEST_F(SecretKeyFile, RefusesHostileKdfCost) {
  const Fixture f = Fixture::Make();
  const auto sealed = FormatSecretKey(f.key, "p", kCheap).value();
  Bytes bytes(sealed.begin(), sealed.end());
  const size_t memory = bytes.size() - 48 - 24 - 8;
  bytes[memory + 5] = 0xff;
  Reseal(bytes);
  const auto key = ParseSecretKey(bytes, "p");
  ASSERT_FALSE(key.ok());
  EXPECT_EQ(key.error().code, ErrorCode::kOutOfRange);
}

TEST_F(SecretKeyFile, AuthenticatesEverythingBeforeTheSeal) {
  const Fixture f = Fixture::Make();
  const auto sealed = FormatSecretKey(f.key, "p", kCheap).value();
  Bytes bytes(sealed.begin(), sealed.end());
  bytes[80] ^= 1;  // key id
  Reseal(bytes);
  EXPECT_EQ(ParseSecretKey(bytes, "p").error().code, ErrorCode::kMismatch);
}

TEST_F(SecretKeyFile, FullDiskLeavesNothingAndNamesThePathAndBytes) {
  signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const rlimit small{4096, old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  Status status;
  {
    auto file = PrivateFile::Create(Path("keys")).value();
    status = file.Write(Bytes(10000, 1));
  }
  setrlimit(RLIMIT_FSIZE, &old_limit);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kIo);
  EXPECT_NE(status.error().message.find("wrote 4096 of 10000 bytes"), std::string::npos)
      << status.error().message;
  EXPECT_EQ(Files(), 0u);
}

TEST_F(SecretKeyFile, UnfinishedFileIsNotThere) {
  {
    auto file = PrivateFile::Create(Path("keys")).value();
    ASSERT_TRUE(file.Write(Bytes(10, 1)).ok());
  }
  EXPECT_EQ(Files(), 0u);
}

std::string TextOf(const std::string& path) {
  const auto bytes = ReadFile(path, 100).value();
  return {bytes.begin(), bytes.end()};
}

PrivateFile Written(const std::string& path, char c) {
  auto file = PrivateFile::Create(path).value();
  EXPECT_TRUE(file.Write(Bytes(3, static_cast<std::uint8_t>(c))).ok());
  return file;
}

TEST_F(SecretKeyFile, TheOldFileIsWholeUntilTheNewOneReplacesIt) {
  ASSERT_TRUE(Written(Path("key"), 'a').Commit().ok());
  {
    PrivateFile file = Written(Path("key"), 'b');
    EXPECT_EQ(TextOf(Path("key")), "aaa");
    ASSERT_TRUE(file.Prepare().ok());
    EXPECT_EQ(TextOf(Path("key")), "aaa");
  }  // given up
  EXPECT_EQ(TextOf(Path("key")), "aaa");
  EXPECT_EQ(Files(), 1u);
  const auto kept = Written(Path("key"), 'c').Commit(Existing::kKeep);
  EXPECT_EQ(kept.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(TextOf(Path("key")), "aaa");
  ASSERT_TRUE(Written(Path("key"), 'd').Commit().ok());
  ASSERT_TRUE(Written(Path("new"), 'e').Commit(Existing::kKeep).ok());
  EXPECT_EQ(TextOf(Path("key")) + TextOf(Path("new")), "dddeee");
  EXPECT_EQ(Files(), 2u);
}

// Killed while it writes, a program leaves no part behind (where the file system can).
TEST_F(SecretKeyFile, APartHasNoName) {
  PrivateFile file = Written(Path("key"), 'a');
  if (Files() != 0) GTEST_SKIP() << "this file system has no files without a name";
}

TEST_F(SecretKeyFile, PermissionsAreThoseOfTheFileThatIsRead) {
  ASSERT_TRUE(Written(Path("key"), 'a').Commit().ok());
  std::filesystem::create_symlink(Path("key"), Path("link"));
  EXPECT_TRUE(ReadPrivateFile(Path("link"), 10).ok());
  ASSERT_EQ(chmod(Path("key").c_str(), 0640), 0);
  for (const char* name : {"key", "link"})
    EXPECT_EQ(ReadPrivateFile(Path(name), 10).error().code, ErrorCode::kSecurity);
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(ReadPrivateFile(Path("pipe"), 10).error().code, ErrorCode::kIo);
  if (geteuid() != 0) return;
  ASSERT_EQ(chmod(Path("key").c_str(), 0600), 0);
  ASSERT_EQ(chown(Path("key").c_str(), 1, 1), 0);
  EXPECT_EQ(ReadPrivateFile(Path("key"), 10).error().code, ErrorCode::kSecurity);
}

TEST_F(SecretKeyFile, ReadRefusesBigMissingAndIrregularFiles) {
  EXPECT_EQ(ReadFile(Path("none"), 10).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(ReadFile(directory_, 10).error().code, ErrorCode::kIo);
  auto file = PrivateFile::Create(Path("big")).value();
  ASSERT_TRUE(file.Write(Bytes(11, 1)).ok());
  ASSERT_TRUE(file.Commit().ok());
  EXPECT_EQ(ReadFile(Path("big"), 10).error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace polyveil::wire
