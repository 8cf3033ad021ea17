// The client's half of any model: text to tokens to the values that are encrypted, and decrypted
// values to logits to text. Tables stay where their files are mapped; no layer is here.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/client/tokenizer.h"
#include "model/client_config.h"
#include "model/client_files.h"
#include "model/formats/token_embedding.h"

namespace polyveil::model {

// A tokenizer of either kind as the client's half asks for it.
class TextCodec {
 public:
  virtual ~TextCodec() = default;
  // Without tokens around the text.
  virtual std::vector<TokenId> Encode(std::string_view text) const = 0;
  // The bytes of a token inside a text; empty for tokens that stand for none. Requires a token
  // below vocabulary().
  virtual std::string Piece(TokenId token) const = 0;
  virtual int vocabulary() const = 0;
  // What the tokenizer puts before every text.
  virtual std::vector<TokenId> Beginning() const { return {}; }
  // The same behind a whole text.
  virtual std::vector<TokenId> Ending() const { return {}; }
  // A Jinja template of dialogues; empty: none.
  virtual std::string ChatTemplate() const { return {}; }
};

// A whole text, as an encoder reads it.
struct EncoderText {
  std::vector<TokenId> tokens;
  std::vector<std::int32_t> segments;  // of each token
};

class ClientHalf {
 public:
  // Refuses files that lack a tensor or have one that no part asks for, other shapes or sizes, and
  // a tokenizer with more tokens than the model. Errors: kCorrupt, kMismatch, kNotFound,
  // kOutOfRange; the tensor or field named.
  // text_only: of files without tables (ClientManifest::OfText), for a text whose tokens are
  // embedded and chosen elsewhere; what asks for a table is then refused (kInvalidArgument).
  static Result<std::shared_ptr<const ClientHalf>> Create(ClientFiles files,
                                                          std::unique_ptr<const TextCodec> codec,
                                                          bool text_only = false);
  bool text_only() const { return !embedding_; }

  // The text's tokens behind those that stand before every text. The first prefix() of them are
  // constants of the model: never encrypted.
  std::vector<TokenId> Encode(std::string_view text) const;
  // The same without what stands before a text: a part of one.
  std::vector<TokenId> EncodePart(std::string_view text) const { return codec_->Encode(text); }
  // What stands before every text.
  std::vector<TokenId> Beginning() const;
  int prefix() const { return static_cast<int>(config_.prefix.size()); }

  // The width() values of the text's last token, which the client encrypts. text: every token, the
  // prefix' too. Errors: kOutOfRange for no text, the prefix alone, a token outside the vocabulary
  // or a position outside the context.
  Result<std::vector<double>> Embed(std::span<const TokenId> text) const;
  // An encoder's text, or two that it compares, with the tokens around them. Errors: kOutOfRange
  // for none, or more tokens than the context.
  Result<EncoderText> EncodeWhole(std::string_view text, std::string_view second = {}) const;
  Result<std::vector<std::vector<double>>> EmbedWhole(const EncoderText& text) const;
  // What an encoder makes of a token, from a decrypted residual. Errors: kMismatch for another
  // number of values.
  Result<std::vector<double>> Hidden(std::span<const double> residual) const;
  // A classifier's logits from a text's first token's residual, by label. Errors: as Hidden's,
  // kInvalidArgument without a classifier.
  Result<std::vector<double>> Classify(std::span<const double> residual) const;
  // Errors: kInvalidArgument for an encoder, before anything is made for it.
  Status CheckWrites() const;
  bool is_encoder() const { return config_.encoder.has_value(); }
  // Logits of a decrypted residual. Errors: kMismatch for another number of values,
  // kInvalidArgument for an encoder.
  Result<std::vector<double>> Head(std::span<const double> residual) const;
  // The bytes of a token, which may end inside a character. Errors: kOutOfRange.
  Result<std::string> Piece(TokenId token) const;
  bool Ends(TokenId token) const;

  const ClientConfig& config() const { return config_; }
  int width() const { return config_.width; }
  int vocabulary() const { return config_.vocabulary; }
  int context() const { return config_.context; }  // without the prefix
  std::string ChatTemplate() const { return codec_->ChatTemplate(); }
  // Of the files. Cost: SHA-256 over all of them.
  ClientManifest Manifest() const { return files_.Manifest(); }
  const ClientFiles& files() const { return files_; }

 private:
  ClientHalf() = default;
  Status CheckTables() const;
  Status TakeTables();
  Status TakeClassifier(ClientTensors& tensors);

  ClientFiles files_;
  ClientConfig config_;
  std::unique_ptr<const TextCodec> codec_;
  std::optional<TokenEmbedding> embedding_;
  RowTable head_;  // the embedding's where there is none of its own
  std::optional<GainedNorm> final_norm_;
  RowTable pooler_, pooler_bias_, classifier_, classifier_bias_;  // of a classifier
};

// The codec of a bundle's tokenizer.json. Errors: those of Tokenizer::Parse, kNotFound.
Result<std::unique_ptr<const TextCodec>> BundleCodec(const ClientFiles& files);

}  // namespace polyveil::model
