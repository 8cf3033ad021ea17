// Byte-level BPE: any bytes encode and decode to themselves.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/result.h"

namespace polyveil::model {

using TokenId = std::int32_t;

// Ids 0..255 are the bytes, 256 is the end-of-story mark (which also begins every context), 257..
// the merges in the order of training. Text is cut into pieces first (see NextPiece); merges stay
// inside.
class Tokenizer {
 public:
  static constexpr TokenId kEnd = 256;

  // Learns vocab_size - 257 merges (fewer when the text has no more pairs). Ties go to the smaller
  // pair of ids: equal text, equal tokenizer. Requires vocab_size >= 257.
  static Result<Tokenizer> Train(const std::vector<std::string>& texts, int vocab_size);

  // Reads tokenizer.json ({"format":"polyveil-tokenizer/1","merges":[[a,b],...]}). Refuses ids that
  // do not exist yet, duplicates, more than 65536 merges. Errors: kCorrupt, kOutOfRange.
  static Result<Tokenizer> Parse(std::string_view json);
  std::string Format() const;

  // Never adds kEnd. Cost: O(n log n) in the length of a piece.
  std::vector<TokenId> Encode(std::string_view text) const;

  // kEnd decodes to nothing. Errors: kOutOfRange for an id outside the vocabulary (both values).
  Result<std::string> Decode(const std::vector<TokenId>& tokens) const;
  Result<std::string> Piece(TokenId token) const;

  int vocab_size() const { return static_cast<int>(pieces_.size()); }

 private:
  Tokenizer();
  Status AddMerge(TokenId left, TokenId right);
  void EncodePiece(std::string_view piece, std::vector<TokenId>& out) const;

  std::vector<std::string> pieces_;  // bytes of every token
  std::vector<std::pair<TokenId, TokenId>> merges_;
  std::unordered_map<std::uint64_t, TokenId> merge_ids_;  // (left << 32 | right) -> id
};

// The first piece of text: an optional space with letters (bytes >= 128 count as letters), or with
// digits, or with other signs, or an "'" with letters, or a run of white space. Never empty for
// text.
std::string_view NextPiece(std::string_view text);

}  // namespace polyveil::model
