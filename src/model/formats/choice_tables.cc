#include "model/formats/choice_tables.h"

#include <fmt/format.h>

#include <utility>

#include "base/digest.h"
#include "base/thread_pool.h"
#include "model/block.h"
#include "model/formats/client_tensors.h"
#include "model/formats/token_embedding.h"

namespace polyveil::model {
namespace {

Status Refuse(const ClientConfig& config, const char* why) {
  return MakeError(ErrorCode::kInvalidArgument, "{}: a server cannot choose its tokens: {}",
                   config.name, why);
}

Status CheckChooses(const ClientConfig& config) {
  if (config.encoder) return Refuse(config, "it is an encoder");
  if (config.ngrams > 0) return Refuse(config, "its embedding has a table of runs of tokens");
  if (config.embedding_norm) return Refuse(config, "its embedding has a norm");
  if (!config.final_norm) return Refuse(config, "it has no last norm");
  if (config.final_norm->subtracts_mean && !config.centred)
    return Refuse(config, "its last norm subtracts a mean that its residual has");
  return {};
}

// [rows, width] as they stand in the file, behind `change`.
template <typename F>
std::vector<float> Decoded(const RowTable& table, std::int64_t first, std::int64_t rows,
                           F&& change) {
  const auto width = static_cast<std::size_t>(table.cols());
  std::vector<float> values(static_cast<std::size_t>(rows) * width);
  ParallelFor(static_cast<std::size_t>(rows), [&](std::size_t r) {
    std::vector<double> row(width);
    table.AddRow(first + static_cast<std::int64_t>(r), row);
    change(row);
    for (std::size_t c = 0; c < width; ++c) values[r * width + c] = static_cast<float>(row[c]);
  });
  return values;
}

void RemoveColumnMeans(std::vector<float>& values, std::size_t width) {
  std::vector<double> means(width);
  const std::size_t rows = values.size() / width;
  for (std::size_t i = 0; i < values.size(); ++i)
    means[i % width] += values[i] / static_cast<double>(rows);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] -= static_cast<float>(means[i % width]);
}

// What the last norm adds to logits, without its mean.
std::vector<double> LogitBias(const RowTable& head, const GainedNorm& norm) {
  if (norm.bias.empty()) return {};
  std::vector<double> bias = head.Multiply(norm.bias);
  double mean = 0;
  for (const double v : bias) mean += v / static_cast<double>(bias.size());
  for (double& v : bias) v -= mean;
  return bias;
}

std::string DigestOf(const ChoiceTables& tables) {
  Hasher hasher("polyveil choice");
  for (const auto* table : {&tables.head, &tables.embedding, &tables.positions})
    hasher.UpdateField(
        {reinterpret_cast<const char*>(table->data()), table->size() * sizeof(float)});
  return ToHex(hasher.Final());
}

}  // namespace

Result<std::shared_ptr<const ChoiceTables>> LoadChoiceTables(const ClientFiles& files) {
  const ClientFile* file = files.Find(kClientConfigName);
  if (file == nullptr) return MakeError(ErrorCode::kNotFound, "no {}", kClientConfigName);
  PV_ASSIGN_OR_RETURN(const ClientConfig config, ParseClientConfig(file->text()));
  PV_RETURN_IF_ERROR(CheckChooses(config));
  ClientTensors tensors(config, files);
  PV_ASSIGN_OR_RETURN(const RowTable embedding,
                      tensors.Take(kEmbedName, config.vocabulary, config.width));
  RowTable head = embedding;
  if (config.tensors.contains(kHeadName)) {
    PV_ASSIGN_OR_RETURN(head, tensors.Take(kHeadName, config.vocabulary, config.width));
  }
  PV_ASSIGN_OR_RETURN(const auto norm,
                      tensors.TakeNorm(config.final_norm, kFinalGainName, kFinalBiasName));
  auto made = std::make_shared<ChoiceTables>();
  made->vocabulary = config.vocabulary;
  made->width = config.width;
  made->norm_eps = norm->spec.eps;
  const auto centre = [&](std::vector<double>& row) {
    if (config.centred) RemoveMean(row);
  };
  made->embedding = Decoded(embedding, 0, config.vocabulary, centre);
  made->head = Decoded(head, 0, config.vocabulary, [&](std::vector<double>& row) {
    for (std::size_t c = 0; c < row.size(); ++c) row[c] *= norm->gain[c];
  });
  RemoveColumnMeans(made->head, static_cast<std::size_t>(config.width));
  made->bias = LogitBias(head, *norm);
  if (config.tensors.contains(kPositionName)) {
    const int used = config.context + static_cast<int>(config.prefix.size());
    PV_ASSIGN_OR_RETURN(
        const RowTable positions,
        tensors.Take(kPositionName, -(used + config.position_offset), config.width));
    made->positions = Decoded(positions, config.position_offset, used, centre);
  }
  made->digest = DigestOf(*made);
  return std::shared_ptr<const ChoiceTables>(std::move(made));
}

}  // namespace polyveil::model
