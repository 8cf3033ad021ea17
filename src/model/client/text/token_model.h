// Token models: a piece of text in, ids out.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "model/client/merge_pairs.h"

namespace polyveil::model {

// Every token's bytes by id; ids without a token are empty.
using TokenTexts = std::vector<std::string>;

// Bytes of a token of a byte-level vocabulary, which writes every byte as a printable character.
// Nothing when the token holds another character.
std::optional<std::string> BytesOfToken(std::string_view token);

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual void Encode(std::string_view piece, std::vector<TokenId>& out) const = 0;
};

// Byte-pair encoding over bytes or over characters.
struct BpeOptions {
  bool byte_level = false;         // tokens and pieces are bytes; else characters
  bool byte_fallback = false;      // an unknown character becomes its bytes' tokens <0x00> ...
  bool ignore_merges = false;      // a piece that is a token is that token
  bool fuse_unknown = false;       // unknown characters beside each other are one unknown token
  std::optional<TokenId> unknown;  // else unknown characters vanish
};
struct BpeMerge {
  TokenId left, right, id;
  std::int32_t rank;
};

class BpeModel : public TokenModel {
 public:
  // Of tokens with equal texts the first counts; empty texts are no tokens.
  BpeModel(const TokenTexts& texts, const std::vector<BpeMerge>& merges, const BpeOptions& options);
  void Encode(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  void AppendUnknown(std::string_view character, std::vector<TokenId>& ids) const;

  std::unordered_map<std::string, TokenId> ids_;
  std::unordered_map<std::uint64_t, PairMerge> merges_;
  std::vector<std::optional<TokenId>> byte_ids_;  // of <0x00> ..., when byte_fallback
  BpeOptions options_;
};

// Longest match first, "##" before the parts inside a word; a word that cannot be cut is unknown.
class WordPieceModel : public TokenModel {
 public:
  WordPieceModel(const TokenTexts& texts, std::string prefix, TokenId unknown, int max_characters);
  void Encode(std::string_view piece, std::vector<TokenId>& out) const override;

 private:
  std::unordered_map<std::string, TokenId> ids_;
  std::string prefix_;
  TokenId unknown_;
  int max_characters_;
  std::size_t longest_ = 0;
};

}  // namespace polyveil::model
