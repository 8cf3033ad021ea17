#include "model/client/text/text_pipeline.h"

#include "model/client/text/text_steps.h"

namespace polyveil::model {
Normalizer NormalizerReplace(std::string from, std::string to) {
  return [from = std::move(from), to = std::move(to)](std::string_view text) {
    std::string out;
    for (;;) {
      const auto at = from.empty() ? std::string_view::npos : text.find(from);
      out += text.substr(0, at);
      if (at == std::string_view::npos) return out;
      out += to;
      text.remove_prefix(at + from.size());
    }
  };
}

Normalizer NormalizerPrepend(std::string prefix) {
  return [prefix = std::move(prefix)](std::string_view text) {
    return text.empty() ? std::string() : prefix + std::string(text);
  };
}

PreTokenizer SplitByRule(const SplitRule& rule) {
  return SplitWith([rule](std::string_view text, auto emit) {
    while (!text.empty()) {
      const std::size_t n = FirstPiece(text, rule);
      emit(text.substr(0, n));
      text.remove_prefix(n);
    }
  });
}

PreTokenizer SplitDigits(bool individual) {
  return SplitWith([individual](std::string_view text, auto emit) {
    std::size_t begin = 0, at = 0;
    bool number = false;
    while (at < text.size()) {
      const Character c = CharacterAt(text, at);
      const bool now = IsNumber(c.code);
      if (at > begin && (now != number || (now && individual))) {
        emit(text.substr(begin, at - begin));
        begin = at;
      }
      number = now;
      at += c.bytes;
    }
    emit(text.substr(begin));
  });
}

PreTokenizer AddPrefixSpace() {
  return [](std::vector<Piece>& pieces) {
    for (Piece& piece : pieces)
      if (!piece.text.starts_with(' ')) piece.text.insert(0, 1, ' ');
  };
}

PreTokenizer Metaspace(std::string mark, PrependScheme scheme, bool split) {
  const Normalizer replace = NormalizerReplace(" ", mark);
  return [=](std::vector<Piece>& pieces) {
    std::vector<Piece> out;
    for (Piece& piece : pieces) {
      std::string text = replace(piece.text);
      const bool prepend =
          scheme == PrependScheme::kAlways || (scheme == PrependScheme::kFirst && piece.first);
      if (prepend && !text.starts_with(mark)) text.insert(0, mark);
      bool first = piece.first;
      for (std::size_t at = 0; at < text.size(); first = false) {
        const auto end = split ? text.find(mark, at + 1) : std::string::npos;
        out.push_back({text.substr(at, end == std::string::npos ? end : end - at), first});
        at = end == std::string::npos ? text.size() : end;
      }
    }
    pieces = std::move(out);
  };
}

// The parts of tokenizer.json.
namespace {

using Json = JsonReader::Json;

constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Error NotImplemented(const char* part, const std::string& what) {
  return MakeError(ErrorCode::kMismatch, "tokenizer: {} \"{}\" is not implemented", part,
                   what.substr(0, 200));
}

// Calls parse(json) on json, or on each part where it is a Sequence.
template <typename Parse>
Status ForEachPart(const Json& json, const char* parts, Parse parse) {
  if (json.is_null()) return {};
  std::string error;
  const JsonReader at(json, "tokenizer", error);
  const std::string type = at.Text("type");
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  // Offsets into the text are not kept; the mark's other spelling stands beside it in old files.
  const auto irrelevant = [](std::string_view key) {
    return key == "trim_offsets" || key == "str_rep";
  };
  if (type != "Sequence") {
    PV_RETURN_IF_ERROR(parse(at, type, error));
    at.RefuseOthers(irrelevant);
    return error.empty() ? Status() : MakeError(ErrorCode::kCorrupt, "{}", error);
  }
  const Json* list = at.Find(parts);
  if (!list || !list->is_array() || list->size() > 64)
    return MakeError(ErrorCode::kCorrupt, "tokenizer: {} of a Sequence is no short array", parts);
  for (const Json& part : *list) {
    const JsonReader inner(part, "tokenizer", error);
    const std::string name = inner.Text("type");
    if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
    PV_RETURN_IF_ERROR(parse(inner, name, error));
    inner.RefuseOthers(irrelevant);
    if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  }
  return {};
}

Result<Normalizer> ParseNormalizer(const JsonReader& at, const std::string& type) {
  static const std::map<std::string, NormalForm> kForms = {{"NFC", NormalForm::kNfc},
                                                           {"NFD", NormalForm::kNfd},
                                                           {"NFKC", NormalForm::kNfkc},
                                                           {"NFKD", NormalForm::kNfkd}};
  if (const auto form = kForms.find(type); form != kForms.end())
    return Normalizer([f = form->second](std::string_view text) { return NormalizeText(text, f); });
  if (type == "Lowercase") return Normalizer(LowercaseText);
  if (type == "StripAccents")
    return Normalizer([](std::string_view text) { return Without(text, IsMark); });
  if (type == "Prepend") return NormalizerPrepend(at.Text("prepend"));
  if (type == "Replace") {
    const JsonReader pattern = at.Object("pattern");
    if (!pattern.Has("String")) return NotImplemented("Replace of a", pattern.json().dump());
    return NormalizerReplace(pattern.Text("String"), at.Text("content"));
  }
  if (type == "BertNormalizer") {
    const bool lowercase = at.BoolOr("lowercase", true);
    return NormalizerBert(at.BoolOr("clean_text", true), at.BoolOr("handle_chinese_chars", true),
                          at.BoolOr("strip_accents", lowercase), lowercase);
  }
  return NotImplemented("normalizer", type);
}

Result<PreTokenizer> ParseSplit(const JsonReader& at) {
  const JsonReader pattern = at.Object("pattern");
  const std::string regex = pattern.TextOr("Regex", ""), behavior = at.Text("behavior");
  if (behavior != "Isolated" || at.BoolOr("invert", false))
    return NotImplemented("Split with behavior", behavior);
  if (regex == kGpt2Pattern) return SplitByRule(kGpt2Split);
  if (regex == kLlama3Pattern) return SplitByRule(kLlama3Split);
  if (regex == kQwen2Pattern) return SplitByRule(kQwen2Split);
  return NotImplemented("Split of pattern", pattern.json().dump());
}

Result<PreTokenizer> ParseMetaspace(const JsonReader& at) {
  static const std::map<std::string, PrependScheme> kSchemes = {{"never", PrependScheme::kNever},
                                                                {"first", PrependScheme::kFirst},
                                                                {"always", PrependScheme::kAlways}};
  // Older files have a flag in the scheme's place.
  const std::string scheme =
      at.TextOr("prepend_scheme", at.BoolOr("add_prefix_space", true) ? "always" : "never");
  const auto found = kSchemes.find(scheme);
  if (found == kSchemes.end()) return NotImplemented("prepend_scheme", scheme);
  return Metaspace(at.TextOr("replacement", "\u2581"), found->second, at.BoolOr("split", true));
}

Result<std::vector<PreTokenizer>> ParsePreTokenizer(const JsonReader& at, const std::string& type,
                                                    bool* byte_level) {
  std::vector<PreTokenizer> steps;
  if (type == "ByteLevel") {
    *byte_level = true;
    if (at.BoolOr("add_prefix_space", true)) steps.push_back(AddPrefixSpace());
    if (at.BoolOr("use_regex", true)) steps.push_back(SplitByRule(kGpt2Split));
  } else if (type == "Digits") {
    steps.push_back(SplitDigits(at.BoolOr("individual_digits", false)));
  } else if (type == "BertPreTokenizer") {
    steps.push_back(SplitBert());
  } else if (type == "Split") {
    PV_ASSIGN_OR_RETURN(PreTokenizer split, ParseSplit(at));
    steps.push_back(std::move(split));
  } else if (type == "Metaspace") {
    PV_ASSIGN_OR_RETURN(PreTokenizer metaspace, ParseMetaspace(at));
    steps.push_back(std::move(metaspace));
  } else {
    return NotImplemented("pre_tokenizer", type);
  }
  return steps;
}

}  // namespace

Result<std::vector<Normalizer>> ParseNormalizers(const Json& json) {
  std::vector<Normalizer> out;
  PV_RETURN_IF_ERROR(ForEachPart(
      json, "normalizers",
      [&](const JsonReader& at, const std::string& type, const std::string& error) -> Status {
        PV_ASSIGN_OR_RETURN(Normalizer normalizer, ParseNormalizer(at, type));
        if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
        out.push_back(std::move(normalizer));
        return {};
      }));
  return out;
}

Result<std::vector<PreTokenizer>> ParsePreTokenizers(const Json& json, bool* byte_level) {
  std::vector<PreTokenizer> out;
  PV_RETURN_IF_ERROR(ForEachPart(
      json, "pretokenizers",
      [&](const JsonReader& at, const std::string& type, const std::string& error) -> Status {
        PV_ASSIGN_OR_RETURN(auto steps, ParsePreTokenizer(at, type, byte_level));
        if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
        for (PreTokenizer& step : steps) out.push_back(std::move(step));
        return {};
      }));
  return out;
}

}  // namespace polyveil::model
