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

Result<std::shared_ptr<const ClientHalf>> ClientHalf::Create(ClientFiles files,
                                                             std::unique_ptr<const TextCodec> codec,
                                                             bool text_only) {
  const std::shared_ptr<ClientHalf> half(new ClientHalf);
  half->files_ = std::move(files);
  half->codec_ = std::move(codec);
  const ClientFile* config = half->files_.Find(kClientConfigName);
  if (config == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", kClientConfigName);
  PV_ASSIGN_OR_RETURN(half->config_, ParseClientConfig(config->text()));
  if (half->codec_->vocabulary() > half->config_.vocabulary)
    return MakeError(ErrorCode::kMismatch, "{}: the tokenizer has {} tokens, the model {}",
                     half->config_.name, half->codec_->vocabulary(), half->config_.vocabulary);
  if (!text_only) PV_RETURN_IF_ERROR(half->TakeTables());
  return std::shared_ptr<const ClientHalf>(half);
}

Status ClientHalf::CheckTables() const {
  if (!text_only()) return {};
  return MakeError(ErrorCode::kInvalidArgument, "{}: only the tokenizer is here, no tables",
                   config_.name);
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
  if (config_.encoder) PV_RETURN_IF_ERROR(TakeClassifier(tensors));
  return tensors.CheckNoneLeft();
}

Status ClientHalf::TakeClassifier(ClientTensors& tensors) {
  if (!final_norm_)
    return MakeError(ErrorCode::kMismatch, "client.encoder is there, but no final_norm");
  const auto labels = static_cast<std::int64_t>(config_.encoder->labels.size());
  if (labels == 0) return {};
  PV_ASSIGN_OR_RETURN(pooler_, tensors.Take(kPoolerName, config_.width, config_.width));
  PV_ASSIGN_OR_RETURN(pooler_bias_, tensors.Take(kPoolerBiasName, 1, config_.width));
  PV_ASSIGN_OR_RETURN(classifier_, tensors.Take(kClassifierName, labels, config_.width));
  PV_ASSIGN_OR_RETURN(classifier_bias_, tensors.Take(kClassifierBiasName, 1, labels));
  return {};
}

Result<EncoderText> ClientHalf::EncodeWhole(std::string_view text, std::string_view second) const {
  const std::vector<TokenId> ending = codec_->Ending();
  EncoderText whole{Encode(text), {}};
  const auto add = [&](const std::vector<TokenId>& tokens) {
    whole.tokens.insert(whole.tokens.end(), tokens.begin(), tokens.end());
  };
  add(ending);
  whole.segments.resize(whole.tokens.size());
  if (!second.empty()) {
    if (config_.family == "roberta") add(ending);  // twice between two texts, and no segments
    add(codec_->Encode(second));
    add(ending);
    whole.segments.resize(whole.tokens.size(), config_.family == "bert" ? 1 : 0);
  }
  if (whole.tokens.size() > static_cast<std::size_t>(config_.context))
    return MakeError(ErrorCode::kOutOfRange, "a text of {} tokens, the model's context is {}",
                     whole.tokens.size(), config_.context);
  return whole;
}

Result<std::vector<double>> ClientHalf::Hidden(std::span<const double> residual) const {
  PV_RETURN_IF_ERROR(CheckTables());
  if (residual.size() != static_cast<std::size_t>(config_.width))
    return MakeError(ErrorCode::kMismatch, "a residual of {} values, the model's width is {}",
                     residual.size(), config_.width);
  std::vector<double> x(residual.begin(), residual.end());
  if (final_norm_) final_norm_->Apply(x);
  return x;
}

Result<std::vector<double>> ClientHalf::Classify(std::span<const double> residual) const {
  if (classifier_.empty())
    return MakeError(ErrorCode::kInvalidArgument, "{}: the model has no classifier", config_.name);
  PV_ASSIGN_OR_RETURN(const auto hidden, Hidden(residual));
  std::vector<double> pooled = pooler_.Multiply(hidden);
  pooler_bias_.AddRow(0, pooled);
  for (double& value : pooled)
    value = config_.encoder->relu_pooler ? std::max(value, 0.0) : std::tanh(value);
  std::vector<double> logits = classifier_.Multiply(pooled);
  classifier_bias_.AddRow(0, logits);
  return logits;
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

Result<std::vector<std::vector<double>>> ClientHalf::EmbedWhole(const EncoderText& text) const {
  PV_RETURN_IF_ERROR(CheckTables());
  return embedding_->EmbedAll(text.tokens, text.segments);
}

Result<std::vector<double>> ClientHalf::Embed(std::span<const TokenId> text) const {
  PV_RETURN_IF_ERROR(CheckTables());
  return embedding_->Embed(text);
}

Status ClientHalf::CheckWrites() const {
  if (!is_encoder()) return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   "{} is an encoder, which writes no text: 'polyveil embed' and 'polyveil "
                   "classify' read with it",
                   config_.name);
}

Result<std::vector<double>> ClientHalf::Head(std::span<const double> residual) const {
  PV_RETURN_IF_ERROR(CheckWrites());
  PV_RETURN_IF_ERROR(CheckTables());
  PV_ASSIGN_OR_RETURN(const auto x, Hidden(residual));
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
