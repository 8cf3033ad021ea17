// Texts whose client has left: their tokens are float64's, through restarts and for the key's
// owner alone.
#include "serve/client/submitted_text.h"

#include <nlohmann/json.hpp>
#include <thread>

#include "base/worst.h"
#include "e2e/restart_fixture.h"
#include "model/choice.h"
#include "support/random_choice.h"

namespace polyveil::testing {
namespace {

constexpr int kVocabulary = 64;

class SubmittedTextTest : public RestartTest {
 protected:
  void SetUp() override {
    served_ = Choosing();
    RestartTest::SetUp();
  }
  static const serve::ServedModel& Choosing() {
    static const serve::ServedModel served = [] {
      const auto decoder = RandomDecoder({}, 11);
      const auto choice =
          std::make_shared<const compile::Choice>(RandomChoice(*decoder, kVocabulary, 11));
      return serve::ServeDecoder(decoder, "test10", "test", Limits(), {.choice = choice}).value();
    }();
    return served;
  }
  const model::ChoiceTables& tables() const { return *served_.model->choice()->choice().tables; }
  // A prompt of random tokens.
  std::vector<int> Prompt(int tokens) {
    std::vector<int> prompt;
    for (int i = 0; i < tokens; ++i) prompt.push_back(static_cast<int>(random_() % kVocabulary));
    return prompt;
  }
  Result<serve::SubmittedText> Submit(Client& client, const std::vector<int>& prompt, int more,
                                      double temperature = 0) const {
    PV_ASSIGN_OR_RETURN(
        auto text,
        serve::SubmittedText::Create(
            *client.remote,
            {client.keys, static_cast<int>(prompt.size()), more, temperature, Seed{7}, {}}));
    PV_RETURN_IF_ERROR(text.SendPrompt(client.key, 0, prompt));
    return text;
  }
  static serve::SubmittedState WaitForChosen(serve::SubmittedText& text, int tokens) {
    const Timer timer;
    while (true) {
      auto state = text.State();
      EXPECT_TRUE(state.ok()) << state.error().message;
      if (!state.ok() || state->over() || state->chosen >= tokens) return *state;
      if (timer.Seconds() > 60) {
        ADD_FAILURE() << "no end: " << state->chosen << " tokens";
        return *state;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  // Tokens of the float64 model, as far as each is clear.
  std::vector<int> Expected(const std::vector<int>& prompt, int more) const {
    model::DecoderReference reference(*served_.decoder);
    std::vector<int> all = prompt;
    for (size_t i = 0; i + 1 < prompt.size() + static_cast<size_t>(more); ++i) {
      const auto residual =
          reference.Step(EmbeddingOf(tables(), all[i], static_cast<int>(i))).value();
      if (i + 1 < prompt.size()) continue;
      std::vector<double> logits = model::CentredLogits(tables(), residual);
      all.push_back(static_cast<int>(std::ranges::max_element(logits) - logits.begin()));
      std::ranges::nth_element(logits, logits.begin() + 1, std::greater<>());
      if (logits[0] - logits[1] < 0.2) {
        all.pop_back();
        break;
      }
    }
    return {all.begin() + static_cast<std::ptrdiff_t>(prompt.size()), all.end()};
  }
  void ExpectTokens(const serve::SubmittedText::Chosen& chosen, const std::vector<int>& expected) {
    ASSERT_GE(chosen.tokens.size(), std::min(expected.size(), chosen.tokens.size()));
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_LT(i, chosen.tokens.size()) << "undecided";
      EXPECT_EQ(chosen.tokens[i].token, expected[i]) << i;
    }
  }
};

TEST_F(SubmittedTextTest, TokensAreTheFloat64Models) {
  Client client = PatientClient();
  size_t compared = 0;
  for (int round = 0; round < 3; ++round) {
    const auto prompt = Prompt(1 + round);
    auto text = Submit(client, prompt, 5);
    ASSERT_TRUE(text.ok()) << text.error().message;
    const auto state = WaitForChosen(*text, 5);
    EXPECT_EQ(state.chosen, 5);
    const auto chosen = text->Collect(client.key, static_cast<int>(prompt.size()) - 1, 5);
    ASSERT_TRUE(chosen.ok()) << chosen.error().message;
    const auto expected = Expected(prompt, 5);
    compared += expected.size();
    ExpectTokens(*chosen, expected);
    EXPECT_TRUE(text->Remove().ok());
    EXPECT_EQ(text->State().error().code, ErrorCode::kNotFound);
  }
  EXPECT_GE(compared, 3u);
}

// The client is another one each time, with the name of the text and its key alone; the server is
// ended at any moment.
TEST_F(SubmittedTextTest, RestartsLoseNothing) {
  Client client = PatientClient();
  const auto prompt = Prompt(3);
  auto text = Submit(client, prompt, 5);
  ASSERT_TRUE(text.ok()) << text.error().message;
  for (int tokens = 0; tokens <= 5; ++tokens) {
    Restart();
    auto later = serve::RemoteModel::Connect(url(), Patient()).value();
    serve::SubmittedText same(*later, text->id());
    const auto state = WaitForChosen(same, tokens);
    ASSERT_EQ(state.error ? state.error->message : "", "");
    ASSERT_GE(state.chosen, tokens);
    const auto chosen = same.Collect(client.key, 2, state.chosen);
    ASSERT_TRUE(chosen.ok()) << chosen.error().message;
    auto expected = Expected(prompt, 5);
    expected.resize(std::min(expected.size(), static_cast<size_t>(state.chosen)));
    ExpectTokens(*chosen, expected);
  }
  EXPECT_EQ(Folders("jobs"), 1u);
  // What is over needs no keys.
  const auto end = text->State().value();
  const Timer timer;
  while (text->State()->state != "done" && timer.Seconds() < 20)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_TRUE(client.remote->RemoveKeys(client.keys).ok());
  Restart();
  EXPECT_EQ(text->State()->state, "done");
  EXPECT_TRUE(text->Collect(client.key, 2, 5).ok());
  EXPECT_TRUE(text->Remove().ok());
  EXPECT_EQ(Folders("jobs"), 0u);
}

TEST_F(SubmittedTextTest, AnUploadGoesOnBehindARestart) {
  Client client = PatientClient();
  const auto prompt = Prompt(3);
  auto text = serve::SubmittedText::Create(*client.remote, {client.keys, 3, 2, 0, Seed{7}, {}});
  ASSERT_TRUE(text.ok()) << text.error().message;
  Restart();
  EXPECT_EQ(text->State()->state, "receiving");
  ASSERT_TRUE(text->SendPrompt(client.key, 0, prompt).ok());
  Restart();
  // Again, as behind a lost answer.
  ASSERT_TRUE(text->SendPrompt(client.key, 0, prompt).ok());
  EXPECT_EQ(WaitForChosen(*text, 2).chosen, 2);
  const auto chosen = text->Collect(client.key, 2, 2);
  ASSERT_TRUE(chosen.ok()) << chosen.error().message;
  ExpectTokens(*chosen, Expected(prompt, 2));
}

// The same seed draws the same tokens.
TEST_F(SubmittedTextTest, DrawsAreTheSeeds) {
  Client client = PatientClient();
  const auto prompt = Prompt(2);
  std::vector<std::vector<int>> tokens;
  for (int round = 0; round < 2; ++round) {
    auto text = Submit(client, prompt, 3, 1);
    ASSERT_TRUE(text.ok()) << text.error().message;
    EXPECT_EQ(WaitForChosen(*text, 3).chosen, 3);
    const auto chosen = text->Collect(client.key, 1, 3);
    ASSERT_TRUE(chosen.ok()) << chosen.error().message;
    tokens.emplace_back();
    for (const auto& each : chosen->tokens) tokens.back().push_back(each.token);
  }
  EXPECT_EQ(tokens[0], tokens[1]);
}

TEST_F(SubmittedTextTest, WhatCannotBeIsRefused) {
  Client client = PatientClient(), other = PatientClient();
  const auto refused = [&](int prompt, int more, double temperature) {
    return serve::SubmittedText::Create(*client.remote,
                                        {client.keys, prompt, more, temperature, {}, {}})
        .error();
  };
  EXPECT_EQ(refused(4, 6, 0).code, ErrorCode::kOutOfRange);  // the context is 8
  EXPECT_EQ(refused(4, 1 << 30, 0).code, ErrorCode::kOutOfRange);
  EXPECT_EQ(refused(0, 1, 0).code, ErrorCode::kOutOfRange);
  EXPECT_EQ(refused(1, 1, 50).code, ErrorCode::kOutOfRange);
  auto text = serve::SubmittedText::Create(*client.remote, {client.keys, 2, 1, 0, {}, {}}).value();
  const std::vector<int> prompt = {1, 2};
  const auto send = [&](const ckks::SecretKey& key, std::vector<int> tokens, int index) {
    return text.SendMessage(key, 0, tokens, index).error().code;
  };
  EXPECT_EQ(send(client.key, prompt, 1), ErrorCode::kOutOfRange);  // one message is all
  EXPECT_EQ(send(other.key, prompt, 0), ErrorCode::kMismatch);
  for (const int token : {-1, kVocabulary}) {
    EXPECT_EQ(send(client.key, {1, token}, 0), ErrorCode::kOutOfRange);
    EXPECT_EQ(text.SendPrompt(client.key, 0, std::vector<int>{1, token}).error().code,
              ErrorCode::kOutOfRange);
  }
  EXPECT_EQ(text.State()->state, "receiving");
  EXPECT_EQ(text.Collect(client.key, 1, 1).error().code, ErrorCode::kNotFound);  // no page yet
  ASSERT_TRUE(text.SendPrompt(client.key, 0, prompt).ok());
  EXPECT_EQ(WaitForChosen(text, 1).chosen, 1);
  EXPECT_EQ(text.Collect(other.key, 1, 1).error().code, ErrorCode::kMismatch);
  EXPECT_TRUE(text.Collect(client.key, 1, 1).ok());
  serve::SubmittedText nobody(*client.remote, std::string(32, 'a'));
  EXPECT_EQ(nobody.State().error().code, ErrorCode::kNotFound);
}

// Keys that are taken away while a text runs end it, with the reason.
TEST_F(SubmittedTextTest, WithoutItsKeysATextFails) {
  Client client = PatientClient();
  auto text = Submit(client, Prompt(3), 5);
  ASSERT_TRUE(text.ok()) << text.error().message;
  ASSERT_TRUE(client.remote->RemoveKeys(client.keys).ok());
  const Timer timer;
  while (!text->State()->over() && timer.Seconds() < 30)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const auto state = text->State().value();
  EXPECT_EQ(state.state, "failed");
  ASSERT_TRUE(state.error.has_value());
  EXPECT_EQ(state.error->code, ErrorCode::kNotFound);
  Restart();
  EXPECT_EQ(text->State()->state, "failed");
}

// A prompt that comes when its text has failed already finds the reason, and a server that lives.
TEST_F(SubmittedTextTest, AFailedTextTakesNoPrompt) {
  Client client = PatientClient();
  auto text = serve::SubmittedText::Create(*client.remote, {client.keys, 3, 2, 0, {}, {}});
  ASSERT_TRUE(text.ok()) << text.error().message;
  ASSERT_TRUE(client.remote->RemoveKeys(client.keys).ok());
  Restart();
  EXPECT_EQ(text->State()->state, "failed");
  const auto sent = text->SendPrompt(client.key, 0, Prompt(3));
  EXPECT_EQ(sent.error().code, ErrorCode::kNotFound);
  EXPECT_NE(sent.error().message.find("keys"), std::string::npos) << sent.error().message;
  EXPECT_EQ(text->State()->state, "failed");
}

// A server that ends begins no step more; the next one goes on.
TEST_F(SubmittedTextTest, AnEndingServerBeginsNoStep) {
  Client client = PatientClient();
  auto text = Submit(client, Prompt(1), 5);
  ASSERT_TRUE(text.ok()) << text.error().message;
  const Timer timer;
  service_->Drain(60);
  EXPECT_LT(timer.Seconds(), 30);
  const auto before = text->State().value();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const auto after = text->State().value();
  EXPECT_LT(after.chosen, 5);
  EXPECT_LE(after.chosen, before.chosen + 1);  // the one that was being written
  EXPECT_EQ(after.waiting, "the server ends");
  Restart();
  EXPECT_EQ(WaitForChosen(*text, 5).chosen, 5);
}

// Keys in use are of no age: those that a text needs, and those that a step has touched.
TEST_F(SubmittedTextTest, KeysInUseOutliveARestart) {
  Client client = PatientClient();
  const auto make_old = [&] {
    for (const auto& file : fs::recursive_directory_iterator(folder_ + "/keys"))
      fs::last_write_time(file, fs::file_time_type::clock::now() - std::chrono::hours(100));
  };
  auto text = serve::SubmittedText::Create(*client.remote, {client.keys, 2, 1, 0, {}, {}});
  ASSERT_TRUE(text.ok()) << text.error().message;
  make_old();
  Restart();
  EXPECT_EQ(text->State()->state, "receiving");
  make_old();
  ASSERT_TRUE(text->SendPrompt(client.key, 0, Prompt(2)).ok());
  EXPECT_EQ(WaitForChosen(*text, 1).chosen, 1);
  Restart();
  EXPECT_EQ(text->State()->state, "done");
  EXPECT_EQ(Folders("keys"), 1u);
  make_old();
  Restart();
  EXPECT_EQ(Folders("keys"), 0u);
}

// Where there is no place more, what was collected gives its own, and nothing else does.
TEST_F(SubmittedTextTest, WhatWasCollectedGivesWay) {
  serve::ServiceLimits limits = Limits();
  limits.sessions = 2;
  Restart(limits);
  Client client = PatientClient();
  auto first = Submit(client, Prompt(1), 1), second = Submit(client, Prompt(1), 1);
  ASSERT_TRUE(first.ok() && second.ok());
  for (auto* text : {&*first, &*second})
    while (!text->State()->over()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  const auto ask = [&] {
    return serve::SubmittedText::Create(*client.remote, {client.keys, 2, 1, 0, {}, {}});
  };
  EXPECT_EQ(ask().error().code, ErrorCode::kResource);
  ASSERT_TRUE(first->Collect(client.key, 0, 1).ok());
  EXPECT_TRUE(ask().ok());
  EXPECT_EQ(first->State().error().code, ErrorCode::kNotFound);
  EXPECT_EQ(second->State()->state, "done");
  EXPECT_EQ(ask().error().code, ErrorCode::kResource);
  EXPECT_EQ(Folders("jobs"), 2u);
}

// What nobody collects goes after its time; an upload that makes no progress sooner.
TEST_F(SubmittedTextTest, WhatExpiresLeavesTheDisk) {
  serve::ServiceLimits limits = Limits();
  limits.collect_seconds = limits.upload_idle_seconds = 0.5;
  Client client = PatientClient();
  auto over = Submit(client, Prompt(1), 1);
  ASSERT_TRUE(over.ok()) << over.error().message;
  while (!over->State()->over()) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  Restart(limits);
  (void)serve::SubmittedText::Create(*client.remote, {client.keys, 2, 1, 0, {}, {}}).ok();
  const Timer timer;
  while (Folders("jobs") > 0 && timer.Seconds() < 20)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(Folders("jobs"), 0u);
}

TEST_F(RestartTest, AServerWithoutAChoiceSaysSo) {
  Client client = PatientClient();
  EXPECT_EQ(
      serve::SubmittedText::Create(*client.remote, {client.keys, 1, 1, 0, {}, {}}).error().code,
      ErrorCode::kInvalidArgument);
  const auto request = client.remote->NewRequest("POST", "/v1/jobs", "{}");
  EXPECT_EQ(client.remote->Call(request).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace polyveil::testing
