#include "model/client/client_half.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/ngram.h"

namespace polyveil::model {
namespace {

std::uint64_t BytesOf(const ClientTensor& tensor) {
  const ElementFormat& format = FormatOf(tensor.type);
  std::uint64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= static_cast<std::uint64_t>(extent);
  return count / format.block_elements * format.block_bytes;
}

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

void RemoveMean(std::vector<double>& x) {
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
  for (double& value : x) value -= mean;
}

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
  PV_RETURN_IF_ERROR(half->CheckNoneLeft());
  return std::shared_ptr<const ClientHalf>(half);
}

Result<RowTable> ClientHalf::Take(const std::string& name, std::int64_t rows, std::int64_t cols) {
  const auto spec = config_.tensors.find(name);
  const ClientFile* file = files_.Find(name);
  if (spec == config_.tensors.end() || file == nullptr)
    return MakeError(ErrorCode::kNotFound, "client.tensors: no \"{}\"", name);
  const ClientTensor& tensor = spec->second;
  const bool vector = tensor.shape.size() == 1;
  const std::int64_t has_rows = vector ? 1 : tensor.shape[0];
  const std::int64_t has_cols = tensor.shape.back();
  if (has_cols != cols || (rows > 0 ? has_rows != rows : has_rows < -rows))
    return MakeError(ErrorCode::kMismatch, "client.tensors: \"{}\" is {} x {}, needs {} x {}", name,
                     has_rows, has_cols, std::abs(rows), cols);
  if (cols % static_cast<std::int64_t>(FormatOf(tensor.type).block_elements) != 0 ||
      file->bytes.size() != BytesOf(tensor))
    return MakeError(ErrorCode::kMismatch, "\"{}\" has {} bytes, its shape and type need {}", name,
                     file->bytes.size(), BytesOf(tensor));
  taken_.push_back(name);
  std::vector<float> scales;
  if (tensor.type == ElementType::kI8) {
    PV_ASSIGN_OR_RETURN(const RowTable scale, Take(name + ".scale", 1, has_rows));
    std::vector<double> values(static_cast<std::size_t>(has_rows));
    scale.AddRow(0, values);
    scales.assign(values.begin(), values.end());
  }
  return RowTable({name, tensor.type, {has_rows, has_cols}, file->bytes}, std::move(scales));
}

Result<std::optional<ClientHalf::Norm>> ClientHalf::TakeNorm(const std::optional<ClientNorm>& spec,
                                                             const char* gain, const char* bias) {
  if (!spec) return std::optional<Norm>();
  Norm norm{*spec, {}, {}};
  const auto width = static_cast<std::size_t>(config_.width);
  PV_ASSIGN_OR_RETURN(const RowTable gains, Take(gain, 1, config_.width));
  norm.gain.resize(width);
  gains.AddRow(0, norm.gain);
  if (config_.tensors.contains(bias)) {
    PV_ASSIGN_OR_RETURN(const RowTable biases, Take(bias, 1, config_.width));
    norm.bias.resize(width);
    biases.AddRow(0, norm.bias);
  }
  return std::optional<Norm>(std::move(norm));
}

Status ClientHalf::TakeTables() {
  const std::int64_t width = config_.width;
  PV_ASSIGN_OR_RETURN(embed_, Take(kEmbedName, config_.vocabulary, width));
  head_ = embed_;
  if (config_.tensors.contains(kHeadName)) {
    PV_ASSIGN_OR_RETURN(head_, Take(kHeadName, config_.vocabulary, width));
  }
  if (config_.tensors.contains(kPositionName)) {
    const std::int64_t least = config_.context + prefix() + config_.position_offset;
    PV_ASSIGN_OR_RETURN(positions_, Take(kPositionName, -least, width));
  }
  for (int i = 0; i < config_.ngrams; ++i) {
    PV_ASSIGN_OR_RETURN(RowTable table, Take(NgramName(static_cast<std::size_t>(i)), -1, width));
    ngrams_.push_back(std::move(table));
  }
  PV_ASSIGN_OR_RETURN(embedding_norm_,
                      TakeNorm(config_.embedding_norm, kEmbeddingGainName, kEmbeddingBiasName));
  PV_ASSIGN_OR_RETURN(final_norm_, TakeNorm(config_.final_norm, kFinalGainName, kFinalBiasName));
  // A residual without its mean is the model's only where the mean is taken out anyway.
  if (config_.centred && !(final_norm_ && final_norm_->spec.subtracts_mean))
    return MakeError(ErrorCode::kMismatch,
                     "client.centred is true, but final_norm does not subtract the mean");
  return {};
}

Status ClientHalf::CheckNoneLeft() const {
  for (const auto& [name, tensor] : config_.tensors)
    if (std::ranges::find(taken_, name) == taken_.end())
      return MakeError(ErrorCode::kMismatch, "client.tensors: no part of the model asks for \"{}\"",
                       name.substr(0, 64));
  return {};
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

void ClientHalf::Normalize(const Norm& norm, std::vector<double>& x) {
  if (norm.spec.subtracts_mean) RemoveMean(x);
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const double root = 1 / std::sqrt(squares / static_cast<double>(x.size()) + norm.spec.eps);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = x[i] * root * norm.gain[i] + (norm.bias.empty() ? 0 : norm.bias[i]);
}

Result<std::vector<double>> ClientHalf::Embed(std::span<const TokenId> text) const {
  const std::size_t last = config_.prefix.size() + static_cast<std::size_t>(config_.context);
  if (text.size() <= config_.prefix.size())
    return MakeError(ErrorCode::kOutOfRange, "embedding of {} tokens, {} of them constant",
                     text.size(), config_.prefix.size());
  if (text.size() > last)
    return MakeError(ErrorCode::kOutOfRange, "position {} outside the context of {}",
                     text.size() - 1, last);
  const TokenId token = text.back();
  if (token < 0 || token >= config_.vocabulary)
    return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                     config_.vocabulary);
  std::vector<double> x(static_cast<std::size_t>(config_.width));
  embed_.AddRow(token, x);
  const auto position = static_cast<std::int64_t>(text.size()) - 1;
  if (!positions_.empty()) positions_.AddRow(position + config_.position_offset, x);
  for (std::size_t i = 0; i < ngrams_.size(); ++i) {
    const std::size_t n = static_cast<std::size_t>(kSmallestNgram) + i;
    if (text.size() < n) break;
    ngrams_[i].AddRow(NgramRow(text.last(n), ngrams_[i].rows()), x);
  }
  if (embedding_norm_) Normalize(*embedding_norm_, x);
  if (config_.centred) RemoveMean(x);
  return x;
}

Result<std::vector<double>> ClientHalf::Head(std::span<const double> residual) const {
  if (residual.size() != static_cast<std::size_t>(config_.width))
    return MakeError(ErrorCode::kMismatch, "head: {} values, the model's width is {}",
                     residual.size(), config_.width);
  std::vector<double> x(residual.begin(), residual.end());
  if (final_norm_) Normalize(*final_norm_, x);
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
