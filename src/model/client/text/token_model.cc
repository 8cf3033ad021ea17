#include "model/client/text/token_model.h"

#include <algorithm>
#include <array>

#include "base/check.h"
#include "model/client/text/unicode.h"

namespace polyveil::model {
namespace {

// GPT-2's table: printable Latin-1 bytes stand for themselves, the others for 256, 257, ...
std::array<std::int16_t, 324> MakeByteTable() {
  std::array<std::int16_t, 324> table;
  table.fill(-1);
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool itself =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    table[static_cast<std::size_t>(itself ? byte : next++)] = static_cast<std::int16_t>(byte);
  }
  return table;
}

std::uint64_t PairKey(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

std::unordered_map<std::string, TokenId> IndexTexts(const TokenTexts& texts) {
  std::unordered_map<std::string, TokenId> ids;
  for (std::size_t id = 0; id < texts.size(); ++id)
    if (!texts[id].empty()) ids.emplace(texts[id], static_cast<TokenId>(id));
  return ids;
}

}  // namespace

std::optional<std::string> BytesOfToken(std::string_view token) {
  static const auto kTable = MakeByteTable();
  std::string bytes;
  bool known = true;
  ForEachCharacter(token, [&](char32_t code, std::string_view) {
    if (code >= kTable.size() || kTable[code] < 0) {
      known = false;
    } else {
      bytes += static_cast<char>(kTable[code]);
    }
  });
  return known ? std::optional(std::move(bytes)) : std::nullopt;
}

BpeModel::BpeModel(const TokenTexts& texts, const std::vector<BpeMerge>& merges,
                   const BpeOptions& options)
    : ids_(IndexTexts(texts)), options_(options) {
  // Of equal pairs the last rank counts, as in a table that is filled in order.
  for (const BpeMerge& merge : merges)
    merges_[PairKey(merge.left, merge.right)] = {merge.rank, merge.id};
  if (!options.byte_fallback) return;
  for (int byte = 0; byte < 256; ++byte) {
    const auto it = ids_.find(fmt::format("<0x{:02X}>", byte));
    byte_ids_.push_back(it == ids_.end() ? std::nullopt : std::optional(it->second));
  }
}

void BpeModel::AppendUnknown(std::string_view character, std::vector<TokenId>& ids) const {
  if (options_.byte_fallback) {
    const auto known = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)].has_value(); };
    if (std::all_of(character.begin(), character.end(), known)) {
      for (const char c : character) ids.push_back(*byte_ids_[static_cast<unsigned char>(c)]);
      return;
    }
  }
  if (!options_.unknown) return;
  if (options_.fuse_unknown && !ids.empty() && ids.back() == *options_.unknown) return;
  ids.push_back(*options_.unknown);
}

void BpeModel::Encode(std::string_view piece, std::vector<TokenId>& out) const {
  if (options_.ignore_merges) {
    if (const auto it = ids_.find(std::string(piece)); it != ids_.end()) {
      out.push_back(it->second);
      return;
    }
  }
  std::vector<TokenId> ids;
  std::string symbol;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t bytes = options_.byte_level ? 1 : CharacterAt(piece, at).bytes;
    symbol.assign(piece.substr(at, bytes));
    const auto it = ids_.find(symbol);
    if (it != ids_.end()) {
      ids.push_back(it->second);
    } else {
      AppendUnknown(symbol, ids);
    }
    at += bytes;
  }
  MergePairs(ids, [&](TokenId left, TokenId right) -> const PairMerge* {
    const auto it = merges_.find(PairKey(left, right));
    return it == merges_.end() ? nullptr : &it->second;
  });
  out.insert(out.end(), ids.begin(), ids.end());
}

WordPieceModel::WordPieceModel(const TokenTexts& texts, std::string prefix, TokenId unknown,
                               int max_characters)
    : ids_(IndexTexts(texts)),
      prefix_(std::move(prefix)),
      unknown_(unknown),
      max_characters_(max_characters) {
  for (const std::string& text : texts) longest_ = std::max(longest_, text.size());
}

void WordPieceModel::Encode(std::string_view piece, std::vector<TokenId>& out) const {
  std::vector<std::size_t> ends;  // of the characters
  ForEachCharacter(piece, [&](char32_t, std::string_view bytes) {
    ends.push_back((ends.empty() ? 0 : ends.back()) + bytes.size());
  });
  if (static_cast<int>(ends.size()) > max_characters_) return out.push_back(unknown_);
  std::vector<TokenId> ids;
  for (std::size_t begin = 0; begin < piece.size();) {
    const std::string prefix = begin > 0 ? prefix_ : "";
    std::size_t found = 0;
    for (auto end = ends.rbegin(); end != ends.rend() && *end > begin; ++end) {
      if (*end - begin > longest_) continue;
      const auto it = ids_.find(prefix + std::string(piece.substr(begin, *end - begin)));
      if (it == ids_.end()) continue;
      ids.push_back(it->second);
      found = *end;
      break;
    }
    if (found == 0) return out.push_back(unknown_);
    begin = found;
  }
  out.insert(out.end(), ids.begin(), ids.end());
}

}  // namespace polyveil::model
