// tokenizer_config.json beside a tokenizer.json: transformers' ids, and what is refused.
#include "model/client/text/tokenizer_config.h"

#include <gtest/gtest.h>

#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::json;

Json TokenizerJson(const std::string& name) {
  for (const Json& each : ReadVectors("tokenizers.json"))
    if (each["name"] == (name == "gpt2 spaced" ? "gpt2" : name)) {
      Json tokenizer = each["tokenizer"];
      if (name == "gpt2 spaced") tokenizer["pre_tokenizer"]["add_prefix_space"] = true;
      return tokenizer;
    }
  return {};
}

Result<TextTokenizer> LoadTokenizer(const std::string& tokenizer, const Json& config,
                                    std::string_view family = {}) {
  return TextTokenizer::ParseJson(TokenizerJson(tokenizer).dump(), config.dump(), family);
}

void ExpectRefused(const std::string& tokenizer, const Json& config,
                   std::initializer_list<const char*> parts) {
  const auto loaded = LoadTokenizer(tokenizer, config);
  ASSERT_FALSE(loaded.ok()) << config.dump();
  for (const char* part : parts)
    EXPECT_NE(loaded.error().message.find(part), std::string::npos)
        << loaded.error().message << " lacks " << part;
}

TEST(TokenizerConfig, IdsEqualTransformers) {
  for (const Json& each : ReadVectors("tokenizer_configs.json")) {
    SCOPED_TRACE(each["name"].get<std::string>());
    const auto loaded = LoadTokenizer(each["tokenizer"], each["config"]);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    for (std::size_t i = 0; i < each["texts"].size(); ++i)
      EXPECT_EQ(loaded->Encode(each["texts"][i].get<std::string>(), true),
                each["ids"][i].get<std::vector<TokenId>>())
          << each["texts"][i];
  }
}

// Transformers 5 takes the flags of every class at their word.
TEST(TokenizerConfig, FlagsCountInEveryClass) {
  const Json config = {{"add_bos_token", true},
                       {"add_eos_token", true},
                       {"bos_token", "<s>"},
                       {"eos_token", {{"content", "</s>"}}}};
  const auto loaded = LoadTokenizer("gpt2", config).value();
  EXPECT_EQ(loaded.parts().prefix, (std::vector<TokenId>{0}));
  EXPECT_EQ(loaded.parts().suffix, (std::vector<TokenId>{1}));
  EXPECT_EQ(LoadTokenizer("llama3", {{"add_bos_token", false}}).value().parts().prefix.size(), 0u);
  EXPECT_EQ(LoadTokenizer("llama3", Json::object()).value().parts().prefix.size(), 1u);
  ExpectRefused("gpt2", {{"add_bos_token", true}}, {"add_bos_token", "no token"});
}

TEST(TokenizerConfig, TheFamilyNamesTheClassWhereTheFileDoesNot) {
  const Json cased = {{"do_lower_case", false}};
  EXPECT_NE(LoadTokenizer("bert", cased, "bert").value().Encode("Once"),
            LoadTokenizer("bert", {{"do_lower_case", true}}, "bert").value().Encode("Once"));
  ExpectRefused("bert", cased, {"do_lower_case"});  // no class: nothing says who is right
}

TEST(TokenizerConfig, ContradictionsAndUnknownFieldsAreRefused) {
  ExpectRefused("gpt2", {{"mystery", 3}}, {"mystery", "3"});
  ExpectRefused("gpt2", {{"auto_map", {{"AutoTokenizer", {"x.Y", nullptr}}}}}, {"auto_map"});
  ExpectRefused("gpt2", {{"split_special_tokens", true}}, {"split_special_tokens"});
  ExpectRefused("gpt2", {{"fix_mistral_regex", true}}, {"fix_mistral_regex"});
  ExpectRefused("gpt2", {{"add_prefix_space", true}}, {"add_prefix_space"});
  ExpectRefused("llama", {{"tokenizer_class", "LlamaTokenizer"}, {"add_prefix_space", false}},
                {"add_prefix_space"});
  ExpectRefused("gpt2", {{"added_tokens_decoder", {{"7", {{"content", "<s>"}}}}}},
                {"<s>", "7", "0"});
  ExpectRefused("gpt2", {{"added_tokens_decoder", {{"x", {{"content", "<s>"}}}}}}, {"x"});
  ExpectRefused("gpt2", {{"bos_token", 3}}, {"bos_token"});
  EXPECT_FALSE(TextTokenizer::ParseJson(TokenizerJson("gpt2").dump(), "[").ok());
}

TEST(TokenizerConfig, LengthsSidesAndChatsAreIrrelevant) {
  EXPECT_TRUE(LoadTokenizer("gpt2", {{"model_max_length", 1024},
                                     {"padding_side", "left"},
                                     {"chat_template", "x"},
                                     {"clean_up_tokenization_spaces", true},
                                     {"legacy", false}})
                  .ok());
}

}  // namespace
}  // namespace polyveil::model
