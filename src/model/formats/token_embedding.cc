#include "model/formats/token_embedding.h"

#include <algorithm>

#include "model/block.h"
#include "model/ngram.h"

namespace polyveil::model {
namespace {

// The position embedding's row for the text's last token.
std::int64_t PositionRow(const ClientConfig& config, std::span<const std::int32_t> text) {
  const auto position = static_cast<std::int64_t>(text.size()) - 1 + config.position_offset;
  const auto padding = config.padding_token();
  if (!padding) return position;
  if (text.back() == *padding) return *padding;
  return position - std::ranges::count(text, *padding);
}

}  // namespace

Result<TokenEmbedding> TokenEmbedding::Take(const ClientConfig& config, ClientTensors& tensors) {
  TokenEmbedding embedding(config);
  const std::int64_t width = config.width;
  PV_ASSIGN_OR_RETURN(embedding.tokens_, tensors.Take(kEmbedName, config.vocabulary, width));
  if (config.tensors.contains(kPositionName)) {
    const std::int64_t least =
        config.context + static_cast<int>(config.prefix.size()) + config.position_offset;
    PV_ASSIGN_OR_RETURN(embedding.positions_, tensors.Take(kPositionName, -least, width));
  }
  if (config.tensors.contains(kTypeName)) {
    PV_ASSIGN_OR_RETURN(embedding.segments_, tensors.Take(kTypeName, -1, width));
  }
  for (int i = 0; i < config.ngrams; ++i) {
    PV_ASSIGN_OR_RETURN(RowTable table,
                        tensors.Take(NgramName(static_cast<std::size_t>(i)), -1, width));
    embedding.ngrams_.push_back(std::move(table));
  }
  PV_ASSIGN_OR_RETURN(embedding.norm_, tensors.TakeNorm(config.embedding_norm, kEmbeddingGainName,
                                                        kEmbeddingBiasName));
  return embedding;
}

Result<std::vector<double>> TokenEmbedding::Embed(std::span<const std::int32_t> text,
                                                  int segment) const {
  const std::size_t last = config_.prefix.size() + static_cast<std::size_t>(config_.context);
  if (text.size() <= config_.prefix.size())
    return MakeError(ErrorCode::kOutOfRange, "embedding of {} tokens, {} of them constant",
                     text.size(), config_.prefix.size());
  if (text.size() > last)
    return MakeError(ErrorCode::kOutOfRange, "position {} outside the context of {}",
                     text.size() - 1, last);
  const std::int32_t token = text.back();
  if (token < 0 || token >= config_.vocabulary)
    return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                     config_.vocabulary);
  const std::int64_t segments = segments_.empty() ? 1 : segments_.rows();
  if (segment < 0 || segment >= segments)
    return MakeError(ErrorCode::kOutOfRange, "segment {}, the model has {}", segment, segments);
  std::vector<double> x(static_cast<std::size_t>(config_.width));
  tokens_.AddRow(token, x);
  if (!positions_.empty()) positions_.AddRow(PositionRow(config_, text), x);
  if (!segments_.empty()) segments_.AddRow(segment, x);
  for (std::size_t i = 0; i < ngrams_.size(); ++i) {
    const std::size_t n = static_cast<std::size_t>(kSmallestNgram) + i;
    if (text.size() < n) break;
    ngrams_[i].AddRow(NgramRow(text.last(n), ngrams_[i].rows()), x);
  }
  if (norm_) norm_->Apply(x);
  if (config_.centred) RemoveMean(x);
  return x;
}

Result<std::vector<std::vector<double>>> TokenEmbedding::EmbedAll(
    std::span<const std::int32_t> tokens, std::span<const std::int32_t> segments) const {
  if (!segments.empty() && segments.size() != tokens.size())
    return MakeError(ErrorCode::kMismatch, "{} segments for {} tokens", segments.size(),
                     tokens.size());
  std::vector<std::int32_t> text = config_.prefix;
  std::vector<std::vector<double>> values;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    text.push_back(tokens[i]);
    auto embedded = Embed(text, segments.empty() ? 0 : segments[i]);
    if (!embedded.ok())
      return MakeError(embedded.error().code, "tokens[{}]: {}", i, embedded.error().message);
    values.push_back(*std::move(embedded));
  }
  return values;
}

namespace {

// The embedding and the files that its tables stand in.
struct LoadedEmbedding {
  std::shared_ptr<const ClientFiles> files;
  TokenEmbedding embedding;
};

}  // namespace

Result<std::shared_ptr<const TokenEmbedding>> LoadTokenEmbedding(
    std::shared_ptr<const ClientFiles> files) {
  const ClientFile* file = files->Find(kClientConfigName);
  if (file == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", kClientConfigName);
  PV_ASSIGN_OR_RETURN(const ClientConfig config, ParseClientConfig(file->text()));
  ClientTensors tensors(config, *files);
  PV_ASSIGN_OR_RETURN(TokenEmbedding embedding, TokenEmbedding::Take(config, tensors));
  auto loaded = std::make_shared<const LoadedEmbedding>(
      LoadedEmbedding{std::move(files), std::move(embedding)});
  return std::shared_ptr<const TokenEmbedding>(loaded, &loaded->embedding);
}

}  // namespace polyveil::model
