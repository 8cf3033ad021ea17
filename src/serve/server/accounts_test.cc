#include "serve/server/accounts.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace polyveil::serve {
namespace {

class AccountsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::path(::testing::TempDir()) / ("accounts" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
    path_ = folder_ / "accounts.json";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& text) const {
    std::ofstream(path_) << text;
    chmod(path_.c_str(), 0600);
  }
  std::string Text() const {
    std::stringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }
  std::string ErrorOf(const std::string& text) const {
    Write(text);
    const auto accounts = Accounts::Load(path_);
    return accounts.ok() ? "" : accounts.error().message;
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(AccountsTest, ATokenIsFoundAndNotStored) {
  const auto token = AddAccount(path_, "ann"), other = AddAccount(path_, "bob");
  ASSERT_TRUE(token.ok() && other.ok());
  EXPECT_EQ(Text().find(*token), std::string::npos);
  struct stat file {};
  ASSERT_EQ(stat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600u);
  const auto accounts = Accounts::Load(path_);
  ASSERT_TRUE(accounts.ok()) << accounts.error().message;
  EXPECT_EQ((*accounts)->Find(*token)->name, "ann");
  EXPECT_EQ((*accounts)->Find(*other)->name, "bob");
  EXPECT_EQ((*accounts)->Find(""), nullptr);
  EXPECT_EQ((*accounts)->Find(token->substr(1)), nullptr);
}

TEST_F(AccountsTest, AChangedFileIsReadAgainAndABadOneIsNot) {
  const std::string token = AddAccount(path_, "ann").value();
  const auto accounts = Accounts::Load(path_).value();
  const std::string renewed = AddAccount(path_, "ann").value();
  ASSERT_TRUE(accounts->Refresh().ok());
  EXPECT_EQ(accounts->Find(token), nullptr);
  EXPECT_EQ(accounts->Find(renewed)->name, "ann");
  Write("{");
  EXPECT_FALSE(accounts->Refresh().ok());
  EXPECT_NE(accounts->Find(renewed), nullptr);
}

TEST_F(AccountsTest, ReadsQuotas) {
  const std::string hash(64, 'a');
  ASSERT_EQ(ErrorOf(R"({"format":"polyveil-accounts/1","accounts":[{"name":"a","token":")" + hash +
                    R"(","quota":{"key_sets":1,"key_bytes":5,"sessions":2,"steps":3,)"
                    R"("compute_seconds":0.5}}]})"),
            "");
}

TEST_F(AccountsTest, NamesWhatIsWrong) {
  const std::string head = R"({"format":"polyveil-accounts/1","accounts":)";
  const std::string hash = R"("token":")" + std::string(64, 'a') + '"';
  EXPECT_NE(ErrorOf(R"({"format":"x","accounts":[]})").find("'x'"), std::string::npos);
  EXPECT_NE(ErrorOf(head + "5}").find("'accounts'"), std::string::npos);
  EXPECT_NE(ErrorOf(head + "[5]}").find("account 0"), std::string::npos);
  EXPECT_NE(ErrorOf(head + R"([{"name":"../a",)" + hash + "}]}").find("name"), std::string::npos);
  EXPECT_NE(ErrorOf(head + R"([{"name":"a","token":"12"}]})").find("2 characters"),
            std::string::npos);
  EXPECT_NE(ErrorOf(head + R"([{"name":"a","admin":1,)" + hash + "}]}").find("'admin'"),
            std::string::npos);
  EXPECT_NE(
      ErrorOf(head + R"([{"name":"a",)" + hash + R"(},{"name":"b",)" + hash + "}]}").find("twice"),
      std::string::npos);
  EXPECT_NE(ErrorOf(head + R"([{"name":"a",)" + hash + R"(,"quota":{"steps":-1}}]})").find("steps"),
            std::string::npos);
  Write(head + "[]}");
  chmod(path_.c_str(), 0644);
  EXPECT_EQ(Accounts::Load(path_).error().code, ErrorCode::kSecurity);
}

}  // namespace
}  // namespace polyveil::serve
