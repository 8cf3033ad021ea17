#include "model/client/text/tokenizer_config.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

namespace polyveil::model {
namespace {

using Json = JsonReader::Json;

constexpr std::size_t kMaxAdded = 1 << 16;

bool IsOneOf(std::string_view kind, std::initializer_list<std::string_view> kinds) {
  return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
}

bool IsBertLike(std::string_view kind) {
  return IsOneOf(kind, {"BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer"});
}

// Their first space is the configuration's, whatever the file says.
bool SetsFirstSpace(std::string_view kind) {
  return IsOneOf(kind, {"GPT2Tokenizer", "RobertaTokenizer", "GPTNeoXTokenizer"});
}

// The class that transformers takes for a model whose files name none.
std::string ClassOf(std::string_view family) {
  static const std::map<std::string_view, const char*> kClasses = {
      {"gpt2", "GPT2Tokenizer"},
      {"gpt_neox", "GPTNeoXTokenizer"},
      {"llama", "LlamaTokenizer"},
      {"mistral", "LlamaTokenizer"},
      {"qwen2", "Qwen2Tokenizer"},
      {"opt", "GPT2Tokenizer"},
      {"bert", "BertTokenizer"},
      {"roberta", "RobertaTokenizer"},
      {"distilbert", "DistilBertTokenizer"}};
  const auto it = kClasses.find(family);
  return it == kClasses.end() ? "" : it->second;
}

// "<s>", or the token as an object.
std::string TextOf(const JsonReader& at, const Json& json, const char* key) {
  if (json.is_string()) return json.get<std::string>();
  if (json.is_object() && json.contains("content") && json["content"].is_string())
    return json["content"].get<std::string>();
  at.Fail(key, "is no token");
  return {};
}

std::string TokenText(const JsonReader& at, const char* key) {
  return at.Given(key) ? TextOf(at, *at.Find(key), key) : "";
}

std::optional<bool> Flag(const JsonReader& at, const char* key) {
  return at.Given(key) ? std::optional(at.Bool(key)) : std::nullopt;
}

void ReadSpecials(const JsonReader& at, TokenizerConfig& config) {
  config.bos_token = TokenText(at, "bos_token");
  config.eos_token = TokenText(at, "eos_token");
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token"})
    if (at.Given(key)) config.specials.push_back(TokenText(at, key));
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    if (!at.Given(key)) continue;
    const Json& list = *at.Find(key);
    if (!list.is_structured() || list.size() > kMaxAdded) at.Fail(key, "is no short list");
    if (list.is_structured() && list.size() <= kMaxAdded)
      for (const Json& token : list) config.specials.push_back(TextOf(at, token, key));
  }
}

Status ReadAddedDecoder(const JsonReader& at, TokenizerConfig& config) {
  if (!at.Given("added_tokens_decoder")) return {};
  const JsonReader decoder = at.Object("added_tokens_decoder");
  for (const auto& [key, json] : decoder.json().items()) {
    TokenId id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= 1 << 20)
      return MakeError(ErrorCode::kCorrupt, "tokenizer_config.json: \"{}\" is no id below 2^20",
                       key.substr(0, 64));
    PV_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(json));
    token.id = id;
    config.added.push_back(std::move(token));
  }
  std::sort(config.added.begin(), config.added.end(),
            [](const AddedToken& x, const AddedToken& y) { return x.id < y.id; });
  return {};
}

// Lengths, sides, chats, names of files, how ids become text.
bool IsIrrelevant(std::string_view key) {
  static const std::set<std::string_view> kNames = {"model_max_length",
                                                    "max_length",
                                                    "max_len",
                                                    "stride",
                                                    "padding",
                                                    "padding_side",
                                                    "pad_to_multiple_of",
                                                    "pad_token_type_id",
                                                    "truncation",
                                                    "truncation_side",
                                                    "truncation_strategy",
                                                    "clean_up_tokenization_spaces",
                                                    "spaces_between_special_tokens",
                                                    "trim_offsets",
                                                    "errors",
                                                    "chat_template",
                                                    "use_default_system_prompt",
                                                    "legacy",
                                                    "backend",
                                                    "model_input_names",
                                                    "name_or_path",
                                                    "special_tokens_map_file",
                                                    "tokenizer_file",
                                                    "vocab_file",
                                                    "merges_file",
                                                    "processor_class",
                                                    "is_local",
                                                    "local_files_only",
                                                    "use_fast",
                                                    "init_inputs",
                                                    "sp_model_kwargs",
                                                    "never_split",
                                                    "do_basic_tokenize",
                                                    "tokenizer_type",
                                                    "unsloth_version",
                                                    "response_template",
                                                    "model_specific_special_tokens",
                                                    "verbose",
                                                    "transformers_version",
                                                    "vocab_size",
                                                    "__type"};
  return kNames.contains(key) || key.starts_with("_");
}

Error Disagree(const char* key, bool given, bool file) {
  return MakeError(ErrorCode::kMismatch,
                   "tokenizer_config.{} is {}, tokenizer.json does as if it were {}", key, given,
                   file);
}

Json* PartOfType(Json& tokenizer, const char* part, const char* type) {
  const auto it = tokenizer.find(part);
  if (it == tokenizer.end() || !it->is_object() || it->value("type", Json()) != type)
    return nullptr;
  return &*it;
}

bool BoolOf(const Json& part, const char* key, bool fallback) {
  const auto it = part.find(key);
  return it != part.end() && it->is_boolean() ? it->get<bool>() : fallback;
}

Status ApplyCase(const TokenizerConfig& config, Json& tokenizer) {
  Json* normalizer = PartOfType(tokenizer, "normalizer", "BertNormalizer");
  if (!normalizer) return {};
  if (IsBertLike(config.kind)) {
    (*normalizer)["lowercase"] = config.lowercase.value_or(true);
    (*normalizer)["strip_accents"] = config.strip_accents ? Json(*config.strip_accents) : Json();
    (*normalizer)["handle_chinese_chars"] = config.chinese.value_or(true);
    return {};
  }
  const bool lowercase = BoolOf(*normalizer, "lowercase", true);
  if (config.lowercase.value_or(lowercase) != lowercase)
    return Disagree("do_lower_case", !lowercase, lowercase);
  return {};
}

Status ApplyFirstSpace(const TokenizerConfig& config, Json& tokenizer) {
  Json* bytes = PartOfType(tokenizer, "pre_tokenizer", "ByteLevel");
  if (!bytes) return {};
  if (SetsFirstSpace(config.kind)) {
    (*bytes)["add_prefix_space"] = config.add_prefix_space.value_or(false);
    return {};
  }
  const bool space = BoolOf(*bytes, "add_prefix_space", true);
  if (config.add_prefix_space.value_or(space) != space)
    return Disagree("add_prefix_space", !space, space);
  return {};
}

// The id that a token gets which the file does not have.
TokenId NextId(const TokenizerParts& parts) {
  auto next = static_cast<TokenId>(parts.texts.size());
  for (const AddedToken& token : parts.added) next = std::max(next, token.id + 1);
  return next;
}

// Tokens of the configuration replace those of the file with the same text.
Status AddToken(const AddedToken& token, std::optional<TokenId> known, TokenizerParts& parts) {
  if (const TokenId id = known.value_or(NextId(parts)); id != token.id)
    return MakeError(ErrorCode::kMismatch,
                     "tokenizer_config: \"{}\" has id {}, with tokenizer.json it is {}",
                     token.content.substr(0, 64), token.id, id);
  const auto it = std::find_if(parts.added.begin(), parts.added.end(),
                               [&](const AddedToken& t) { return t.content == token.content; });
  if (it == parts.added.end()) {
    parts.added.push_back(token);
  } else {
    *it = token;
  }
  return {};
}

Status ApplyEnds(const TokenizerConfig& config, bool bos, bool eos,
                 const std::function<std::optional<TokenId>(const std::string&)>& id_of,
                 TokenizerParts& parts) {
  parts.prefix.clear();
  parts.suffix.clear();
  for (const auto& [asked, name, text, ids] :
       {std::tuple{bos, "bos", &config.bos_token, &parts.prefix},
        std::tuple{eos, "eos", &config.eos_token, &parts.suffix}}) {
    if (!asked) continue;
    const auto id = id_of(*text);
    if (!id)
      return MakeError(ErrorCode::kNotFound,
                       "tokenizer_config: add_{}_token asks for \"{}\", which is no token", name,
                       text->substr(0, 64));
    ids->push_back(*id);
  }
  return {};
}

}  // namespace

Result<AddedToken> ReadAddedToken(const Json& json) {
  std::string error;
  const JsonReader at(json, "added_tokens", error);
  AddedToken token;
  token.content = at.Text("content");
  token.single_word = at.BoolOr("single_word", false);
  token.lstrip = at.BoolOr("lstrip", false);
  token.rstrip = at.BoolOr("rstrip", false);
  token.special = at.BoolOr("special", false);
  token.normalized = at.BoolOr("normalized", !token.special);
  at.RefuseOthers([](std::string_view key) { return key == "id" || key == "__type"; });
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  return token;
}

Result<TokenizerConfig> ParseTokenizerConfig(std::string_view text, std::string_view family) {
  PV_ASSIGN_OR_RETURN(const Json json, ParseStrictJson(text, "tokenizer_config.json", {16 << 20}));
  std::string error;
  const JsonReader at(json, "tokenizer_config", error);
  TokenizerConfig config;
  config.kind = at.TextOr("tokenizer_class", ClassOf(family).c_str());
  if (config.kind.ends_with("Fast")) config.kind.resize(config.kind.size() - 4);
  config.add_bos = Flag(at, "add_bos_token");
  config.add_eos = Flag(at, "add_eos_token");
  config.add_prefix_space = Flag(at, "add_prefix_space");
  config.lowercase = Flag(at, "do_lower_case");
  config.strip_accents = Flag(at, "strip_accents");
  config.chinese = Flag(at, "tokenize_chinese_chars");
  if (at.BoolOr("split_special_tokens", false))
    at.Fail("split_special_tokens", "is true, only false is implemented");
  if (at.Given("auto_map")) at.Fail("auto_map", "names code of the folder's own, which is not run");
  (void)at.Given("from_slow");
  ReadSpecials(at, config);
  PV_RETURN_IF_ERROR(ReadAddedDecoder(at, config));
  at.RefuseOthers(IsIrrelevant);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "tokenizer_config.json: {}", error);
  return config;
}

Status ApplyToFile(const TokenizerConfig& config, Json& tokenizer) {
  PV_RETURN_IF_ERROR(ApplyCase(config, tokenizer));
  return ApplyFirstSpace(config, tokenizer);
}

Status ApplyToParts(const TokenizerConfig& config,
                    const std::function<std::optional<TokenId>(const std::string&)>& id_of,
                    TokenizerParts& parts) {
  for (const AddedToken& token : config.added)
    PV_RETURN_IF_ERROR(AddToken(token, id_of(token.content), parts));
  for (const std::string& text : config.specials) {
    const auto added = std::any_of(parts.added.begin(), parts.added.end(),
                                   [&](const AddedToken& token) { return token.content == text; });
    if (added || text.empty()) continue;
    AddedToken token{id_of(text).value_or(NextId(parts)), text};
    token.special = true;
    parts.added.push_back(std::move(token));
  }
  // Two classes set the ends themselves, the others where the configuration speaks of them.
  const bool llama = IsOneOf(config.kind, {"LlamaTokenizer", "CodeLlamaTokenizer"});
  const bool own = (llama && !config.bos_token.empty()) || config.kind == "GPTNeoXTokenizer";
  if (!own && !config.add_bos && !config.add_eos) return {};
  return ApplyEnds(config, config.add_bos.value_or(llama), config.add_eos.value_or(false), id_of,
                   parts);
}

}  // namespace polyveil::model
