#include "model/client/tokenizer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <queue>
#include <set>

#include "model/client/merge_pairs.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

constexpr int kBytes = 256;
constexpr int kFirstMerge = 257;
constexpr std::size_t kMaxMerges = 65536;
constexpr const char* kTokenizerFormat = "polyveil-tokenizer/1";

std::uint64_t MergeKey(TokenId left, TokenId right) {
  return static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint32_t>(right);
}

enum class ByteClass { kSpace, kLetter, kDigit, kSign };

ByteClass Classify(unsigned char c) {
  if (c == ' ' || (c >= '\t' && c <= '\r')) return ByteClass::kSpace;
  if (c >= '0' && c <= '9') return ByteClass::kDigit;
  const unsigned char lower = c | 0x20;
  return c >= 128 || (lower >= 'a' && lower <= 'z') ? ByteClass::kLetter : ByteClass::kSign;
}

std::size_t RunLength(std::string_view text, std::size_t from) {
  const ByteClass kind = Classify(text[from]);
  std::size_t end = from;
  while (end < text.size() && Classify(text[end]) == kind) ++end;
  return end - from;
}

// Training state: distinct pieces as id sequences, and for every pair its count and its pieces.
struct Trainer {
  std::vector<std::vector<TokenId>> words;
  std::vector<std::int64_t> counts;
  std::unordered_map<std::uint64_t, std::int64_t> pair_counts;
  std::unordered_map<std::uint64_t, std::set<std::size_t>> pair_words;

  // (count, pair), largest count first, then the smaller pair; stale entries are skipped on pop.
  struct Less {
    bool operator()(const std::pair<std::int64_t, std::uint64_t>& x,
                    const std::pair<std::int64_t, std::uint64_t>& y) const {
      return x.first != y.first ? x.first < y.first : x.second > y.second;
    }
  };
  std::priority_queue<std::pair<std::int64_t, std::uint64_t>,
                      std::vector<std::pair<std::int64_t, std::uint64_t>>, Less>
      queue;

  void Change(std::size_t word, std::int64_t sign) {
    const auto& ids = words[word];
    for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
      const std::uint64_t key = MergeKey(ids[i], ids[i + 1]);
      pair_counts[key] += sign * counts[word];
      if (sign > 0) {
        pair_words[key].insert(word);
        queue.push({pair_counts[key], key});
      }
    }
  }

  bool PopBest(std::uint64_t* key) {
    while (!queue.empty()) {
      const auto [count, candidate] = queue.top();
      queue.pop();
      const std::int64_t current = pair_counts[candidate];
      if (count == current && count >= 2) {
        *key = candidate;
        return true;
      }
      if (count > current && current >= 2) queue.push({current, candidate});
    }
    return false;
  }

  void Merge(std::uint64_t key, TokenId id) {
    const TokenId left = static_cast<TokenId>(key >> 32);
    const TokenId right = static_cast<TokenId>(key & 0xffffffffu);
    const std::set<std::size_t> affected = std::move(pair_words[key]);
    pair_words.erase(key);
    for (const std::size_t word : affected) {
      Change(word, -1);
      std::vector<TokenId> merged;
      const auto& ids = words[word];
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const bool match = i + 1 < ids.size() && ids[i] == left && ids[i + 1] == right;
        merged.push_back(match ? id : ids[i]);
        if (match) ++i;
      }
      words[word] = std::move(merged);
      Change(word, +1);
    }
    pair_counts.erase(key);
  }
};

Trainer CountPieces(const std::vector<std::string>& texts) {
  std::map<std::string, std::int64_t, std::less<>> pieces;
  for (const std::string& text : texts) {
    std::string_view rest = text;
    while (!rest.empty()) {
      const std::string_view piece = NextPiece(rest);
      rest.remove_prefix(piece.size());
      auto it = pieces.find(piece);
      if (it == pieces.end()) it = pieces.emplace(std::string(piece), 0).first;
      ++it->second;
    }
  }
  Trainer trainer;
  for (const auto& [piece, count] : pieces) {
    trainer.words.emplace_back(reinterpret_cast<const unsigned char*>(piece.data()),
                               reinterpret_cast<const unsigned char*>(piece.data()) + piece.size());
    trainer.counts.push_back(count);
  }
  for (std::size_t i = 0; i < trainer.words.size(); ++i) trainer.Change(i, +1);
  return trainer;
}

}  // namespace

std::string_view NextPiece(std::string_view text) {
  if (text.empty()) return text;
  const bool leading_space =
      text[0] == ' ' && text.size() > 1 && Classify(text[1]) != ByteClass::kSpace;
  if (leading_space) return text.substr(0, 1 + RunLength(text, 1));
  if (text[0] == '\'' && text.size() > 1 && Classify(text[1]) == ByteClass::kLetter)
    return text.substr(0, 1 + RunLength(text, 1));
  const std::size_t length = RunLength(text, 0);
  // The last space of a run belongs to the word behind it.
  const bool gives_space = Classify(text[0]) == ByteClass::kSpace && length > 1 &&
                           length < text.size() && text[length - 1] == ' ';
  return text.substr(0, gives_space ? length - 1 : length);
}

Tokenizer::Tokenizer() {
  for (int byte = 0; byte < kBytes; ++byte) pieces_.emplace_back(1, static_cast<char>(byte));
  pieces_.emplace_back();  // kEnd
}

Status Tokenizer::AddMerge(TokenId left, TokenId right) {
  const TokenId id = vocab_size();
  for (const TokenId part : {left, right})
    if (part < 0 || part >= id || part == kEnd)
      return MakeError(ErrorCode::kCorrupt, "tokenizer: merge {} uses id {}, not a token below {}",
                       id, part, id);
  if (!merge_ids_.emplace(MergeKey(left, right), id).second)
    return MakeError(ErrorCode::kCorrupt, "tokenizer: merge {} repeats the pair ({}, {})", id, left,
                     right);
  merges_.emplace_back(left, right);
  pieces_.push_back(pieces_[left] + pieces_[right]);
  return {};
}

Result<Tokenizer> Tokenizer::Train(const std::vector<std::string>& texts, int vocab_size) {
  if (vocab_size < kFirstMerge || vocab_size > kFirstMerge + static_cast<int>(kMaxMerges))
    return MakeError(ErrorCode::kInvalidArgument, "tokenizer: vocab_size = {}, not in {}..{}",
                     vocab_size, kFirstMerge, kFirstMerge + kMaxMerges);
  Trainer trainer = CountPieces(texts);
  Tokenizer tokenizer;
  std::uint64_t key = 0;
  while (tokenizer.vocab_size() < vocab_size && trainer.PopBest(&key)) {
    const TokenId id = tokenizer.vocab_size();
    PV_RETURN_IF_ERROR(tokenizer.AddMerge(static_cast<TokenId>(key >> 32),
                                          static_cast<TokenId>(key & 0xffffffffu)));
    trainer.Merge(key, id);
  }
  return tokenizer;
}

Result<Tokenizer> Tokenizer::Parse(std::string_view json) {
  PV_ASSIGN_OR_RETURN(const auto root, ParseStrictJson(json, "tokenizer", {64 << 20, 8}));
  if (!root.is_object() || root.value("format", nlohmann::json()) != kTokenizerFormat)
    return MakeError(ErrorCode::kCorrupt, "tokenizer: no JSON object with format \"{}\"",
                     kTokenizerFormat);
  const auto merges = root.find("merges");
  if (merges == root.end() || !merges->is_array())
    return MakeError(ErrorCode::kCorrupt, "tokenizer: field merges is no array");
  if (merges->size() > kMaxMerges)
    return MakeError(ErrorCode::kOutOfRange, "tokenizer: {} merges > {}", merges->size(),
                     kMaxMerges);
  Tokenizer tokenizer;
  for (const auto& merge : *merges) {
    if (!merge.is_array() || merge.size() != 2 || !merge[0].is_number_integer() ||
        !merge[1].is_number_integer())
      return MakeError(ErrorCode::kCorrupt, "tokenizer: merge {} is no pair of ids",
                       tokenizer.vocab_size());
    const auto left = merge[0].get<std::int64_t>(), right = merge[1].get<std::int64_t>();
    if (left < 0 || right < 0 || left > INT32_MAX || right > INT32_MAX)
      return MakeError(ErrorCode::kCorrupt, "tokenizer: merge {} uses ids {}, {}",
                       tokenizer.vocab_size(), left, right);
    PV_RETURN_IF_ERROR(tokenizer.AddMerge(static_cast<TokenId>(left), static_cast<TokenId>(right)));
    if (tokenizer.pieces_.back().size() > 4096)
      return MakeError(ErrorCode::kOutOfRange, "tokenizer: token {} has {} bytes > 4096",
                       tokenizer.vocab_size() - 1, tokenizer.pieces_.back().size());
  }
  return tokenizer;
}

std::string Tokenizer::Format() const {
  std::string out =
      fmt::format("{{\"format\":\"{}\",\"end\":{},\"merges\":[", kTokenizerFormat, kEnd);
  for (std::size_t i = 0; i < merges_.size(); ++i)
    out += fmt::format("{}{}[{},{}]", i ? "," : "", i % 16 ? "" : "\n", merges_[i].first,
                       merges_[i].second);
  return out + "\n]}\n";
}

void Tokenizer::EncodePiece(std::string_view piece, std::vector<TokenId>& out) const {
  std::vector<TokenId> ids(reinterpret_cast<const unsigned char*>(piece.data()),
                           reinterpret_cast<const unsigned char*>(piece.data()) + piece.size());
  PairMerge merge{};
  MergePairs(ids, [&](TokenId left, TokenId right) -> const PairMerge* {
    const auto it = merge_ids_.find(MergeKey(left, right));
    if (it == merge_ids_.end()) return nullptr;
    merge = {it->second, it->second};  // merges are numbered in the order of training
    return &merge;
  });
  out.insert(out.end(), ids.begin(), ids.end());
}

std::vector<TokenId> Tokenizer::Encode(std::string_view text) const {
  std::vector<TokenId> out;
  while (!text.empty()) {
    const std::string_view piece = NextPiece(text);
    text.remove_prefix(piece.size());
    EncodePiece(piece, out);
  }
  return out;
}

Result<std::string> Tokenizer::Piece(TokenId token) const {
  if (token < 0 || token >= vocab_size())
    return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                     vocab_size());
  return pieces_[token];
}

Result<std::string> Tokenizer::Decode(const std::vector<TokenId>& tokens) const {
  std::string out;
  for (const TokenId token : tokens) {
    PV_ASSIGN_OR_RETURN(const std::string piece, Piece(token));
    out += piece;
  }
  return out;
}

}  // namespace polyveil::model
