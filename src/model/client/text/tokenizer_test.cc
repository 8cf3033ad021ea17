// Every kind of tokenizer against Hugging Face's (scripts/make_released_vectors.py), and hostile
// files.
#include <gtest/gtest.h>

#include <fstream>
#include <random>

#include "model/client/text/text_tokenizer.h"
#include "model/client/text/unicode.h"
#include "model/formats/gguf_fixture.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::json;

const Json& Vectors() {
  static const Json vectors = ReadVectors("tokenizers.json");
  return vectors;
}

Json Case(const std::string& name) {
  for (const Json& each : Vectors())
    if (each["name"] == name) return each;
  return {};
}

TextTokenizer Make(const Json& tokenizer) {
  return TextTokenizer::ParseJson(tokenizer.dump()).value();
}

TEST(TextTokenizer, HardTextsGiveTheReferenceIds) {
  for (const Json& each : Vectors()) {
    const TextTokenizer tokenizer = Make(each["tokenizer"]);
    for (std::size_t i = 0; i < each["texts"].size(); ++i)
      EXPECT_EQ(tokenizer.Encode(each["texts"][i].get<std::string>()),
                each["ids"][i].get<std::vector<TokenId>>())
          << each["name"] << " " << each["texts"][i];
    EXPECT_EQ(tokenizer.Encode("a b", true), each["special"].get<std::vector<TokenId>>());
  }
}

TEST(TextTokenizer, BytesDecodeToThemselves) {
  std::mt19937_64 random(1);
  const TextTokenizer tokenizer = Make(Case("llama3")["tokenizer"]);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (std::size_t n = random() % 40; n > 0; --n) text += static_cast<char>(random());
    EXPECT_EQ(tokenizer.Decode(tokenizer.Encode(text)).value(), text);
  }
}

TEST(TextTokenizer, SentencePieceDecodesToTheText) {
  const TextTokenizer llama = Make(Case("llama")["tokenizer"]);
  const TextTokenizer metaspace = Make(Case("metaspace")["tokenizer"]);
  for (const std::string text : {"a b  c", "caf\u00e9 \U0001f600\n"}) {
    EXPECT_EQ(llama.Decode(llama.Encode(text)).value(), text);
    EXPECT_EQ(metaspace.Decode(metaspace.Encode(text)).value(), text);
  }
  // One puts a space before every text, the other before those that begin without.
  EXPECT_EQ(llama.Decode(llama.Encode(" lead")).value(), " lead");
  EXPECT_EQ(metaspace.Encode(" lead"), metaspace.Encode("lead"));
}

TEST(TextTokenizer, SpecialTokensDecodeToNothing) {
  const TextTokenizer tokenizer = Make(Case("bert")["tokenizer"]);
  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode("once upon", true)).value(), "once upon");
  EXPECT_FALSE(tokenizer.Decode(std::vector<TokenId>{tokenizer.vocab_size()}).ok());
  EXPECT_FALSE(tokenizer.Decode(std::vector<TokenId>{-1}).ok());
}

std::string MessageOf(const Json& json) {
  const auto result = TextTokenizer::ParseJson(json.dump());
  return result.ok() ? "" : result.error().message;
}

TEST(TextTokenizer, RefusesWhatItDoesNotImplement) {
  const Json good = Case("gpt2")["tokenizer"];
  EXPECT_EQ(MessageOf(good), "");
  const auto with = [&](const char* pointer, const Json& value) {
    Json changed = good;
    changed[Json::json_pointer(pointer)] = value;
    return MessageOf(changed);
  };
  const auto names = [](const std::string& message, std::initializer_list<const char*> parts) {
    for (const char* part : parts)
      EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
  };
  names(with("/normalizer", {{"type", "Precompiled"}}), {"normalizer", "Precompiled"});
  names(with("/pre_tokenizer", {{"type", "UnicodeScripts"}}), {"pre_tokenizer", "UnicodeScripts"});
  names(with("/pre_tokenizer",
             {{"type", "Split"}, {"pattern", {{"Regex", "x+"}}}, {"behavior", "Isolated"}}),
        {"Split", "x+"});
  names(with("/post_processor", {{"type", "Magic"}}), {"post_processor", "Magic"});
  names(with("/model/type", "Unigram"), {"Unigram"});
  names(with("/model/merges/0", "zz"), {"merge 0"});
  names(with("/model/merges/1", Json::array({"q", "\u00e6\u00e6"})), {"merge 1", "no token"});
  names(with("/model/vocab/newone", 1 << 20), {"newone", "1048576"});
  names(with("/model/vocab/newone", 5), {"id 5", "newone"});
  names(with("/model/vocab/newone", -1), {"newone", "-1"});
  names(with("/added_tokens/0/id", 1e9), {"<s>"});
  names(with("/added_tokens/0/lstrip", 3), {"lstrip"});
  names(with("/model/continuing_subword_prefix", "##"), {"continuing_subword_prefix"});
  names(with("/model/unk_token", "absent"), {"unk_token", "absent"});
  names(with("/model/dropout", 0.1), {"dropout", "0.1"});
  for (const char* part :
       {"/mystery", "/model/mystery", "/pre_tokenizer/mystery", "/added_tokens/0/mystery"})
    names(with(part, 3), {"mystery"});
  EXPECT_FALSE(TextTokenizer::ParseJson("[]").ok());
  EXPECT_FALSE(TextTokenizer::ParseJson(R"({"model":{"a":1,"a":2}})").ok());
  EXPECT_FALSE(TextTokenizer::ParseJson(std::string(100000, '[')).ok());
}

TEST(TextTokenizer, SurvivesFlippedBits) {
  std::mt19937_64 random(9);
  for (const char* name : {"llama3", "llama", "bert"}) {
    const std::string good = Case(name)["tokenizer"].dump();
    for (int i = 0; i < 150; ++i) {
      std::string bad = good;
      bad[random() % (i % 2 ? bad.size() : 2000)] ^= static_cast<char>(1 << random() % 7);
      const auto tokenizer = TextTokenizer::ParseJson(bad);
      if (tokenizer.ok()) (void)tokenizer->Encode("Hello <s> \u00e9 12");
    }
  }
}

TEST(TextTokenizer, LongPiecesTakeTimeInProportion) {
  // A quadratic merge loop would take minutes.
  const TextTokenizer tokenizer = Make(Case("gpt2")["tokenizer"]);
  EXPECT_GT(tokenizer.Encode(std::string(1 << 20, 'a')).size(), 0u);
}

TEST(Unicode, InvalidBytesAreCharactersOfTheirOwn) {
  const std::string text = "a\xff\xc3(\xed\xa0\x80";
  std::size_t characters = 0, invalid = 0;
  ForEachCharacter(text, [&](char32_t code, std::string_view) {
    ++characters;
    invalid += code == kInvalid;
  });
  EXPECT_EQ(characters, 7u);
  EXPECT_EQ(invalid, 5u);
  EXPECT_EQ(NormalizeText("e\u0301\xff"
                          "e\u0301",
                          NormalForm::kNfc),
            "\u00e9\xff\u00e9");
  EXPECT_EQ(LowercaseText("\u00c9\u0130\xff"), "\u00e9i\u0307\xff");
}

// The same tokenizer out of a GGUF file's metadata.
struct GgufMetadata {
  GgufModel model;

  template <typename T>
  void Set(const std::string& key, const T& value) {
    model.Set("tokenizer.ggml." + key, value);
  }
  template <typename T>
  void Numbers(const std::string& key, std::uint32_t type, const std::vector<T>& values) {
    model.SetNumbers("tokenizer.ggml." + key, type, values);
  }
  std::string Error() const {
    const auto bytes = model.Bytes();
    const auto tokenizer = TextTokenizer::FromGguf(GgufFile::Parse(bytes).value());
    return tokenizer.ok() ? "" : tokenizer.error().message;
  }
};

std::vector<std::string> TokensById(const Json& tokenizer) {
  std::vector<std::string> tokens;
  const auto put = [&](std::size_t id, const std::string& token) {
    if (id >= tokens.size()) tokens.resize(id + 1);
    tokens[id] = token;
  };
  for (const auto& [token, id] : tokenizer["model"]["vocab"].items()) put(id, token);
  for (const Json& added : tokenizer["added_tokens"]) put(added["id"], added["content"]);
  return tokens;
}

void ExpectSameIds(const TextTokenizer& one, const TextTokenizer& two,
                   std::initializer_list<const char*> texts) {
  for (const char* text : texts) EXPECT_EQ(one.Encode(text, true), two.Encode(text, true)) << text;
}

TEST(GgufTokenizer, ByteLevelEqualsTheJson) {
  const Json json = Case("llama3")["tokenizer"];
  GgufMetadata file;
  file.Set("model", "gpt2");
  file.Set("pre", "llama-bpe");
  const auto tokens = TokensById(json);
  file.Set("tokens", tokens);
  std::vector<std::int32_t> types(tokens.size(), 1);
  types[0] = types[1] = 3;
  for (std::size_t id = 400; id < tokens.size(); ++id) types[id] = 4;
  file.Numbers("token_type", 5, types);
  std::vector<std::string> merges;
  for (const Json& merge : json["model"]["merges"])
    merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  file.Set("merges", merges);
  file.Set("bos_token_id", 0u);
  const auto bytes = file.model.Bytes();
  const auto parsed = GgufFile::Parse(bytes).value();
  ExpectSameIds(TextTokenizer::FromGguf(parsed).value(), Make(json),
                {"It's 12345 tokens</s>, \u00e9\n\n x", "", "Once upon a time"});
}

TEST(GgufTokenizer, SentencePieceMergesByScore) {
  GgufMetadata file;
  file.Set("model", "llama");
  file.Set("tokens", std::vector<std::string>{"<unk>", "<s>", "<0x0A>", "\u2581", "a", "b", "ab",
                                              "\u2581a", "\u2581ab"});
  file.Numbers<float>("scores", 6, {0, 0, 0, -7, -8, -9, -2, -1, -3});
  file.Numbers<std::int32_t>("token_type", 5, {2, 3, 6, 1, 1, 1, 1, 1, 1});
  file.Set("unknown_token_id", 0u);
  file.Set("bos_token_id", 1u);
  const auto bytes = file.model.Bytes();
  const auto parsed = GgufFile::Parse(bytes).value();
  const TextTokenizer tokenizer = TextTokenizer::FromGguf(parsed).value();
  EXPECT_EQ(tokenizer.Encode("ab ab", true), (std::vector<TokenId>{1, 8, 8}));
  EXPECT_EQ(tokenizer.Encode("bab\nzz"), (std::vector<TokenId>{3, 5, 6, 2, 0}));
  EXPECT_EQ(tokenizer.Decode(tokenizer.Encode("ab\n ab")).value(), "ab\n ab");
}

TEST(GgufTokenizer, WordPieceEqualsTheJson) {
  const Json json = Case("bert")["tokenizer"];
  auto tokens = TokensById(json);
  std::vector<std::int32_t> types(tokens.size(), 1);
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (id < 5) {
      types[id] = 3;
    } else if (tokens[id].starts_with("##")) {
      tokens[id].erase(0, 2);
    } else {
      tokens[id].insert(0, "\u2581");
    }
  }
  GgufMetadata file;
  file.Set("model", "bert");
  file.Set("tokens", tokens);
  file.Numbers("token_type", 5, types);
  file.Set("unknown_token_id", 1u);
  file.Set("cls_token_id", 2u);
  file.Set("seperator_token_id", 3u);
  const auto bytes = file.model.Bytes();
  const auto parsed = GgufFile::Parse(bytes).value();
  ExpectSameIds(TextTokenizer::FromGguf(parsed).value(), Make(json),
                {"Once upon a caf\u00e9, [MASK]!", "\u4e2d\u6587 supercalifragilistic", ""});
}

TEST(GgufTokenizer, RefusesWhatDoesNotFit) {
  const auto message = [](auto fill) {
    GgufMetadata file;
    fill(file);
    return file.Error();
  };
  EXPECT_NE(message([](GgufMetadata& f) { f.Set("model", "gpt2"); }).find("tokens"),
            std::string::npos);
  EXPECT_NE(message([](GgufMetadata& f) {
              f.Set("model", "rwkv");
              f.Set("tokens", std::vector<std::string>{"a"});
            }).find("rwkv"),
            std::string::npos);
  EXPECT_NE(message([](GgufMetadata& f) {
              f.Set("model", "llama");
              f.Set("tokens", std::vector<std::string>{"a", "b"});
              f.Numbers<float>("scores", 6, {1});
            }).find("1 values for 2"),
            std::string::npos);
  EXPECT_NE(message([](GgufMetadata& f) {
              f.Set("model", "bert");
              f.Set("tokens", std::vector<std::string>{"a"});
              f.Set("unknown_token_id", 7u);
            }).find("unknown_token_id = 7, 1 tokens"),
            std::string::npos);
  EXPECT_NE(message([](GgufMetadata& f) {
              f.Set("model", "gpt2");
              f.Set("pre", "mystery");
              f.Set("tokens", std::vector<std::string>{"a"});
            }).find("mystery"),
            std::string::npos);
  for (const char* key : {"precompiled_charsmap", "mystery"})
    EXPECT_NE(message([key](GgufMetadata& f) {
                f.Set("model", "llama");
                f.Set(key, "x");
              }).find(key),
              std::string::npos);
  EXPECT_NE(message([](GgufMetadata& f) {
              f.Set("remove_extra_whitespaces", true);
            }).find("remove_extra_whitespaces"),
            std::string::npos);
}

// Files without `pre` do not say how a text is cut, but for GPT-2's and GPT-NeoX's one cut.
TEST(GgufTokenizer, ByteLevelWithoutPreIsRefused) {
  GgufMetadata file;
  file.Set("model", "gpt2");
  file.Set("tokens", std::vector<std::string>{"a", "b", "ab"});
  file.Set("merges", std::vector<std::string>{"a b"});
  file.model.Set("general.architecture", "llama");
  EXPECT_NE(file.Error().find("tokenizer.ggml.pre"), std::string::npos) << file.Error();
  file.model.Set("general.architecture", "gpt2");
  EXPECT_EQ(file.Error(), "");
}

}  // namespace
}  // namespace polyveil::model
