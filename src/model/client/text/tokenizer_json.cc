// tokenizer.json of Hugging Face's tokenizers.
#include <algorithm>
#include <functional>
#include <map>

#include "model/client/text/text_tokenizer.h"
#include "model/client/text/tokenizer_config.h"

namespace polyveil::model {
namespace {

using Json = JsonReader::Json;

constexpr JsonLimits kTokenizerLimits{64 << 20, 32};

Error Corrupt(const std::string& what) {
  return MakeError(ErrorCode::kCorrupt, "tokenizer.json: {}", what);
}

// An id of the file as an index; the table grows with the largest one, so it is bounded.
Result<TokenId> ReadId(const Json& json, const std::string& token) {
  if (!json.is_number_unsigned() || json.get<std::uint64_t>() >= kMaxTokens)
    return MakeError(ErrorCode::kOutOfRange, "tokenizer.json: id of \"{}\" is {}, not below {}",
                     token.substr(0, 64), json.dump().substr(0, 32), kMaxTokens);
  return static_cast<TokenId>(json.get<std::uint64_t>());
}

Result<TokenTexts> ReadVocabulary(const Json& vocab) {
  if (!vocab.is_object() || vocab.size() > kMaxTokens)
    return Corrupt(fmt::format("model.vocab is no object of at most {}", kMaxTokens));
  TokenTexts texts;
  for (const auto& [token, json] : vocab.items()) {
    PV_ASSIGN_OR_RETURN(const TokenId id, ReadId(json, token));
    const auto index = static_cast<std::size_t>(id);
    if (index >= texts.size()) texts.resize(index + 1);
    if (!texts[index].empty())
      return Corrupt(fmt::format("id {} stands for \"{}\" and \"{}\"", id,
                                 texts[index].substr(0, 64), token.substr(0, 64)));
    texts[index] = token;
  }
  return texts;
}

Status ReadAdded(const Json& json, TokenizerParts& parts) {
  if (json.is_null()) return {};
  if (!json.is_array() || json.size() > kMaxTokens) return Corrupt("added_tokens is no array");
  for (const Json& each : json) {
    PV_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(each));
    if (!each.contains("id")) return Corrupt("added_tokens.id is missing");
    PV_ASSIGN_OR_RETURN(token.id, ReadId(each["id"], token.content));
    parts.added.push_back(std::move(token));
  }
  return {};
}

// "a b", or ["a", "b"] in newer files.
Result<std::pair<std::string, std::string>> ReadMerge(const Json& json, std::size_t index) {
  if (json.is_array() && json.size() == 2 && json[0].is_string() && json[1].is_string())
    return std::pair(json[0].get<std::string>(), json[1].get<std::string>());
  if (json.is_string()) {
    const auto text = json.get<std::string>();
    const auto space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos)
      return std::pair(text.substr(0, space), text.substr(space + 1));
  }
  return Corrupt(fmt::format("merge {} is no pair of tokens", index));
}

Result<std::vector<BpeMerge>> ReadMerges(const Json& json, const Json& vocab) {
  if (!json.is_array() || json.size() > kMaxTokens) return Corrupt("model.merges is no array");
  std::vector<BpeMerge> merges;
  for (std::size_t i = 0; i < json.size(); ++i) {
    PV_ASSIGN_OR_RETURN(const auto pair, ReadMerge(json[i], i));
    TokenId ids[3];
    const std::string tokens[] = {pair.first, pair.second, pair.first + pair.second};
    for (int k = 0; k < 3; ++k) {
      const auto it = vocab.find(tokens[k]);
      if (it == vocab.end())
        return Corrupt(
            fmt::format("merge {} names \"{}\", which is no token", i, tokens[k].substr(0, 64)));
      ids[k] = it->get<TokenId>();
    }
    merges.push_back({ids[0], ids[1], ids[2], static_cast<std::int32_t>(i)});
  }
  return merges;
}

Result<std::optional<TokenId>> ReadUnknown(const JsonReader& model, const Json& vocab) {
  if (!model.Given("unk_token")) return std::optional<TokenId>();
  const std::string unknown = model.Text("unk_token");
  const auto it = vocab.find(unknown);
  if (it == vocab.end())
    return Corrupt(fmt::format("unk_token \"{}\" is no token", unknown.substr(0, 64)));
  return std::optional(it->get<TokenId>());
}

Status ReadBpe(const JsonReader& at, const Json& vocab, bool byte_level, TokenizerParts& parts) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!at.TextOr(key, "").empty())
      return MakeError(ErrorCode::kMismatch, "tokenizer.json: {} \"{}\" is not implemented", key,
                       at.Text(key).substr(0, 64));
  if (at.NumberOr("dropout", 0) != 0)
    return MakeError(ErrorCode::kMismatch, "tokenizer.json: model.dropout = {} draws ids at random",
                     at.Number("dropout"));
  const Json* list = at.Find("merges");
  if (!list) return Corrupt("model.merges is missing");
  PV_ASSIGN_OR_RETURN(const auto merges, ReadMerges(*list, vocab));
  BpeOptions options;
  options.byte_level = byte_level;
  options.byte_fallback = at.BoolOr("byte_fallback", false);
  options.ignore_merges = at.BoolOr("ignore_merges", false);
  options.fuse_unknown = at.BoolOr("fuse_unk", false);
  PV_ASSIGN_OR_RETURN(options.unknown, ReadUnknown(at, vocab));
  if (byte_level)
    for (std::string& text : parts.texts) text = BytesOfToken(text).value_or("");
  parts.model = std::make_shared<BpeModel>(parts.texts, merges, options);
  parts.decode = byte_level ? DecodeForm::kBytes : DecodeForm::kMetaspace;
  return {};
}

Status ReadWordPiece(const JsonReader& at, const Json& vocab, TokenizerParts& parts) {
  const std::string prefix = at.TextOr("continuing_subword_prefix", "##");
  PV_ASSIGN_OR_RETURN(const auto unknown, ReadUnknown(at, vocab));
  if (!unknown) return Corrupt("model.unk_token is missing");
  parts.model = std::make_shared<WordPieceModel>(parts.texts, prefix, *unknown,
                                                 at.IntOr("max_input_chars_per_word", 100));
  parts.decode = DecodeForm::kWordPiece;
  return {};
}

// A template of one text: special tokens before and behind it.
Status ReadTemplate(const JsonReader& at, TokenizerParts& parts) {
  const Json* single = at.Find("single");
  const JsonReader specials = at.Object("special_tokens");
  if (!single || !single->is_array() || single->size() > 64)
    return Corrupt("post_processor.single is no short array");
  bool behind = false;
  for (const Json& part : *single) {
    if (part.is_object() && part.contains("Sequence")) {
      behind = true;
      continue;
    }
    if (!part.is_object() || !part.contains("SpecialToken") || !part["SpecialToken"].is_object())
      return Corrupt("post_processor.single holds " + part.dump().substr(0, 64));
    const Json id = part["SpecialToken"].value("id", Json());
    const std::string name = id.is_string() ? id.get<std::string>() : "";
    const auto token = specials.json().find(name);
    if (token == specials.json().end() || !token->is_object() || !token->contains("ids") ||
        !(*token)["ids"].is_array())
      return Corrupt(fmt::format("post_processor names \"{}\" without ids", name.substr(0, 64)));
    for (const Json& each : (*token)["ids"]) {
      PV_ASSIGN_OR_RETURN(const TokenId value, ReadId(each, name));
      (behind ? parts.suffix : parts.prefix).push_back(value);
    }
  }
  return {};
}

// ["[SEP]", 102] and ["[CLS]", 101].
Status ReadBertProcessing(const JsonReader& at, TokenizerParts& parts) {
  for (const auto& [key, ids] : {std::pair{"cls", &parts.prefix}, {"sep", &parts.suffix}}) {
    const Json* pair = at.Find(key);
    if (!pair || !pair->is_array() || pair->size() != 2)
      return Corrupt(fmt::format("post_processor.{} is no pair", key));
    PV_ASSIGN_OR_RETURN(const TokenId id, ReadId((*pair)[1], key));
    ids->push_back(id);
  }
  return {};
}

Status ReadPostProcessor(const Json& json, TokenizerParts& parts) {
  if (json.is_null()) return {};
  std::string error;
  const JsonReader at(json, "post_processor", error);
  const std::string type = at.Text("type");
  Status status;
  if (type == "TemplateProcessing") {
    status = ReadTemplate(at, parts);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    status = ReadBertProcessing(at, parts);
  } else if (type == "Sequence") {
    const Json* list = at.Find("processors");
    if (!list || !list->is_array() || list->size() > 8)
      return Corrupt("post_processor.processors is no short array");
    for (const Json& part : *list) PV_RETURN_IF_ERROR(ReadPostProcessor(part, parts));
  } else if (type != "ByteLevel") {
    return MakeError(ErrorCode::kMismatch,
                     "tokenizer.json: post_processor \"{}\" is not implemented",
                     type.substr(0, 64));
  }
  // The second text of a pair, and offsets, change no id of a text alone.
  at.RefuseOthers([](std::string_view key) {
    return key == "pair" || key == "trim_offsets" || key == "add_prefix_space" ||
           key == "use_regex";
  });
  if (!error.empty()) return Corrupt(error);
  return status;
}

// The tokens that only stand in added_tokens take their text's place in the table.
Status AddTexts(TokenizerParts& parts) {
  for (const AddedToken& token : parts.added) {
    const auto index = static_cast<std::size_t>(token.id);
    if (index >= parts.texts.size()) parts.texts.resize(index + 1);
    parts.texts[index] = token.content;
  }
  for (const auto* ids : {&parts.prefix, &parts.suffix})
    for (const TokenId id : *ids)
      if (static_cast<std::size_t>(id) >= parts.texts.size())
        return MakeError(ErrorCode::kOutOfRange,
                         "tokenizer.json: post_processor names id {}, the vocabulary has {}", id,
                         parts.texts.size());
  return {};
}

// The id of a token of the file, added ones first.
std::function<std::optional<TokenId>(const std::string&)> IdsOf(const TokenizerParts& parts,
                                                                const Json& vocab) {
  std::map<std::string, TokenId> added;
  for (const AddedToken& token : parts.added) added.emplace(token.content, token.id);
  return [added = std::move(added), &vocab](const std::string& text) -> std::optional<TokenId> {
    if (const auto it = added.find(text); it != added.end()) return it->second;
    const auto it = vocab.find(text);
    return it == vocab.end() ? std::nullopt : std::optional(it->get<TokenId>());
  };
}

// Whether the encoder puts a space before a text, which decoding takes away.
bool PutsSpaceFirst(const TokenizerParts& parts) {
  std::string text = "x";
  for (const Normalizer& normalizer : parts.normalizers) text = normalizer(text);
  std::vector<Piece> pieces{{text, true}};
  for (const PreTokenizer& step : parts.pre_tokenizers) step(pieces);
  return !pieces.empty() && pieces.front().text.starts_with("\u2581");
}

}  // namespace

Result<TextTokenizer> TextTokenizer::ParseJson(std::string_view text, std::string_view config_text,
                                               std::string_view family) {
  PV_ASSIGN_OR_RETURN(Json json, ParseStrictJson(text, "tokenizer.json", kTokenizerLimits));
  if (!json.is_object()) return Corrupt("is no JSON object");
  std::optional<TokenizerConfig> config;
  if (!config_text.empty()) {
    PV_ASSIGN_OR_RETURN(config, ParseTokenizerConfig(config_text, family));
    PV_RETURN_IF_ERROR(ApplyToFile(*config, json));
  }
  std::string error;
  const JsonReader at(json, "tokenizer", error), model = at.Object("model");
  const auto field = [&](const char* key) { return at.Has(key) ? json[key] : Json(); };
  TokenizerParts parts;
  bool byte_level = false;
  PV_ASSIGN_OR_RETURN(parts.normalizers, ParseNormalizers(field("normalizer")));
  PV_ASSIGN_OR_RETURN(parts.pre_tokenizers,
                      ParsePreTokenizers(field("pre_tokenizer"), &byte_level));
  const Json* vocab = model.Find("vocab");
  // Files of the first release leave the model's type out.
  const std::string type = model.TextOr("type", model.Has("merges") ? "BPE" : "WordPiece");
  if (!error.empty()) return Corrupt(error);
  PV_ASSIGN_OR_RETURN(parts.texts, ReadVocabulary(*vocab));
  PV_RETURN_IF_ERROR(ReadAdded(field("added_tokens"), parts));
  if (type == "BPE") {
    PV_RETURN_IF_ERROR(ReadBpe(model, *vocab, byte_level, parts));
  } else if (type == "WordPiece") {
    PV_RETURN_IF_ERROR(ReadWordPiece(model, *vocab, parts));
  } else {
    return MakeError(ErrorCode::kMismatch,
                     "tokenizer.json: model \"{}\" is neither BPE nor WordPiece",
                     type.substr(0, 64));
  }
  model.RefuseOthers([](std::string_view) { return false; });
  PV_RETURN_IF_ERROR(ReadPostProcessor(field("post_processor"), parts));
  // Lengths are the caller's, and how ids become text follows from the model.
  at.RefuseOthers([](std::string_view key) {
    return key == "version" || key == "truncation" || key == "padding" || key == "decoder";
  });
  if (!error.empty()) return Corrupt(error);
  if (config) PV_RETURN_IF_ERROR(ApplyToParts(*config, IdsOf(parts, *vocab), parts));
  PV_RETURN_IF_ERROR(AddTexts(parts));
  parts.strips_first_space = parts.decode == DecodeForm::kMetaspace && PutsSpaceFirst(parts);
  if (config && parts.decode == DecodeForm::kMetaspace &&
      config->add_prefix_space.value_or(parts.strips_first_space) != parts.strips_first_space)
    return MakeError(
        ErrorCode::kMismatch,
        "tokenizer_config.add_prefix_space is {}, tokenizer.json does as if it were {}",
        !parts.strips_first_space, parts.strips_first_space);
  return TextTokenizer(std::move(parts));
}

}  // namespace polyveil::model
