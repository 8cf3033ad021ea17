// The tokenizer of a released model: added tokens, normalisers, pieces, token model.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/client/text/text_pipeline.h"
#include "model/client/text/token_model.h"

namespace polyveil::model {

struct Checkpoint;
class GgufFile;

inline constexpr std::size_t kMaxTokens = 1 << 20;

// A token that is found in the text itself, before anything is cut.
struct AddedToken {
  TokenId id;
  std::string content;
  bool single_word = false;             // not beside a letter, number or '_'
  bool lstrip = false, rstrip = false;  // takes the spaces beside it
  bool normalized = false;              // is sought in the normalised text
  bool special = false;                 // stands for no text when decoded
};

// How a token's text becomes text again.
enum class DecodeForm {
  kBytes,      // tokens are bytes
  kMetaspace,  // U+2581 is a space, <0x0A> a byte; a text's first space was put there
  kWordPiece,  // a space before every token that does not begin with "##"
};

struct TokenizerParts {
  std::vector<AddedToken> added;
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  std::shared_ptr<const TokenModel> model;
  TokenTexts texts;  // as decoding needs them
  DecodeForm decode = DecodeForm::kBytes;
  bool strips_first_space = false;      // kMetaspace: the encoder put one before the text
  std::vector<TokenId> prefix, suffix;  // around a text: [CLS] text [SEP], <s> text
};

class TextTokenizer {
 public:
  explicit TextTokenizer(TokenizerParts parts);

  // tokenizer.json of Hugging Face's tokenizers: models BPE and WordPiece. Refuses parts that are
  // not implemented or not known, ids outside 2^20, merges of absent tokens. config:
  // tokenizer_config.json beside it, empty for none; family: the model's. Errors: kCorrupt,
  // kOutOfRange, kMismatch, kNotFound; the field named.
  static Result<TextTokenizer> ParseJson(std::string_view json, std::string_view config = {},
                                         std::string_view family = {});
  // tokenizer.ggml.*: models gpt2 (with a `pre` whose cut is known), llama and bert.
  static Result<TextTokenizer> FromGguf(const GgufFile& file);
  // The checkpoint's own: tokenizer.gguf (a converted model's) or tokenizer.json of its folder, or
  // the GGUF file's.
  static Result<TextTokenizer> Load(const Checkpoint& checkpoint);

  // special: with the tokens around a text.
  std::vector<TokenId> Encode(std::string_view text, bool special = false) const;
  // The bytes of a token inside a text; nothing for special tokens. Requires an id of the
  // vocabulary.
  std::string BytesOf(TokenId id) const;
  // Special tokens decode to nothing. Errors: kOutOfRange for an id outside the vocabulary.
  Result<std::string> Decode(std::span<const TokenId> ids) const;

  int vocab_size() const { return static_cast<int>(parts_.texts.size()); }
  const TokenizerParts& parts() const { return parts_; }

 private:
  struct Matcher;

  void EncodeNormalized(std::string_view text, bool first, std::vector<TokenId>& out) const;
  void EncodePieces(std::string_view text, bool first, std::vector<TokenId>& out) const;
  std::string Normalize(std::string_view text) const;

  TokenizerParts parts_;
  std::vector<bool> special_;
  std::shared_ptr<const Matcher> plain_, normalized_;
};

}  // namespace polyveil::model
