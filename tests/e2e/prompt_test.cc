// Prompts at once through real HTTP on a small insecure ring.
#include <nlohmann/json.hpp>

#include "base/worst.h"
#include "ckks/client/encryptor.h"
#include "e2e/served_fixture.h"
#include "support/random_block.h"

namespace polyveil::testing {
namespace {

using Embeddings = std::vector<std::vector<double>>;

class PromptTest : public ServedModelTest {
 protected:
  PromptTest() {
    static const serve::ServedModel served =
        serve::ServeDecoder(Shared(*Bundle()), "test10", "test", Limits(), {.prompts = true})
            .value();
    served_ = served;
  }

  Embeddings RandomTokens(int count, std::uint64_t seed) const {
    std::mt19937_64 random(seed);
    Embeddings text;
    for (int i = 0; i < count; ++i) text.push_back(Embedding(random));
    return text;
  }

  void ExpectNear(const std::vector<double>& actual, const std::vector<double>& expected) const {
    for (size_t j = 0; j < expected.size(); ++j) EXPECT_NEAR(actual[j], expected[j], 0.05) << j;
  }

  // The answer to a body at a path of the session.
  Status Post(Client& client, const std::string& session, const std::string& tokens,
              std::string_view body) const {
    auto request = client.remote->NewRequest("POST", "/v1/sessions/prompt/" + tokens, body);
    request.handle = session;
    request.content_type = serve::kBinaryType;
    const auto reply = client.remote->Call(request);
    return reply.ok() ? Status() : Status(reply.error());
  }
};

TEST_F(PromptTest, EqualsTheReferenceAndDecodingGoesOn) {
  Client client = NewClient();
  for (const int tokens : {2, 5, 8}) {
    auto session = client.NewSession();
    model::DecoderReference reference(*served_.decoder);
    const Embeddings text = RandomTokens(tokens, 5);
    const auto prompt = session->Read(text, {});
    ASSERT_TRUE(prompt.ok()) << prompt.error().message;
    ASSERT_EQ(prompt->residuals.size(), text.size());
    for (size_t i = 0; i < text.size(); ++i)
      ExpectNear(prompt->residuals[i], reference.Step(text[i]).value());
    EXPECT_EQ(session->position(), tokens);
    std::mt19937_64 random(9);
    ExpectStepsAgree(*session, reference, 8 - tokens, random);
  }
}

// A model whose prompts stand in blocks, as released ones' do: rotary positions, grouped queries,
// several ciphertexts of hidden values and of the cache, constant tokens.
class BlockPromptTest : public PromptTest {
 protected:
  BlockPromptTest() {
    static const serve::ServedModel served = [] {
      model::BlockShape shape = LlamaShape();
      shape.d_model = 50;
      shape.n_heads = 2;
      shape.d_head = 32;
      shape.d_ff = 100;
      shape.rotary.assign(16, 0.3);
      auto decoder = std::make_shared<model::Decoder>(
          model::Decoder{"wide", "", {RandomBlock(shape, 3, 2)}, 23, 4});
      return serve::ServeDecoder(decoder, "test10", "test", Limits(), {.prompts = true}).value();
    }();
    served_ = served;
  }
};

// Of one ciphertext and of two.
TEST_F(BlockPromptTest, EqualsTheReferenceAndDecodingGoesOn) {
  Client client = NewClient();
  const serve::ModelInfo& info = client.remote->info();
  ASSERT_TRUE(info.prompt_blocks);
  ASSERT_EQ(info.prompts.size(), 2u);
  EXPECT_EQ(serve::LayoutOf(info, info.prompts[1], client.remote->params()->slots()).ciphertexts(),
            2);
  for (const int tokens : {3, 11, 19}) {
    auto session = client.NewSession();
    model::DecoderReference reference(*served_.decoder);
    Embeddings text = RandomText(50, tokens + 1, 5);
    const auto prompt = session->Read(std::span(text).first(static_cast<size_t>(tokens)), {});
    ASSERT_TRUE(prompt.ok()) << prompt.error().message;
    for (size_t i = 0; i + 1 < text.size(); ++i)
      ExpectNear(prompt->residuals[i], reference.Step(text[i]).value());
    const auto next = session->Step(text.back(), {});
    ASSERT_TRUE(next.ok()) << next.error().message;
    ExpectNear(next->residual, reference.Step(text.back()).value());
  }
}

TEST_F(BlockPromptTest, BodiesOfTwoCiphertextsAreRefusedWhereTheyAreNot) {
  Client client = NewClient();
  auto session = client.NewSession();
  const serve::ModelInfo& info = client.remote->info();
  const ckks::Parameters& params = *client.remote->params();
  const int level = info.prompts[1].input_level;
  const size_t bytes = wire::TokenBytes(params, level);
  const std::vector<double> zeros(8);
  const auto plain =
      ckks::Encoder(client.remote->params()).Encode(zeros, level, params.scale(level)).value();
  const auto message = [&](std::vector<u32> positions) {
    std::string body;
    for (const u32 position : positions) {
      const auto one =
          wire::FormatToken(params, client.remote->BindingOf(wire::KeyIdOf(client.key)), position,
                            ckks::Encryptor(client.key).Encrypt(plain));
      body.append(one.begin(), one.end());
    }
    const Status status = Post(client, session->server_session().id, "20", body);
    return status.ok() ? std::string() : status.error().message;
  };
  const u32 first = serve::kPromptPosition + 20, second = first + serve::kPromptCiphertext;
  EXPECT_NE(message({first}).find(fmt::format("{} bytes in place of {}", bytes, 2 * bytes)),
            std::string::npos);
  EXPECT_NE(message({second, first}).find("position"), std::string::npos);
  EXPECT_NE(message({first, first}).find("position"), std::string::npos);
  EXPECT_EQ(session->position(), 0);
}

// What a server sees of two prompts of one bucket and length: bodies and answers of the same sizes,
// and the same public numbers in front of what is encrypted.
TEST_F(BlockPromptTest, PromptsOfOneBucketLookAlike) {
  Client client = NewClient();
  // A message's header without the checksum, and its position, level and scale: what stands in
  // front of the polynomials.
  const auto in_clear = [](wire::ByteView message) {
    std::string bytes(message.begin(), message.begin() + 120);
    return bytes.append(message.begin() + wire::kHeaderBytes, message.begin() + 168);
  };
  const auto seen = [&](std::uint64_t seed, int tokens) {
    std::vector<std::pair<size_t, std::string>> messages;
    client.remote->set_recorder([&](u32, wire::ByteView up, wire::ByteView down) {
      const size_t half = up.size() / 2;
      for (const auto& message : {up.first(half), up.subspan(half), down})
        messages.emplace_back(message.size(), in_clear(message));
    });
    auto session = client.NewSession();
    EXPECT_TRUE(session->Read(RandomText(50, tokens, seed), {}).ok());
    client.remote->set_recorder({});
    return messages;
  };
  const auto one = seen(5, 19), other = seen(6, 19), shorter = seen(5, 17);
  EXPECT_EQ(one.size(), 6u);  // both messages up, recorded with each of the results
  EXPECT_EQ(one, other);
  // Of another length the public number of tokens differs, and no size.
  ASSERT_EQ(one.size(), shorter.size());
  for (size_t i = 0; i < one.size(); ++i) EXPECT_EQ(one[i].first, shorter[i].first);
}

TEST_F(PromptTest, LaterTokensLeaveEarlierOnesAlone) {
  Client client = NewClient();
  Embeddings text = RandomTokens(6, 5);
  const auto before = client.NewSession()->Read(text, {}).value();
  text[4] = RandomTokens(1, 77)[0];
  const auto after = client.NewSession()->Read(text, {}).value();
  for (size_t i = 0; i < 4; ++i) ExpectNear(after.residuals[i], before.residuals[i]);
  EXPECT_GT(LargestDifference(after.residuals[4], before.residuals[4]), 0.1);
  // Nor do requests of one length differ in shape.
  EXPECT_EQ(after.cost.bytes_up, before.cost.bytes_up);
}

TEST_F(PromptTest, APromptSentAgainIsReadAnew) {
  Client client = NewClient();
  const Embeddings text = RandomTokens(3, 5);
  auto session = client.NewSession();
  ASSERT_TRUE(session->Read(text, {}).ok());
  // As a client does whose answer was lost: another session object of the same text.
  const serve::ModelInfo& info = client.remote->info();
  const ckks::Parameters& params = *client.remote->params();
  const ckks::Encoder encoder(client.remote->params());
  const auto packed = compile::PackTokens(
      text, serve::LayoutOf(info, info.prompts.front(), params.slots()), info.input_unit);
  const int level = info.prompts.front().input_level;
  const auto plain =
      encoder.Encode(std::span<const ckks::Complex>(packed.front()), level, params.scale(level))
          .value();
  const auto again = client.remote->ReadPrompt(
      session->server_session().id, wire::KeyIdOf(client.key), info.prompts.front(),
      std::vector<int>{3}, std::vector{ckks::Encryptor(client.key).Encrypt(plain)}, {});
  ASSERT_TRUE(again.ok()) << again.error().message;
  // Garbage in its place takes nothing back.
  EXPECT_FALSE(Post(client, session->server_session().id, "3", "garbage").ok());
  model::DecoderReference reference(*served_.decoder);
  for (const auto& token : text) ASSERT_TRUE(reference.Step(token).ok());
  std::mt19937_64 random(9);
  ExpectStepsAgree(*session, reference, 3, random);
}

TEST_F(PromptTest, RefusesWhatIsNoPrompt) {
  Client client = NewClient();
  auto session = client.NewSession();
  for (const auto& [tail, words] : std::vector<std::pair<std::string, std::string>>{
           {"0", "a prompt of 0 tokens at once, this server takes 8"},
           {"9", "a prompt of 9 tokens at once, this server takes 8"},
           {"99999999999999999999", "is no number"},
           {"x", "is no number"},
           {"3", "token"}}) {
    const Status status = Post(client, session->server_session().id, tail, "garbage");
    ASSERT_FALSE(status.ok()) << tail;
    EXPECT_NE(status.error().message.find(words), std::string::npos) << status.error().message;
  }
  EXPECT_FALSE(session->Read(RandomTokens(9, 5), {}).ok());
  EXPECT_FALSE(session->Read({}, {}).ok());
  EXPECT_FALSE(session->Read(Embeddings(2, std::vector<double>(16, 1e9)), {}).ok());
  // The session is as it was.
  model::DecoderReference reference(*served_.decoder);
  std::mt19937_64 random(9);
  ExpectStepsAgree(*session, reference, 1, random);
  EXPECT_FALSE(session->Read(RandomTokens(2, 5), {}).ok());
  ExpectStepsAgree(*session, reference, 1, random);
}

TEST(Prompts, AreReadAtOnceWhereThePlanSaysThatItIsFaster) {
  serve::ModelInfo info;
  info.estimate.seconds_per_token = 5;
  EXPECT_EQ(serve::PromptProgram(info, 100), nullptr);
  info.prompts = {{32, 14, 0, 16}, {64, 14, 0, 18}};
  const auto tokens = [&](int count) {
    const serve::PromptInfo* const program = serve::PromptProgram(info, count);
    return program == nullptr ? 0 : program->tokens;
  };
  EXPECT_EQ(tokens(3), 0);
  EXPECT_EQ(tokens(4), 32);
  EXPECT_EQ(tokens(32), 32);
  EXPECT_EQ(tokens(33), 64);
  EXPECT_EQ(tokens(100), 64);
}

TEST_F(ServedModelTest, AServerWithoutPromptsTakesNone) {
  Client client = NewClient();
  auto session = client.NewSession();
  EXPECT_EQ(serve::PromptProgram(client.remote->info(), 8), nullptr);
  const auto read = session->Read(std::vector<std::vector<double>>(2, std::vector<double>(16)), {});
  ASSERT_FALSE(read.ok());
  EXPECT_NE(read.error().message.find("the server takes 0"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::testing
