#include "serve/client/proxy/openai_request.h"

#include <gtest/gtest.h>

#include <random>

namespace polyveil::serve {
namespace {

const std::string kHi = R"("messages":[{"role":"user","content":"hi"}])";

std::string Chat(const std::string& more) {
  return R"({"model":"m",)" + kHi + (more.empty() ? "" : "," + more) + "}";
}

// The error's field and message; both empty when the request is taken.
std::pair<std::string, std::string> RefusalOf(const std::string& body, bool chat = true) {
  const auto request = ParseTextRequest(body, chat);
  if (request.ok()) return {};
  return {FieldOf(request.error()), request.error().message};
}

TEST(OpenAiRequest, ReadsAChat) {
  const auto request = ParseTextRequest(
      R"({"model":"m","stream":true,"stream_options":{"include_usage":true},"temperature":0.5,
          "top_p":0.9,"seed":-3,"max_completion_tokens":7,"stop":["a","b"],"user":"u","n":1,
          "presence_penalty":0,"tools":null,"messages":[
            {"role":"developer","content":"be brief"},
            {"role":"user","content":[{"type":"text","text":"h"},{"type":"text","text":"i"}]},
            {"role":"assistant","content":"yes","refusal":null,"tool_calls":[]},
            {"role":"user","content":"why"}]})",
      true);
  ASSERT_TRUE(request.ok()) << request.error().message;
  EXPECT_EQ(request->model, "m");
  EXPECT_TRUE(request->chat && request->stream && request->include_usage);
  EXPECT_EQ(request->text.sampling.temperature, 0.5);
  EXPECT_EQ(request->text.sampling.top_p, 0.9);
  EXPECT_EQ(request->text.sampling.seed, static_cast<u64>(-3));
  EXPECT_EQ(request->new_tokens, 7);
  EXPECT_EQ(request->text.stops, (std::vector<std::string>{"a", "b"}));
  const std::vector<ChatMessage> expected = {
      {"system", "be brief"}, {"user", "hi"}, {"assistant", "yes"}, {"user", "why"}};
  EXPECT_EQ(request->messages, expected);
}

TEST(OpenAiRequest, DefaultsAreTheApis) {
  const auto one = ParseTextRequest(Chat(""), true), other = ParseTextRequest(Chat(""), true);
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(one->text.sampling.temperature, 1);
  EXPECT_EQ(one->text.sampling.top_p, 1);
  EXPECT_FALSE(one->new_tokens || one->stream || one->echo);
  EXPECT_NE(one->text.sampling.seed, other->text.sampling.seed);
}

TEST(OpenAiRequest, ReadsACompletionsPrompt) {
  EXPECT_EQ(ParseTextRequest(R"({"model":"m","prompt":"a b"})", false)->prompt, "a b");
  EXPECT_EQ(ParseTextRequest(R"({"model":"m","prompt":["a b"]})", false)->prompt, "a b");
  EXPECT_EQ(ParseTextRequest(R"({"model":"m","prompt":[1,2]})", false)->prompt_ids,
            (std::vector<model::TokenId>{1, 2}));
  EXPECT_EQ(ParseTextRequest(R"({"model":"m","prompt":[[1,2]]})", false)->prompt_ids.size(), 2u);
}

TEST(OpenAiRequest, RefusesByName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {R"("n":2)", "n"},
      {R"("logprobs":true)", "logprobs"},
      {R"("frequency_penalty":0.1)", "frequency_penalty"},
      {R"("logit_bias":{"5":1})", "logit_bias"},
      {R"("tools":[{"type":"function"}])", "tools"},
      {R"("response_format":{"type":"json_object"})", "response_format"},
      {R"("reasoning_effort":"low")", "reasoning_effort"},
      {R"("prompt":"x")", "prompt"},
      {R"("echo":true)", "echo"},
      {R"("temperature":-1)", "temperature"},
      {R"("temperature":"hot")", "temperature"},
      {R"("top_p":2)", "top_p"},
      {R"("seed":1.5)", "seed"},
      {R"("seed":99999999999999999999)", "seed"},
      {R"("max_tokens":0)", "max_tokens"},
      {R"("max_tokens":3,"max_completion_tokens":4)", "max_tokens"},
      {R"("stop":[""])", "stop"},
      {R"("stop":5)", "stop"},
      {R"("stream":1)", "stream"},
      {R"("stream_options":{"include_usage":true})", "stream_options"},
      {R"("stream":true,"stream_options":{"x":1})", "stream_options.x"},
      {R"("stream":true,"stream_options":{"include_obfuscation":true})",
       "stream_options.include_obfuscation"}};
  for (const auto& [field, name] : cases) EXPECT_EQ(RefusalOf(Chat(field)).first, name) << field;
  EXPECT_EQ(RefusalOf(R"({"model":"m"})", false).first, "prompt");
  EXPECT_EQ(RefusalOf(R"({"model":"m","prompt":["a","b"]})", false).first, "prompt");
  EXPECT_EQ(RefusalOf(R"({"model":"m","prompt":[1,-2]})", false).first, "prompt");
  EXPECT_EQ(RefusalOf(R"({"model":"m","prompt":"a","suffix":"b"})", false).first, "suffix");
  EXPECT_EQ(RefusalOf(R"({"prompt":"a"})", false).first, "model");
}

TEST(OpenAiRequest, RefusesMessagesThatNoTemplateHas) {
  const auto refusal = [](const std::string& messages) {
    return RefusalOf(R"({"model":"m","messages":)" + messages + "}").first;
  };
  EXPECT_EQ(refusal("[]"), "messages");
  EXPECT_EQ(refusal("5"), "messages");
  EXPECT_EQ(refusal(R"([{"role":"system","content":"a"}])"), "messages");
  EXPECT_EQ(refusal(R"([{"role":"tool","content":"a"}])"), "messages[0].role");
  EXPECT_EQ(refusal(R"([{"role":"assistant","content":"a"}])"), "messages[0].role");
  EXPECT_EQ(refusal(R"([{"role":"user","content":"a"},{"role":"user","content":"a"}])"),
            "messages[1].role");
  EXPECT_EQ(refusal(R"([{"role":"user","content":"a"},{"role":"assistant","content":"a"}])"),
            "messages");
  EXPECT_EQ(refusal(R"([{"role":"user","content":null}])"), "messages[0].content");
  EXPECT_EQ(refusal(R"([{"role":"user","content":[{"type":"image_url","image_url":{}}]}])"),
            "messages[0].content[0].type");
  EXPECT_EQ(refusal(R"([{"role":"user","content":"a","name":"n"}])"), "messages[0].name");
}

TEST(OpenAiRequest, RefusesWhatIsNoRequest) {
  for (const char* body : {"", "5", "[]", "{", "{\"a\":1,\"a\":2}", "\xff", "null"})
    EXPECT_FALSE(ParseTextRequest(body, true).ok()) << body;
  EXPECT_FALSE(ParseTextRequest(std::string(100000, '['), true).ok());
  EXPECT_FALSE(ParseTextRequest(std::string(kMaxApiBodyBytes + 1, ' '), true).ok());
}

// Bytes exchanged at random: taken or refused, never anything else.
TEST(OpenAiRequest, SurvivesDamage) {
  std::mt19937_64 random(7);
  const std::string whole =
      Chat(R"("stop":["a"],"stream":true,"stream_options":{"include_usage":true},"seed":5)");
  for (int i = 0; i < 20000; ++i) {
    std::string body = whole;
    for (u64 n = 1 + random() % 4; n > 0; --n)
      body[random() % body.size()] = static_cast<char>("[]{},:\"0-9truenl\\u\xff"[random() % 20]);
    const auto request = ParseTextRequest(body, true);
    if (request.ok()) continue;
    EXPECT_LT(request.error().message.size(), 2000u);
  }
}

}  // namespace
}  // namespace polyveil::serve
