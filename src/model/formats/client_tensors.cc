#include "model/formats/client_tensors.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/block.h"

namespace polyveil::model {
namespace {

std::uint64_t BytesOf(const ClientTensor& tensor) {
  const ElementFormat& format = FormatOf(tensor.type);
  std::uint64_t count = 1;
  for (const std::int64_t extent : tensor.shape) count *= static_cast<std::uint64_t>(extent);
  return count / format.block_elements * format.block_bytes;
}

}  // namespace

void GainedNorm::Apply(std::vector<double>& x) const {
  if (spec.subtracts_mean) RemoveMean(x);
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const double root = 1 / std::sqrt(squares / static_cast<double>(x.size()) + spec.eps);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = x[i] * root * gain[i] + (bias.empty() ? 0 : bias[i]);
}

Result<RowTable> ClientTensors::Take(const std::string& name, std::int64_t rows,
                                     std::int64_t cols) {
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

Result<std::optional<GainedNorm>> ClientTensors::TakeNorm(const std::optional<ClientNorm>& spec,
                                                          const char* gain, const char* bias) {
  if (!spec) return std::optional<GainedNorm>();
  GainedNorm norm{*spec, {}, {}};
  const auto width = static_cast<std::size_t>(config_.width);
  PV_ASSIGN_OR_RETURN(const RowTable gains, Take(gain, 1, config_.width));
  norm.gain.resize(width);
  gains.AddRow(0, norm.gain);
  if (config_.tensors.contains(bias)) {
    PV_ASSIGN_OR_RETURN(const RowTable biases, Take(bias, 1, config_.width));
    norm.bias.resize(width);
    biases.AddRow(0, norm.bias);
  }
  return std::optional<GainedNorm>(std::move(norm));
}

Status ClientTensors::CheckNoneLeft() const {
  for (const auto& [name, tensor] : config_.tensors)
    if (std::ranges::find(taken_, name) == taken_.end())
      return MakeError(ErrorCode::kMismatch, "client.tensors: no part of the model asks for \"{}\"",
                       name.substr(0, 64));
  return {};
}

}  // namespace polyveil::model
