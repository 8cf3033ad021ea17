// A model, a server and a client of the public headers in one process, on a small insecure ring.
#include <gtest/gtest.h>

#include <filesystem>

#include "polyveil/client.h"
#include "polyveil/model.h"
#include "polyveil/server.h"
#include "support/random_bundle.h"

namespace polyveil {
namespace {

class Texts : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "polyveil-text-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    polyveil::testing::RandomModelShape shape;
    shape.context = 12;
    ASSERT_EQ(polyveil::testing::WriteRandomBundle(folder_ + "/model", 1, shape), 0);
  }
  static void TearDownTestSuite() { std::filesystem::remove_all(folder_); }

  static ServerOptions Serving() {
    ServerOptions options;
    options.model = folder_ + "/model";
    options.parameters = "test10";
    return options;
  }
  static ClientOptions Asking(const Server& server) {
    ClientOptions options;
    options.server = server.url();
    options.cache_folder = folder_ + "/cache";
    options.allow_insecure = true;
    options.retry_seconds = 1;
    return options;
  }

  static std::string folder_;
};
std::string Texts::folder_;

TEST_F(Texts, EncryptedTextEqualsTheModels) {
  const Model model = Model::Load(folder_ + "/model").value();
  EXPECT_EQ(model.layers(), 2);
  EXPECT_EQ(model.width(), 16);
  EXPECT_EQ(model.context(), 12);
  const std::string expected = model.Generate("on", 6).value();

  const Server server = Server::Start(Serving()).value();
  TextClient client = TextClient::Connect(Asking(server)).value();
  EXPECT_EQ(client.model(), server.model());
  EXPECT_GT(client.key_bytes(), 0u);
  double last = 0;
  ASSERT_TRUE(client.SendKeys([&](double done) { return (last = done, true); }).ok());
  EXPECT_EQ(last, 1);

  GenerateOptions options;
  options.tokens = 6;
  std::string pieces;
  const auto whole = client.Generate("on", options, [&](const TokenEvent& token) {
    pieces += token.text;
    EXPECT_GT(token.seconds, 0);
    return true;
  });
  ASSERT_TRUE(whole.ok()) << whole.error().message;
  EXPECT_EQ(whole->text, expected);
  EXPECT_EQ(whole->tokens, 6);
  EXPECT_EQ(whole->end, "tokens");
  EXPECT_GT(whole->bytes_up, 0u);

  // In two parts, the second one resuming where the first ended.
  Text text = client.NewText().value();
  options.tokens = 2;
  const std::string first = text.Continue("on", options)->text;
  options.tokens = 4;
  EXPECT_EQ(first + text.Continue("", options)->text, expected);
  EXPECT_EQ(text.text(), expected);
}

TEST_F(Texts, PublicBeginningsAndCancellation) {
  const Server server = Server::Start(Serving()).value();
  TextClient client = TextClient::Connect(Asking(server)).value();
  const Model model = Model::Load(folder_ + "/model").value();
  GenerateOptions options;
  options.tokens = 3;
  Text text = client.NewText("on").value();
  const auto behind = text.Continue("ce", options);
  ASSERT_TRUE(behind.ok()) << behind.error().message;
  EXPECT_EQ(behind->tokens, 3);

  int heard = 0;
  const auto stopped =
      client.Generate("on", options, [&](const TokenEvent&) { return ++heard < 2; });
  ASSERT_FALSE(stopped.ok());
  EXPECT_EQ(stopped.error().code, ErrorCode::kCancelled);
  // The client goes on afterwards.
  EXPECT_EQ(client.Generate("on", options)->text, model.Generate("on", 3).value());

  options.tokens = 0;
  EXPECT_EQ(client.Generate("on", options).error().code, ErrorCode::kInvalidArgument);
  options.tokens = 1;
  options.top_p = 0;
  EXPECT_FALSE(client.Generate("on", options).ok());
  options.top_p = 1;
  EXPECT_EQ(client.Generate(std::string(50, 'x'), options).error().code, ErrorCode::kOutOfRange);
}

TEST_F(Texts, PlansAndSimulations) {
  const Model model = Model::Load(folder_ + "/model").value();
  ProgramOptions options;
  options.parameters = "test10";
  const auto plan = model.Plan(options);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_GT(plan->seconds_per_token, 0);
  EXPECT_GT(plan->bootstraps, 0);
  EXPECT_GT(plan->key_bytes_sent, 0u);
  double sum = 0;
  for (const auto& [name, seconds] : plan->components) sum += seconds;
  EXPECT_LE(sum, plan->seconds_per_token * 1.001);
  const auto simulated = model.Simulate("on", 4, options);
  ASSERT_TRUE(simulated.ok()) << simulated.error().message;
  EXPECT_EQ(simulated->equal_tokens, simulated->tokens);
  options.parameters = "none";
  EXPECT_EQ(model.Plan(options).error().code, ErrorCode::kNotFound);
}

TEST_F(Texts, ErrorsNameWhatIsWrong) {
  const auto code = [](const auto& result) { return result.error().code; };
  EXPECT_EQ(code(Model::Load(folder_ + "/none")), ErrorCode::kNotFound);
  ServerOptions options = Serving();
  options.model = folder_;
  EXPECT_FALSE(Server::Start(options).ok());
  options = Serving();
  options.address = "no.such.host.invalid";
  EXPECT_FALSE(Server::Start(options).ok());

  const Server server = Server::Start(Serving()).value();
  ClientOptions client = Asking(server);
  client.allow_insecure = false;
  EXPECT_EQ(code(TextClient::Connect(client)), ErrorCode::kSecurity);
  client = Asking(server);
  client.max_key_gigabytes = 1e-6;
  EXPECT_EQ(code(TextClient::Connect(client)), ErrorCode::kResource);
  client = Asking(server);
  client.server = "http://127.0.0.1:1";
  EXPECT_EQ(code(TextClient::Connect(client)), ErrorCode::kUnavailable);
  client.server = "nonsense://";
  EXPECT_EQ(code(TextClient::Connect(client)), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace polyveil
