#include "model/client/client_half.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/ngram.h"

namespace polyveil::model {
namespace {

class ByteCodec : public TextCodec {
 public:
  explicit ByteCodec(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  std::vector<TokenId> Encode(std::string_view text) const override {
    return tokenizer_.Encode(text);
  }
  std::string Piece(TokenId token) const override { return tokenizer_.Piece(token).value(); }
  int vocabulary() const override { return tokenizer_.vocab_size(); }

 private:
  Tokenizer tokenizer_;
};

}  // namespace

Result<std::unique_ptr<const TextCodec>> BundleCodec(const ClientFiles& files) {
  const ClientFile* file = files.Find(kTextJsonName);
  if (file == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", kTextJsonName);
  PV_ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Parse(file->text()));
  return std::unique_ptr<const TextCodec>(std::make_unique<ByteCodec>(std::move(tokenizer)));
}

Result<std::shared_ptr<const ClientHalf>> ClientHalf::Create(
    ClientFiles files, std::unique_ptr<const TextCodec> codec) {
  const std::shared_ptr<ClientHalf> half(new ClientHalf);
  half->files_ = std::move(files);
  half->codec_ = std::move(codec);
  const ClientFile* config = half->files_.Find(kClientConfigName);
  if (config == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", kClientConfigName);
  PV_ASSIGN_OR_RETURN(half->config_, ParseClientConfig(config->text()));
  if (half->codec_->vocabulary() > half->config_.vocabulary)
    return MakeError(ErrorCode::kMismatch, "{}: the tokenizer has {} tokens, the model {}",
                     half->config_.name, half->codec_->vocabulary(), half->config_.vocabulary);
  PV_RETURN_IF_ERROR(half->TakeTables());
  return std::shared_ptr<const ClientHalf>(half);
}

Status ClientHalf::TakeTables() {
  ClientTensors tensors(config_, files_);
  PV_ASSIGN_OR_RETURN(embedding_, TokenEmbedding::Take(config_, tensors));
  head_ = embedding_->tokens();
  if (config_.tensors.contains(kHeadName)) {
    PV_ASSIGN_OR_RETURN(head_, tensors.Take(kHeadName, config_.vocabulary, config_.width));
  }
  PV_ASSIGN_OR_RETURN(final_norm_,
                      tensors.TakeNorm(config_.final_norm, kFinalGainName, kFinalBiasName));
  // A residual without its mean is the model's only where the mean is taken out anyway.
  if (config_.centred && !(final_norm_ && final_norm_->spec.subtracts_mean))
    return MakeError(ErrorCode::kMismatch,
                     "client.centred is true, but final_norm does not subtract the mean");
  return tensors.CheckNoneLeft();
}

std::vector<TokenId> ClientHalf::Beginning() const {
  std::vector<TokenId> begin = codec_->Beginning();
  begin.insert(begin.begin(), config_.begin.begin(), config_.begin.end());
  // A tokenizer whose beginning is the prefix has put it there already.
  const std::vector<TokenId>& prefix = config_.prefix;
  const std::size_t common = std::min(begin.size(), prefix.size());
  if (!std::equal(prefix.begin(), prefix.begin() + static_cast<std::ptrdiff_t>(common),
                  begin.begin()) ||
      common < prefix.size())
    begin.insert(begin.begin(), prefix.begin(), prefix.end());
  return begin;
}

std::vector<TokenId> ClientHalf::Encode(std::string_view text) const {
  std::vector<TokenId> tokens = Beginning();
  const std::vector<TokenId> part = codec_->Encode(text);
  tokens.insert(tokens.end(), part.begin(), part.end());
  return tokens;
}

Result<std::vector<double>> ClientHalf::Embed(std::span<const TokenId> text) const {
  return embedding_->Embed(text);
}

Result<std::vector<double>> ClientHalf::Head(std::span<const double> residual) const {
  if (residual.size() != static_cast<std::size_t>(config_.width))
    return MakeError(ErrorCode::kMismatch, "head: {} values, the model's width is {}",
                     residual.size(), config_.width);
  std::vector<double> x(residual.begin(), residual.end());
  if (final_norm_) final_norm_->Apply(x);
  return head_.Multiply(x);
}

Result<std::string> ClientHalf::Piece(TokenId token) const {
  if (token >= 0 && token < codec_->vocabulary()) return codec_->Piece(token);
  // A model may have rows that no token has: the vocabulary was rounded up.
  if (token >= 0 && token < config_.vocabulary) return std::string();
  return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                   config_.vocabulary);
}

bool ClientHalf::Ends(TokenId token) const {
  return std::ranges::find(config_.ends, token) != config_.ends.end();
}

}  // namespace polyveil::model
