#include "model/client/text/text_tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "model/client/text/unicode.h"
#include "model/formats/checkpoint.h"

namespace polyveil::model {

// Finds added tokens, at each place the longest.
struct TextTokenizer::Matcher {
  struct Entry {
    std::string content;
    const AddedToken* token;
  };
  std::vector<std::vector<Entry>> by_byte = std::vector<std::vector<Entry>>(256);

  void Add(std::string content, const AddedToken* token) {
    if (content.empty()) return;
    auto& entries = by_byte[static_cast<unsigned char>(content[0])];
    entries.push_back({std::move(content), token});
    std::stable_sort(entries.begin(), entries.end(), [](const Entry& x, const Entry& y) {
      return x.content.size() > y.content.size();
    });
  }

  const Entry* At(std::string_view text, std::size_t at) const {
    for (const Entry& entry : by_byte[static_cast<unsigned char>(text[at])])
      if (text.substr(at).starts_with(entry.content)) return &entry;
    return nullptr;
  }
};

namespace {

bool IsWordCharacter(char32_t code) {
  return code == '_' || IsLetter(code) || IsNumber(code) || IsMark(code);
}

std::size_t LastCharacter(std::string_view text) {
  std::size_t at = text.size();
  for (int i = 0; i < 4 && at > 0; ++i) {
    --at;
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80) break;
  }
  return at;
}

bool StandsAlone(std::string_view before, std::string_view after) {
  const bool left =
      !before.empty() && IsWordCharacter(CharacterAt(before, LastCharacter(before)).code);
  const bool right = !after.empty() && IsWordCharacter(CharacterAt(after, 0).code);
  return !left && !right;
}

// Ends of the runs of spaces around [begin, end), as far as the token takes them.
std::size_t StripLeft(std::string_view text, std::size_t from, std::size_t begin) {
  while (begin > from) {
    const std::size_t last = LastCharacter(text.substr(0, begin));
    if (!IsSpace(CharacterAt(text, last).code)) break;
    begin = last;
  }
  return std::max(begin, from);
}

std::size_t StripRight(std::string_view text, std::size_t end) {
  while (end < text.size()) {
    const Character c = CharacterAt(text, end);
    if (!IsSpace(c.code)) break;
    end += c.bytes;
  }
  return end;
}

// Calls found(id) for added tokens and other(text, first) for what stands between them.
template <typename Find, typename Found, typename Other>
void SplitAtTokens(std::string_view text, bool first, Find find, Found found, Other other) {
  std::size_t done = 0, at = 0;
  while (at < text.size()) {
    const auto* entry = find(text, at);
    if (!entry) {
      ++at;
      continue;
    }
    const AddedToken& token = *entry->token;
    std::size_t begin = at, end = at + entry->content.size();
    at = end;
    if (token.single_word && !StandsAlone(text.substr(0, begin), text.substr(end))) continue;
    if (token.lstrip) begin = StripLeft(text, done, begin);
    if (token.rstrip) at = end = StripRight(text, end);
    if (begin > done) other(text.substr(done, begin - done), first && done == 0);
    found(token.id);
    done = end;
  }
  if (done < text.size()) other(text.substr(done), first && done == 0);
}

// "<0x0A>" of a byte token.
std::optional<char> ByteToken(const std::string& text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return std::nullopt;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = digit(text[3]), low = digit(text[4]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<char>(high * 16 + low);
}

}  // namespace

TextTokenizer::TextTokenizer(TokenizerParts parts)
    : parts_(std::move(parts)), special_(parts_.texts.size()) {
  auto plain = std::make_shared<Matcher>(), normalized = std::make_shared<Matcher>();
  // Entries point into a copy that both own, so that tokenizers can be copied.
  auto added = std::make_shared<std::vector<AddedToken>>(parts_.added);
  for (const AddedToken& token : *added) {
    if (token.normalized) {
      normalized->Add(Normalize(token.content), &token);
    } else {
      plain->Add(token.content, &token);
    }
    if (token.special) special_[static_cast<std::size_t>(token.id)] = true;
  }
  struct Owner {
    std::shared_ptr<std::vector<AddedToken>> added;
    std::shared_ptr<Matcher> matcher;
  };
  const auto keep = [&](std::shared_ptr<Matcher> matcher) {
    auto owner = std::make_shared<Owner>(Owner{added, std::move(matcher)});
    return std::shared_ptr<const Matcher>(owner, owner->matcher.get());
  };
  plain_ = keep(std::move(plain));
  normalized_ = keep(std::move(normalized));
}

Result<TextTokenizer> TextTokenizer::Load(const Checkpoint& checkpoint) {
  if (checkpoint.gguf) return FromGguf(*checkpoint.gguf);
  std::error_code error;
  if (const std::string path = checkpoint.directory + "/tokenizer.gguf";
      std::filesystem::exists(path, error)) {
    PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
    PV_ASSIGN_OR_RETURN(const GgufFile gguf, GgufFile::Parse(file->bytes()));
    return FromGguf(gguf);
  }
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(checkpoint.directory + "/tokenizer.json"));
  const std::string path = checkpoint.directory + "/tokenizer_config.json";
  if (!std::filesystem::exists(path, error)) return ParseJson(file->text());
  PV_ASSIGN_OR_RETURN(const auto config, MappedFile::Open(path));
  return ParseJson(file->text(), config->text(), checkpoint.architecture.family);
}

std::string TextTokenizer::Normalize(std::string_view text) const {
  std::string out(text);
  for (const Normalizer& normalizer : parts_.normalizers) out = normalizer(out);
  return out;
}

void TextTokenizer::EncodePieces(std::string_view text, bool first,
                                 std::vector<TokenId>& out) const {
  std::vector<Piece> pieces{{std::string(text), first}};
  for (const PreTokenizer& step : parts_.pre_tokenizers) step(pieces);
  for (const Piece& piece : pieces) parts_.model->Encode(piece.text, out);
}

void TextTokenizer::EncodeNormalized(std::string_view text, bool first,
                                     std::vector<TokenId>& out) const {
  const std::string normal = Normalize(text);
  SplitAtTokens(
      normal, first, [&](std::string_view t, std::size_t at) { return normalized_->At(t, at); },
      [&](TokenId id) { out.push_back(id); },
      [&](std::string_view part, bool begins) { EncodePieces(part, begins, out); });
}

std::vector<TokenId> TextTokenizer::Encode(std::string_view text, bool special) const {
  std::vector<TokenId> out;
  if (special) out = parts_.prefix;
  SplitAtTokens(
      text, true, [&](std::string_view t, std::size_t at) { return plain_->At(t, at); },
      [&](TokenId id) { out.push_back(id); },
      [&](std::string_view part, bool begins) { EncodeNormalized(part, begins, out); });
  if (special) out.insert(out.end(), parts_.suffix.begin(), parts_.suffix.end());
  return out;
}

std::string TextTokenizer::BytesOf(TokenId id) const {
  if (special_[static_cast<std::size_t>(id)]) return {};
  const std::string& text = parts_.texts[static_cast<std::size_t>(id)];
  if (parts_.decode == DecodeForm::kMetaspace) {
    const auto byte = ByteToken(text);
    return byte ? std::string(1, *byte) : NormalizerReplace("\u2581", " ")(text);
  }
  if (parts_.decode == DecodeForm::kWordPiece)
    return text.starts_with("##") ? text.substr(2) : " " + text;
  return text;
}

Result<std::string> TextTokenizer::Decode(std::span<const TokenId> ids) const {
  std::string out;
  for (const TokenId id : ids) {
    if (id < 0 || id >= vocab_size())
      return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", id,
                       vocab_size());
    const std::string piece = BytesOf(id);
    const bool word_first = out.empty() && parts_.decode == DecodeForm::kWordPiece;
    out += word_first && piece.starts_with(' ') ? piece.substr(1) : piece;
  }
  if (parts_.strips_first_space && out.starts_with(' ')) out.erase(0, 1);
  return out;
}

}  // namespace polyveil::model
