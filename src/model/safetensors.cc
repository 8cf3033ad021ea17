#include "model/safetensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/check.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

struct FileEntry : SafetensorsEntry {
  std::uint64_t elements;
};

double ReadValue(const std::uint8_t* at, TensorType type) {
  if (type == TensorType::kF64) {
    double value;
    std::memcpy(&value, at, 8);
    return value;
  }
  if (type == TensorType::kI8) return static_cast<std::int8_t>(*at);
  float value;
  DecodeElements(type, at, 1, &value);
  return value;
}

void AppendValue(std::vector<std::uint8_t>& out, double value, TensorType type) {
  std::uint8_t bytes[8];
  if (type == TensorType::kF16) {
    const std::uint16_t bits = HalfFromDouble(value);
    std::memcpy(bytes, &bits, 2);
  } else if (type == TensorType::kI8) {
    PV_CHECK(value == std::round(value) && std::abs(value) <= 127, "{} is no I8", value);
    bytes[0] = static_cast<std::uint8_t>(static_cast<std::int8_t>(value));
  } else if (type == TensorType::kF32) {
    const float narrow = static_cast<float>(value);
    std::memcpy(bytes, &narrow, 4);
  } else {
    PV_CHECK(type == TensorType::kF64, "{} is not written", FormatOf(type).name);
    std::memcpy(bytes, &value, 8);
  }
  out.insert(out.end(), bytes, bytes + FormatOf(type).block_bytes);
}

Error Corrupt(const std::string& name, const std::string& what) {
  return MakeError(ErrorCode::kCorrupt, "safetensors: tensor \"{}\": {}", name, what);
}

Result<std::uint64_t> CountElements(const std::string& name, const nlohmann::json& shape,
                                    std::vector<std::int64_t>& out, std::uint64_t limit) {
  if (!shape.is_array() || shape.size() > 8) return Corrupt(name, "shape is no short array");
  std::uint64_t elements = 1;
  for (const auto& size : shape) {
    if (!size.is_number_unsigned()) return Corrupt(name, "shape holds " + size.dump());
    const auto n = size.get<std::uint64_t>();
    if (n > limit || (n > 0 && elements > limit / n))
      return MakeError(ErrorCode::kOutOfRange, "safetensors: tensor \"{}\": shape {} > {} elements",
                       name, shape.dump(), limit);
    elements *= n;
    out.push_back(static_cast<std::int64_t>(n));
  }
  return elements;
}

Result<FileEntry> ParseEntry(const std::string& name, const nlohmann::json& json,
                             std::uint64_t data_bytes, std::uint64_t limit) {
  if (!json.is_object()) return Corrupt(name, "is no object");
  FileEntry entry{{name, TensorType::kF32, {}, 0, 0}, 0};
  const auto dtype = json.find("dtype"), shape = json.find("shape"),
             offsets = json.find("data_offsets");
  if (dtype == json.end() || shape == json.end() || offsets == json.end())
    return Corrupt(name, "lacks dtype, shape or data_offsets");
  const auto type =
      dtype->is_string() ? ElementTypeFromName(dtype->get<std::string>()) : std::nullopt;
  if (!type) return Corrupt(name, "dtype " + dtype->dump() + " is unknown");
  entry.type = *type;
  PV_ASSIGN_OR_RETURN(entry.elements, CountElements(name, *shape, entry.shape, limit));
  if (!offsets->is_array() || offsets->size() != 2 || !(*offsets)[0].is_number_unsigned() ||
      !(*offsets)[1].is_number_unsigned())
    return Corrupt(name, "data_offsets " + offsets->dump());
  entry.begin = (*offsets)[0].get<std::uint64_t>();
  entry.end = (*offsets)[1].get<std::uint64_t>();
  if (entry.begin > entry.end || entry.end > data_bytes)
    return Corrupt(name, fmt::format("data_offsets [{}, {}] outside {} bytes of data", entry.begin,
                                     entry.end, data_bytes));
  if (entry.end - entry.begin != entry.elements * FormatOf(entry.type).block_bytes)
    return Corrupt(name,
                   fmt::format("{} bytes of data, shape and dtype need {}", entry.end - entry.begin,
                               entry.elements * FormatOf(entry.type).block_bytes));
  return entry;
}

Status CheckCoverage(std::vector<FileEntry>& entries, std::uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const FileEntry& x, const FileEntry& y) {
    return std::pair(x.begin, x.end) < std::pair(y.begin, y.end);
  });
  std::uint64_t covered = 0;
  for (const FileEntry& entry : entries) {
    if (entry.begin < covered)
      return Corrupt(entry.name, fmt::format("begins at {}, inside the tensor that ends at {}",
                                             entry.begin, covered));
    if (entry.begin > covered)
      return Corrupt(entry.name,
                     fmt::format("begins at {}, leaves a gap from {}", entry.begin, covered));
    covered = entry.end;
  }
  if (covered != data_bytes)
    return MakeError(ErrorCode::kCorrupt, "safetensors: tensors cover {} of {} bytes", covered,
                     data_bytes);
  return {};
}

Result<nlohmann::json> ParseHeader(std::span<const std::uint8_t> bytes,
                                   const SafetensorsLimits& limits, std::uint64_t* data_at) {
  if (bytes.size() < 8)
    return MakeError(ErrorCode::kCorrupt, "safetensors: {} bytes < 8", bytes.size());
  std::uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  if (length > limits.max_header_bytes || length > bytes.size() - 8)
    return MakeError(ErrorCode::kCorrupt,
                     "safetensors: header of {} bytes > {} (file {}, limit {})", length,
                     std::min<std::uint64_t>(limits.max_header_bytes, bytes.size() - 8),
                     bytes.size(), limits.max_header_bytes);
  const auto* begin = bytes.data() + 8;
  const std::string_view text(reinterpret_cast<const char*>(begin), length);
  PV_ASSIGN_OR_RETURN(auto json, ParseStrictJson(text, "safetensors: header", {length, 16}));
  if (!json.is_object())
    return MakeError(ErrorCode::kCorrupt, "safetensors: header is no JSON object");
  *data_at = 8 + length;
  return json;
}

Result<Tensor> ReadTensor(const SafetensorsEntry& entry, std::span<const std::uint8_t> file) {
  if (!FormatOf(entry.type).real && entry.type != TensorType::kI8)
    return Corrupt(entry.name, fmt::format("dtype {} holds no weights", FormatOf(entry.type).name));
  const std::uint64_t step = FormatOf(entry.type).block_bytes;
  Tensor tensor{entry.shape, std::vector<double>((entry.end - entry.begin) / step)};
  for (std::uint64_t i = 0; i < tensor.values.size(); ++i) {
    tensor.values[i] = ReadValue(file.data() + entry.begin + i * step, entry.type);
    if (!std::isfinite(tensor.values[i]))
      return Corrupt(entry.name, fmt::format("element {} is {}", i, tensor.values[i]));
  }
  return tensor;
}

// Whole numbers become what they stand for.
Status ApplyScale(const std::string& name, TensorMap& tensors) {
  Tensor& matrix = tensors.at(name);
  const auto scale = tensors.find(name + ".scale");
  if (scale == tensors.end() || matrix.shape.size() != 2 ||
      scale->second.shape != std::vector<std::int64_t>{matrix.shape[0]})
    return Corrupt(name, fmt::format("I8 without a scale \"{}.scale\" for each row", name));
  for (std::size_t i = 0; i < matrix.values.size(); ++i)
    matrix.values[i] *= scale->second.values[i / static_cast<std::size_t>(matrix.shape[1])];
  return {};
}

}  // namespace

std::int64_t Tensor::size() const {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

Result<std::vector<SafetensorsEntry>> ReadSafetensorsIndex(std::span<const std::uint8_t> bytes,
                                                           const SafetensorsLimits& limits) {
  std::uint64_t data_at = 0;
  PV_ASSIGN_OR_RETURN(const nlohmann::json header, ParseHeader(bytes, limits, &data_at));
  if (header.size() > limits.max_tensors + 1)
    return MakeError(ErrorCode::kOutOfRange, "safetensors: {} tensors > {}", header.size(),
                     limits.max_tensors);
  const std::uint64_t data_bytes = bytes.size() - data_at;
  std::vector<FileEntry> entries;
  std::uint64_t left = limits.max_elements;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    PV_ASSIGN_OR_RETURN(FileEntry entry, ParseEntry(name, json, data_bytes, left));
    left -= entry.elements;
    entries.push_back(std::move(entry));
  }
  PV_RETURN_IF_ERROR(CheckCoverage(entries, data_bytes));
  std::vector<SafetensorsEntry> out;
  for (FileEntry& entry : entries) {
    entry.begin += data_at;
    entry.end += data_at;
    out.push_back(std::move(entry));
  }
  return out;
}

Result<TensorMap> ParseSafetensors(std::span<const std::uint8_t> bytes,
                                   const SafetensorsLimits& limits) {
  PV_ASSIGN_OR_RETURN(const auto entries, ReadSafetensorsIndex(bytes, limits));
  TensorMap tensors;
  for (const SafetensorsEntry& entry : entries) {
    PV_ASSIGN_OR_RETURN(Tensor tensor, ReadTensor(entry, bytes));
    tensors.emplace(entry.name, std::move(tensor));
  }
  for (const SafetensorsEntry& entry : entries)
    if (entry.type == TensorType::kI8) PV_RETURN_IF_ERROR(ApplyScale(entry.name, tensors));
  return tensors;
}

std::vector<std::uint8_t> FormatSafetensors(const TensorMap& tensors, TensorType type,
                                            const std::map<std::string, std::string>& metadata,
                                            const std::map<std::string, TensorType>& types) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<std::uint8_t> data;
  for (const auto& [name, tensor] : tensors) {
    PV_CHECK(static_cast<std::int64_t>(tensor.values.size()) == tensor.size(),
             "{}: {} values, shape of {}", name, tensor.values.size(), tensor.size());
    const std::size_t begin = data.size();
    const auto own = types.find(name);
    const TensorType stored = own == types.end() ? type : own->second;
    for (const double value : tensor.values) AppendValue(data, value, stored);
    header[name] = {{"dtype", FormatOf(stored).name},
                    {"shape", tensor.shape},
                    {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::vector<std::uint8_t> out;
  out.reserve(8 + text.size() + data.size());
  out.resize(8);
  const std::uint64_t length = text.size();
  std::memcpy(out.data(), &length, 8);
  out.insert(out.end(), text.begin(), text.end());
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

double RoundToHalf(double x) { return HalfToFloat(HalfFromDouble(x)); }

}  // namespace polyveil::model
