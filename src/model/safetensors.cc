#include "model/safetensors.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/check.h"

namespace polyveil::model {
namespace {

static_assert(std::endian::native == std::endian::little, "the format is little endian");

struct Entry {
  std::string name;
  TensorType type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end, elements;
};

std::optional<TensorType> TypeFromName(const std::string& name) {
  if (name == "F32") return TensorType::kF32;
  if (name == "F16") return TensorType::kF16;
  if (name == "F64") return TensorType::kF64;
  return std::nullopt;
}

const char* TypeName(TensorType type) {
  return type == TensorType::kF32 ? "F32" : type == TensorType::kF16 ? "F16" : "F64";
}

std::uint64_t TypeBytes(TensorType type) {
  return type == TensorType::kF32 ? 4 : type == TensorType::kF16 ? 2 : 8;
}

double FromHalf(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value = exponent == 31  ? (mantissa ? NAN : INFINITY)
                 : exponent == 0 ? std::ldexp(mantissa, -24)
                                 : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -value : value;
}

std::uint16_t ToHalf(double x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::abs(x);
  if (size == 0) return sign;
  int exponent = std::max(std::ilogb(size), -14);
  double mantissa = std::nearbyint(std::ldexp(size, 10 - exponent));
  if (mantissa >= 2048) mantissa /= 2, ++exponent;
  if (exponent > 15) return sign | 0x7c00;
  const auto bits = static_cast<std::uint16_t>(mantissa);
  return sign |
         (bits < 1024 ? bits : static_cast<std::uint16_t>(bits - 1024 + ((exponent + 15) << 10)));
}

double ReadValue(const std::uint8_t* at, TensorType type) {
  if (type == TensorType::kF16) {
    std::uint16_t bits;
    std::memcpy(&bits, at, 2);
    return FromHalf(bits);
  }
  if (type == TensorType::kF32) {
    float value;
    std::memcpy(&value, at, 4);
    return value;
  }
  double value;
  std::memcpy(&value, at, 8);
  return value;
}

void AppendValue(std::vector<std::uint8_t>& out, double value, TensorType type) {
  std::uint8_t bytes[8];
  if (type == TensorType::kF16) {
    const std::uint16_t bits = ToHalf(value);
    std::memcpy(bytes, &bits, 2);
  } else if (type == TensorType::kF32) {
    const float narrow = static_cast<float>(value);
    std::memcpy(bytes, &narrow, 4);
  } else {
    std::memcpy(bytes, &value, 8);
  }
  out.insert(out.end(), bytes, bytes + TypeBytes(type));
}

// The library keeps the last of equal keys; a file with two tensors of one name is refused instead.
class DuplicateKeys : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::string duplicate;
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    seen_.emplace_back();
    return seen_.size() <= 16;
  }
  bool key(string_t& name) override {
    if (seen_.back().insert(name).second) return true;
    duplicate = name;
    return false;
  }
  bool end_object() override {
    seen_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return ++arrays_ <= 16; }
  bool end_array() override {
    --arrays_;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  std::vector<std::set<std::string>> seen_;
  int arrays_ = 0;
};

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

Result<Entry> ParseEntry(const std::string& name, const nlohmann::json& json,
                         std::uint64_t data_bytes, std::uint64_t limit) {
  if (!json.is_object()) return Corrupt(name, "is no object");
  Entry entry{name, TensorType::kF32, {}, 0, 0, 0};
  const auto dtype = json.find("dtype"), shape = json.find("shape"),
             offsets = json.find("data_offsets");
  if (dtype == json.end() || shape == json.end() || offsets == json.end())
    return Corrupt(name, "lacks dtype, shape or data_offsets");
  const auto type = dtype->is_string() ? TypeFromName(dtype->get<std::string>()) : std::nullopt;
  if (!type) return Corrupt(name, "dtype " + dtype->dump() + " is none of F16, F32, F64");
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
  if (entry.end - entry.begin != entry.elements * TypeBytes(entry.type))
    return Corrupt(name,
                   fmt::format("{} bytes of data, shape and dtype need {}", entry.end - entry.begin,
                               entry.elements * TypeBytes(entry.type)));
  return entry;
}

Status CheckCoverage(std::vector<Entry>& entries, std::uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& x, const Entry& y) {
    return std::pair(x.begin, x.end) < std::pair(y.begin, y.end);
  });
  std::uint64_t covered = 0;
  for (const Entry& entry : entries) {
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
  DuplicateKeys keys;
  if (!nlohmann::json::sax_parse(begin, begin + length, &keys)) {
    if (!keys.duplicate.empty()) return Corrupt(keys.duplicate, "name stands twice");
    return MakeError(ErrorCode::kCorrupt, "safetensors: header is no JSON");
  }
  auto json = nlohmann::json::parse(begin, begin + length, nullptr, false);
  if (!json.is_object())
    return MakeError(ErrorCode::kCorrupt, "safetensors: header is no JSON object");
  *data_at = 8 + length;
  return json;
}

Result<Tensor> ReadTensor(const Entry& entry, std::span<const std::uint8_t> data) {
  Tensor tensor{entry.shape, std::vector<double>(entry.elements)};
  const std::uint64_t step = TypeBytes(entry.type);
  for (std::uint64_t i = 0; i < entry.elements; ++i) {
    tensor.values[i] = ReadValue(data.data() + entry.begin + i * step, entry.type);
    if (!std::isfinite(tensor.values[i]))
      return Corrupt(entry.name, fmt::format("element {} is {}", i, tensor.values[i]));
  }
  return tensor;
}

}  // namespace

std::int64_t Tensor::size() const {
  std::int64_t n = 1;
  for (const std::int64_t extent : shape) n *= extent;
  return n;
}

Result<TensorMap> ParseSafetensors(std::span<const std::uint8_t> bytes,
                                   const SafetensorsLimits& limits) {
  std::uint64_t data_at = 0;
  PV_ASSIGN_OR_RETURN(const nlohmann::json header, ParseHeader(bytes, limits, &data_at));
  if (header.size() > limits.max_tensors + 1)
    return MakeError(ErrorCode::kOutOfRange, "safetensors: {} tensors > {}", header.size(),
                     limits.max_tensors);
  const auto data = bytes.subspan(data_at);
  std::vector<Entry> entries;
  std::uint64_t left = limits.max_elements;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    PV_ASSIGN_OR_RETURN(Entry entry, ParseEntry(name, json, data.size(), left));
    left -= entry.elements;
    entries.push_back(std::move(entry));
  }
  PV_RETURN_IF_ERROR(CheckCoverage(entries, data.size()));
  TensorMap tensors;
  for (const Entry& entry : entries) {
    PV_ASSIGN_OR_RETURN(Tensor tensor, ReadTensor(entry, data));
    tensors.emplace(entry.name, std::move(tensor));
  }
  return tensors;
}

std::vector<std::uint8_t> FormatSafetensors(const TensorMap& tensors, TensorType type,
                                            const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::vector<std::uint8_t> data;
  for (const auto& [name, tensor] : tensors) {
    PV_CHECK(static_cast<std::int64_t>(tensor.values.size()) == tensor.size(),
             "{}: {} values, shape of {}", name, tensor.values.size(), tensor.size());
    const std::size_t begin = data.size();
    for (const double value : tensor.values) AppendValue(data, value, type);
    header[name] = {
        {"dtype", TypeName(type)}, {"shape", tensor.shape}, {"data_offsets", {begin, data.size()}}};
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::vector<std::uint8_t> out(8);
  const std::uint64_t length = text.size();
  std::memcpy(out.data(), &length, 8);
  out.insert(out.end(), text.begin(), text.end());
  out.insert(out.end(), data.begin(), data.end());
  return out;
}

double RoundToHalf(double x) { return FromHalf(ToHalf(x)); }

}  // namespace polyveil::model
