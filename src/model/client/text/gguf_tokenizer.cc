// The tokenizer in a GGUF file's metadata, with llama.cpp's meaning of its models and `pre` names.
#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "model/client/text/text_tokenizer.h"
#include "model/client/text/unicode.h"
#include "model/formats/gguf.h"

namespace polyveil::model {
namespace {

constexpr std::size_t kMaxTokenBytes = 1 << 12;
constexpr const char* kSpace = "\u2581";
// tokenizer.ggml.token_type
constexpr int kControl = 3, kUserDefined = 4;

struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<double> types, scores;

  int type(std::size_t id) const { return types.empty() ? 1 : static_cast<int>(types[id]); }
};

Result<Vocabulary> ReadVocabulary(const GgufFile& file) {
  PV_ASSIGN_OR_RETURN(auto tokens, file.Texts("tokenizer.ggml.tokens"));
  PV_ASSIGN_OR_RETURN(auto types, file.Numbers("tokenizer.ggml.token_type"));
  PV_ASSIGN_OR_RETURN(auto scores, file.Numbers("tokenizer.ggml.scores"));
  if (!tokens)
    return MakeError(ErrorCode::kNotFound, "gguf: key \"tokenizer.ggml.tokens\" is missing");
  if (tokens->size() > kMaxTokens)
    return MakeError(ErrorCode::kOutOfRange, "gguf: tokenizer.ggml.tokens has {} > {}",
                     tokens->size(), kMaxTokens);
  for (const auto& [key, list] : {std::pair{"token_type", &types}, {"scores", &scores}})
    if (*list && (*list)->size() != tokens->size())
      return MakeError(ErrorCode::kMismatch, "gguf: tokenizer.ggml.{} has {} values for {} tokens",
                       key, (*list)->size(), tokens->size());
  for (std::size_t id = 0; id < tokens->size(); ++id)
    if ((*tokens)[id].size() > kMaxTokenBytes)
      return MakeError(ErrorCode::kOutOfRange, "gguf: token {} has {} bytes > {}", id,
                       (*tokens)[id].size(), kMaxTokenBytes);
  return Vocabulary{std::move(*tokens), types.value_or(std::vector<double>()),
                    scores.value_or(std::vector<double>())};
}

void AddSpecials(const Vocabulary& vocabulary, TokenizerParts& parts) {
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const int type = vocabulary.type(id);
    if (type != kControl && type != kUserDefined) continue;
    AddedToken token;
    token.id = static_cast<TokenId>(id);
    token.content = std::string(vocabulary.tokens[id]);
    token.special = type == kControl;
    parts.added.push_back(std::move(token));
  }
}

Result<std::vector<BpeMerge>> ReadMerges(const GgufFile& file, const Vocabulary& vocabulary) {
  PV_ASSIGN_OR_RETURN(const auto lines, file.Texts("tokenizer.ggml.merges"));
  if (!lines)
    return MakeError(ErrorCode::kNotFound, "gguf: key \"tokenizer.ggml.merges\" is missing");
  std::unordered_map<std::string_view, TokenId> ids;
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id)
    ids.emplace(vocabulary.tokens[id], static_cast<TokenId>(id));
  std::vector<BpeMerge> merges;
  for (std::size_t i = 0; i < lines->size(); ++i) {
    const std::string_view line = (*lines)[i];
    const auto space = line.find(' ', 1);
    if (space == std::string_view::npos)
      return MakeError(ErrorCode::kCorrupt, "gguf: merge {} is \"{}\", no pair", i,
                       line.substr(0, 64));
    const std::string_view left = line.substr(0, space), right = line.substr(space + 1);
    const std::string whole = std::string(left) + std::string(right);
    TokenId found[3];
    int k = 0;
    for (const std::string_view part : {left, right, std::string_view(whole)}) {
      const auto it = ids.find(part);
      if (it == ids.end())
        return MakeError(ErrorCode::kCorrupt, "gguf: merge {} names \"{}\", which is no token", i,
                         part.substr(0, 64));
      found[k++] = it->second;
    }
    merges.push_back({found[0], found[1], found[2], static_cast<std::int32_t>(i)});
  }
  return merges;
}

// What a name of tokenizer.ggml.pre stands for.
struct ByteLevelForm {
  std::vector<PreTokenizer> cuts;
  bool ignore_merges = false, begins = false, nfc = false;
};

Result<ByteLevelForm> FindByteLevelForm(const std::string& pre) {
  static const std::set<std::string> kGpt2 = {"gpt-2", "olmo",    "phi-2",   "mpt",
                                              "jais",  "jina-es", "jina-de", "roberta-bpe"};
  static const std::set<std::string> kLlama3 = {"llama-bpe", "llama3", "llama-v3", "falcon3"};
  static const std::set<std::string> kDigits = {"smollm", "starcoder", "refact", "codeshell"};
  if (kGpt2.contains(pre)) return ByteLevelForm{{SplitByRule(kGpt2Split)}};
  if (kDigits.contains(pre)) return ByteLevelForm{{SplitDigits(true), SplitByRule(kGpt2Split)}};
  if (kLlama3.contains(pre)) return ByteLevelForm{{SplitByRule(kLlama3Split)}, true, true};
  // The original normalises, which llama.cpp leaves out.
  if (pre == "qwen2") return ByteLevelForm{{SplitByRule(kQwen2Split)}, false, false, true};
  return MakeError(
      ErrorCode::kMismatch,
      "gguf: tokenizer.ggml.pre = \"{}\", none of gpt-2, olmo, phi-2, mpt, jais, "
      "jina-es, jina-de, roberta-bpe, smollm, starcoder, refact, codeshell, llama-bpe, "
      "llama3, llama-v3, falcon3, qwen2",
      pre.substr(0, 64));
}

// Files of before May 2024 do not say how a text is cut; GPT-2 and GPT-NeoX have one cut only.
Result<std::string> PreOf(const GgufFile& file) {
  PV_ASSIGN_OR_RETURN(const auto pre, file.Text("tokenizer.ggml.pre"));
  if (pre) return *pre;
  PV_ASSIGN_OR_RETURN(const auto architecture, file.Text("general.architecture"));
  if (architecture == "gpt2" || architecture == "gptneox") return std::string("gpt-2");
  return MakeError(ErrorCode::kNotFound,
                   "gguf: key \"tokenizer.ggml.pre\" is missing, and {} models cut texts in "
                   "different ways; gguf-new-metadata --pre-tokenizer writes it",
                   architecture.value_or("").substr(0, 64));
}

Status MakeByteLevel(const GgufFile& file, const ByteLevelForm& form, const Vocabulary& vocabulary,
                     TokenizerParts& parts) {
  BpeOptions options;
  options.byte_level = true;
  options.ignore_merges = form.ignore_merges;
  parts.pre_tokenizers = form.cuts;
  if (form.nfc)
    parts.normalizers.push_back(
        [](std::string_view text) { return NormalizeText(text, NormalForm::kNfc); });
  PV_ASSIGN_OR_RETURN(const auto merges, ReadMerges(file, vocabulary));
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    const bool added = vocabulary.type(id) == kControl || vocabulary.type(id) == kUserDefined;
    parts.texts.push_back(added ? "" : BytesOfToken(vocabulary.tokens[id]).value_or(""));
  }
  parts.model = std::make_shared<BpeModel>(parts.texts, merges, options);
  return {};
}

// SentencePiece keeps no merges: two tokens beside each other become the token that they spell, the
// best score first.
std::vector<BpeMerge> MergesByScore(const Vocabulary& vocabulary) {
  const std::size_t n = vocabulary.tokens.size();
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t x, std::size_t y) {
    return vocabulary.scores[x] > vocabulary.scores[y];
  });
  std::vector<std::int32_t> ranks(n);
  for (std::size_t i = 1; i < n; ++i)
    ranks[order[i]] = ranks[order[i - 1]] +
                      (vocabulary.scores[order[i]] < vocabulary.scores[order[i - 1]] ? 1 : 0);
  std::unordered_map<std::string_view, TokenId> ids;
  for (std::size_t id = 0; id < n; ++id)
    ids.emplace(vocabulary.tokens[id], static_cast<TokenId>(id));
  std::vector<BpeMerge> merges;
  for (std::size_t id = 0; id < n; ++id) {
    const std::string_view token = vocabulary.tokens[id];
    if (vocabulary.type(id) != 1 || token.size() > 256) continue;
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const auto left = ids.find(token.substr(0, cut)), right = ids.find(token.substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({left->second, right->second, static_cast<TokenId>(id), ranks[id]});
    }
  }
  return merges;
}

Status MakeSentencePiece(const GgufFile& file, const Vocabulary& vocabulary,
                         TokenizerParts& parts) {
  if (vocabulary.scores.empty())
    return MakeError(ErrorCode::kNotFound, "gguf: key \"tokenizer.ggml.scores\" is missing");
  for (const double score : vocabulary.scores)
    if (!(score <= 0 || score > 0))
      return MakeError(ErrorCode::kCorrupt, "gguf: tokenizer.ggml.scores holds {}", score);
  PV_ASSIGN_OR_RETURN(const auto prefix, file.Bool("tokenizer.ggml.add_space_prefix"));
  parts.strips_first_space = prefix.value_or(true);
  if (parts.strips_first_space) parts.normalizers.push_back(NormalizerPrepend(kSpace));
  parts.normalizers.push_back(NormalizerReplace(" ", kSpace));
  BpeOptions options;
  options.byte_fallback = options.fuse_unknown = true;
  PV_ASSIGN_OR_RETURN(const auto unknown, file.Integer("tokenizer.ggml.unknown_token_id"));
  if (unknown) options.unknown = static_cast<TokenId>(*unknown);
  for (const std::string_view token : vocabulary.tokens) parts.texts.emplace_back(token);
  parts.model = std::make_shared<BpeModel>(parts.texts, MergesByScore(vocabulary), options);
  parts.decode = DecodeForm::kMetaspace;
  return {};
}

// The file marks tokens that begin a word where BERT marks those that do not.
Status MakeWordPiece(const GgufFile& file, const Vocabulary& vocabulary, TokenizerParts& parts) {
  PV_ASSIGN_OR_RETURN(const auto unknown, file.Integer("tokenizer.ggml.unknown_token_id"));
  if (!unknown)
    return MakeError(ErrorCode::kNotFound,
                     "gguf: key \"tokenizer.ggml.unknown_token_id\" is missing");
  for (std::size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    std::string token(vocabulary.tokens[id]);
    if (token.starts_with(kSpace)) {
      token.erase(0, std::string_view(kSpace).size());
    } else if (vocabulary.type(id) == 1) {
      token.insert(0, "##");
    }
    parts.texts.push_back(std::move(token));
  }
  parts.normalizers.push_back(NormalizerBert(true, true, true, true));
  parts.pre_tokenizers.push_back(SplitBert());
  parts.model =
      std::make_shared<WordPieceModel>(parts.texts, "##", static_cast<TokenId>(*unknown), 100);
  parts.decode = DecodeForm::kWordPiece;
  return {};
}

// bos before and eos behind a text, where the file or the model's custom asks for them.
Status AddEnds(const GgufFile& file, bool bos, bool eos, TokenizerParts& parts) {
  const auto add = [&](const std::string& name, const std::string& id_key, bool custom,
                       std::vector<TokenId>& ids) -> Status {
    PV_ASSIGN_OR_RETURN(const auto asked, file.Bool("tokenizer.ggml.add_" + name + "_token"));
    PV_ASSIGN_OR_RETURN(const auto id, file.Integer("tokenizer.ggml." + id_key));
    if (asked.value_or(custom) && id) ids.push_back(static_cast<TokenId>(*id));
    return {};
  };
  const bool bert = parts.decode == DecodeForm::kWordPiece;
  const bool cls = bert && file.Has("tokenizer.ggml.cls_token_id");
  PV_RETURN_IF_ERROR(add("bos", cls ? "cls_token_id" : "bos_token_id", bos, parts.prefix));
  return add("eos", bert ? "seperator_token_id" : "eos_token_id", eos, parts.suffix);
}

Status CheckIds(const GgufFile& file, std::size_t tokens) {
  for (const char* key :
       {"bos_token_id", "eos_token_id", "unknown_token_id", "cls_token_id", "seperator_token_id"}) {
    PV_ASSIGN_OR_RETURN(const auto id, file.Integer(std::string("tokenizer.ggml.") + key));
    if (id && (*id < 0 || static_cast<std::uint64_t>(*id) >= tokens))
      return MakeError(ErrorCode::kOutOfRange, "gguf: tokenizer.ggml.{} = {}, {} tokens", key, *id,
                       tokens);
  }
  return {};
}

// Every key is used, known not to change the ids, or refused.
Status RefuseOtherKeys(const GgufFile& file) {
  static const std::set<std::string_view> kUsed = {"model",
                                                   "pre",
                                                   "tokens",
                                                   "token_type",
                                                   "scores",
                                                   "merges",
                                                   "bos_token_id",
                                                   "eos_token_id",
                                                   "unknown_token_id",
                                                   "cls_token_id",
                                                   "seperator_token_id",
                                                   "add_bos_token",
                                                   "add_eos_token",
                                                   "add_space_prefix",
                                                   "remove_extra_whitespaces"};
  static const std::set<std::string_view> kIrrelevant = {
      "token_type_count", "padding_token_id", "mask_token_id",   "eot_token_id", "eom_token_id",
      "prefix_token_id",  "suffix_token_id",  "middle_token_id", "add_sep_token"};
  constexpr std::string_view kSpace = "tokenizer.ggml.";
  for (const std::string& key : file.Keys()) {
    if (!key.starts_with("tokenizer.")) continue;
    const std::string_view name =
        std::string_view(key).substr(key.starts_with(kSpace) ? kSpace.size() : 0);
    const bool other = name.starts_with("tokenizer.chat_template") || name.starts_with("fim_") ||
                       name == "tokenizer.huggingface.json" || name == "tokenizer.rwkv.world";
    if (!other && !kUsed.contains(name) && !kIrrelevant.contains(name))
      return MakeError(ErrorCode::kMismatch, "gguf: key \"{}\" is not known: it may change the ids",
                       key.substr(0, 128));
  }
  PV_ASSIGN_OR_RETURN(const auto trims, file.Bool("tokenizer.ggml.remove_extra_whitespaces"));
  if (trims.value_or(false))
    return MakeError(ErrorCode::kMismatch,
                     "gguf: tokenizer.ggml.remove_extra_whitespaces is true, only false is "
                     "implemented");
  return {};
}

}  // namespace

Result<TextTokenizer> TextTokenizer::FromGguf(const GgufFile& file) {
  PV_RETURN_IF_ERROR(RefuseOtherKeys(file));
  PV_ASSIGN_OR_RETURN(const auto model, file.Text("tokenizer.ggml.model"));
  PV_ASSIGN_OR_RETURN(const Vocabulary vocabulary, ReadVocabulary(file));
  PV_RETURN_IF_ERROR(CheckIds(file, vocabulary.tokens.size()));
  TokenizerParts parts;
  AddSpecials(vocabulary, parts);
  if (model == "gpt2") {
    PV_ASSIGN_OR_RETURN(const std::string pre, PreOf(file));
    PV_ASSIGN_OR_RETURN(const ByteLevelForm form, FindByteLevelForm(pre));
    PV_RETURN_IF_ERROR(MakeByteLevel(file, form, vocabulary, parts));
    PV_RETURN_IF_ERROR(AddEnds(file, form.begins, false, parts));
  } else if (model == "llama") {
    PV_RETURN_IF_ERROR(MakeSentencePiece(file, vocabulary, parts));
    PV_RETURN_IF_ERROR(AddEnds(file, true, false, parts));
  } else if (model == "bert") {
    PV_RETURN_IF_ERROR(MakeWordPiece(file, vocabulary, parts));
    PV_RETURN_IF_ERROR(AddEnds(file, true, true, parts));
  } else {
    return MakeError(ErrorCode::kMismatch,
                     "gguf: tokenizer.ggml.model = \"{}\", none of gpt2, llama, bert",
                     model.value_or("").substr(0, 64));
  }
  for (const AddedToken& token : parts.added)
    parts.texts[static_cast<std::size_t>(token.id)] = token.content;
  return TextTokenizer(std::move(parts));
}

}  // namespace polyveil::model
