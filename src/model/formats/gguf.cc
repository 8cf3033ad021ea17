#include "model/formats/gguf.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "model/load.h"

namespace polyveil::model {
namespace {

constexpr std::uint64_t kMaxEntries = 1 << 16;
constexpr std::uint64_t kMaxKeyBytes = 1 << 16;
constexpr std::uint64_t kMaxElements = std::uint64_t{1} << 40;
constexpr std::uint32_t kMaxDimensions = 4;
constexpr std::uint64_t kDefaultAlignment = 32;

// Bytes of a fixed-size type; 0 for strings and arrays.
std::uint64_t SizeOf(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      return 0;
  }
  return 0;
}

// Reads forward; the first failure stays, and everything after it reads as zero.
class Cursor {
 public:
  explicit Cursor(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  template <typename T>
  T Read(std::string_view what) {
    T value{};
    const auto part = Take(sizeof(T), what);
    if (!part.empty()) std::memcpy(&value, part.data(), sizeof value);
    return value;
  }
  std::string_view Text(std::uint64_t limit, std::string_view what) {
    const auto length = Read<std::uint64_t>(what);
    if (length > limit)
      Fail(MakeError(ErrorCode::kOutOfRange, "gguf: {} has {} bytes > {}", what, length, limit));
    const auto part = Take(status_.ok() ? length : 0, what);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::span<const std::uint8_t> Take(std::uint64_t count, std::string_view what) {
    if (count > left())
      Fail(MakeError(ErrorCode::kCorrupt, "gguf: {} needs {} bytes at {}, the file has {} left",
                     what, count, at_, left()));
    if (!status_.ok()) return {};
    const auto part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  void Fail(Error error) {
    if (status_.ok()) status_ = std::move(error);
  }
  std::uint64_t left() const { return bytes_.size() - at_; }
  std::uint64_t at() const { return at_; }
  std::span<const std::uint8_t> Since(std::uint64_t begin) const {
    return bytes_.subspan(begin, at_ - begin);
  }
  const Status& status() const { return status_; }

 private:
  std::span<const std::uint8_t> bytes_;
  std::uint64_t at_ = 0;
  Status status_;
};

GgufType ReadType(Cursor& cursor, std::string_view key) {
  const auto number = cursor.Read<std::uint32_t>(key);
  if (number > static_cast<std::uint32_t>(GgufType::kFloat64))
    cursor.Fail(MakeError(ErrorCode::kCorrupt, "gguf: \"{}\" has type {} > {}", key, number,
                          static_cast<std::uint32_t>(GgufType::kFloat64)));
  return static_cast<GgufType>(number);
}

GgufValue ReadValue(Cursor& cursor, std::string_view key) {
  GgufValue value{ReadType(cursor, key), false, 1, {}};
  if (value.type == GgufType::kArray) {
    value.array = true;
    value.type = ReadType(cursor, key);
    value.count = cursor.Read<std::uint64_t>(key);
    if (value.type == GgufType::kArray)
      cursor.Fail(MakeError(ErrorCode::kCorrupt, "gguf: \"{}\" is an array of arrays", key));
  }
  const std::uint64_t begin = cursor.at();
  if (value.type == GgufType::kString) {
    for (std::uint64_t i = 0; i < value.count && cursor.status().ok(); ++i)
      cursor.Text(cursor.left(), key);
  } else if (const std::uint64_t size = std::max<std::uint64_t>(1, SizeOf(value.type));
             value.count > cursor.left() / size) {
    cursor.Fail(MakeError(ErrorCode::kCorrupt, "gguf: \"{}\" has {} values of {} bytes, {} left",
                          key, value.count, size, cursor.left()));
  } else {
    cursor.Take(value.count * size, key);
  }
  value.bytes = cursor.Since(begin);
  return value;
}

struct TensorEntry {
  TensorView view;
  std::uint64_t offset, bytes;
};

Status ReadShape(Cursor& cursor, TensorView& view) {
  const auto dimensions = cursor.Read<std::uint32_t>(view.name);
  if (dimensions < 1 || dimensions > kMaxDimensions)
    return MakeError(ErrorCode::kCorrupt, "gguf: tensor \"{}\" has {} dimensions, not in 1..{}",
                     view.name, dimensions, kMaxDimensions);
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    const auto extent = cursor.Read<std::uint64_t>(view.name);
    if (extent == 0 || extent > kMaxElements / elements)
      return MakeError(ErrorCode::kOutOfRange, "gguf: tensor \"{}\": extent {} beside {} elements",
                       view.name, extent, elements);
    elements *= extent;
    view.shape.insert(view.shape.begin(), static_cast<std::int64_t>(extent));
  }
  return {};
}

Result<TensorEntry> ReadEntry(Cursor& cursor) {
  TensorEntry entry{};
  entry.view.name = std::string(cursor.Text(kMaxKeyBytes, "a tensor's name"));
  PV_RETURN_IF_ERROR(ReadShape(cursor, entry.view));
  const auto number = cursor.Read<std::uint32_t>(entry.view.name);
  const auto type = ElementTypeFromGguf(number);
  if (!type)
    return MakeError(
        ErrorCode::kMismatch,
        "gguf: tensor \"{}\" has type {}, which is not read: F32, F16, BF16, F64, Q4_0 to "
        "Q8_0, Q2_K to Q8_K, IQ4_NL and IQ4_XS are",
        entry.view.name, NameOfGgufType(number));
  entry.view.type = *type;
  const ElementFormat& format = FormatOf(*type);
  const auto columns = static_cast<std::uint64_t>(entry.view.shape.back());
  if (columns % format.block_elements != 0)
    return MakeError(ErrorCode::kMismatch, "gguf: tensor \"{}\": rows of {}, blocks of {}",
                     entry.view.name, columns, format.block_elements);
  std::uint64_t elements = 1;
  for (const std::int64_t extent : entry.view.shape) elements *= static_cast<std::uint64_t>(extent);
  entry.bytes = elements / format.block_elements * format.block_bytes;
  entry.offset = cursor.Read<std::uint64_t>(entry.view.name);
  PV_RETURN_IF_ERROR(cursor.status());
  return entry;
}

std::uint64_t AlignUp(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

// Tensors follow each other, each at the next multiple of the alignment.
Status CheckLayout(const std::vector<TensorEntry>& entries, std::uint64_t data_bytes,
                   std::uint64_t alignment) {
  std::vector<const TensorEntry*> order;
  for (const TensorEntry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(),
            [](const TensorEntry* x, const TensorEntry* y) { return x->offset < y->offset; });
  std::uint64_t end = 0;
  for (const TensorEntry* entry : order) {
    if (entry->offset > data_bytes || entry->bytes > data_bytes - entry->offset)
      return MakeError(ErrorCode::kCorrupt, "gguf: tensor \"{}\": {} bytes at {}, data has {}",
                       entry->view.name, entry->bytes, entry->offset, data_bytes);
    if (entry->offset != AlignUp(end, alignment))
      return MakeError(ErrorCode::kCorrupt,
                       "gguf: tensor \"{}\" begins at {}, the one before ends at {} (alignment {})",
                       entry->view.name, entry->offset, end, alignment);
    end = entry->offset + entry->bytes;
  }
  if (data_bytes > AlignUp(end, alignment))
    return MakeError(ErrorCode::kCorrupt, "gguf: tensors cover {} of {} bytes", end, data_bytes);
  return {};
}

// Element `index` of a value of a fixed-size type, as a double (integers up to 2^53 exactly).
double NumberAt(const GgufValue& value, std::uint64_t index) {
  const std::uint8_t* at = value.bytes.data() + index * SizeOf(value.type);
  switch (value.type) {
    case GgufType::kUint8:
    case GgufType::kBool:
      return *at;
    case GgufType::kInt8:
      return static_cast<std::int8_t>(*at);
    case GgufType::kUint16:
      return Load<std::uint16_t>(at);
    case GgufType::kInt16:
      return Load<std::int16_t>(at);
    case GgufType::kUint32:
      return Load<std::uint32_t>(at);
    case GgufType::kInt32:
      return Load<std::int32_t>(at);
    case GgufType::kFloat32:
      return Load<float>(at);
    case GgufType::kUint64:
      return static_cast<double>(Load<std::uint64_t>(at));
    case GgufType::kInt64:
      return static_cast<double>(Load<std::int64_t>(at));
    case GgufType::kFloat64:
      return Load<double>(at);
    default:
      PV_CHECK(false, "no number");
  }
}

bool IsNumber(const GgufValue& value) { return SizeOf(value.type) > 0; }

Error WrongType(const std::string& key, const GgufValue& value, const char* wanted) {
  return MakeError(ErrorCode::kCorrupt, "gguf: \"{}\" has type {}{}, not {}", key,
                   static_cast<std::uint32_t>(value.type), value.array ? " (array)" : "", wanted);
}

}  // namespace

Result<GgufFile> GgufFile::Parse(std::span<const std::uint8_t> bytes) {
  Cursor cursor(bytes);
  GgufFile file;
  const auto magic = cursor.Take(4, "the magic");
  if (magic.empty() || std::memcmp(magic.data(), "GGUF", 4) != 0)
    return MakeError(ErrorCode::kCorrupt, "gguf: {} bytes that do not begin with \"GGUF\"",
                     bytes.size());
  const auto version = cursor.Read<std::uint32_t>("the version");
  if (version != 2 && version != 3)
    return MakeError(ErrorCode::kMismatch, "gguf: version {}, 2 and 3 are read", version);
  const auto tensors = cursor.Read<std::uint64_t>("the number of tensors");
  const auto keys = cursor.Read<std::uint64_t>("the number of keys");
  PV_RETURN_IF_ERROR(cursor.status());
  for (const auto& [what, count] : {std::pair{"tensors", tensors}, std::pair{"keys", keys}})
    if (count > kMaxEntries)
      return MakeError(ErrorCode::kOutOfRange, "gguf: {} {} > {}", count, what, kMaxEntries);
  for (std::uint64_t i = 0; i < keys; ++i) {
    const std::string key(cursor.Text(kMaxKeyBytes, "a key"));
    const GgufValue value = ReadValue(cursor, key);
    PV_RETURN_IF_ERROR(cursor.status());
    if (!file.metadata_.emplace(key, value).second)
      return MakeError(ErrorCode::kCorrupt, "gguf: key \"{}\" stands twice", key);
  }
  file.head_ = bytes.first(cursor.at());
  std::vector<TensorEntry> entries;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    PV_ASSIGN_OR_RETURN(TensorEntry entry, ReadEntry(cursor));
    entries.push_back(std::move(entry));
  }
  PV_ASSIGN_OR_RETURN(const auto alignment, file.Integer("general.alignment"));
  const std::int64_t align = alignment.value_or(kDefaultAlignment);
  if (align < 1 || align > 1 << 16 || (align & (align - 1)) != 0)
    return MakeError(ErrorCode::kOutOfRange,
                     "gguf: general.alignment = {}, no power of two up to {}", align, 1 << 16);
  const std::uint64_t data_at = std::min<std::uint64_t>(
      AlignUp(cursor.at(), static_cast<std::uint64_t>(align)), bytes.size());
  const auto data = bytes.subspan(data_at);
  PV_RETURN_IF_ERROR(CheckLayout(entries, data.size(), static_cast<std::uint64_t>(align)));
  for (TensorEntry& entry : entries) {
    entry.view.bytes = data.subspan(entry.offset, entry.bytes);
    const std::string name = entry.view.name;
    if (!file.tensors_.emplace(name, std::move(entry.view)).second)
      return MakeError(ErrorCode::kCorrupt, "gguf: tensor \"{}\" stands twice", name);
  }
  return file;
}

std::vector<std::uint8_t> GgufFile::MetadataOnly() const {
  constexpr std::size_t kTensorCountAt = 8;
  std::vector<std::uint8_t> out(head_.begin(), head_.end());
  std::fill_n(out.begin() + kTensorCountAt, sizeof(std::uint64_t), std::uint8_t{0});
  return out;
}

std::vector<std::string> GgufFile::Keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : metadata_) keys.push_back(key);
  return keys;
}

const GgufValue* GgufFile::Find(const std::string& key) const {
  const auto it = metadata_.find(key);
  return it == metadata_.end() ? nullptr : &it->second;
}

Result<std::optional<double>> GgufFile::Number(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<double>();
  if (value->array || !IsNumber(*value)) return WrongType(key, *value, "a number");
  const double number = NumberAt(*value, 0);
  if (!std::isfinite(number))
    return MakeError(ErrorCode::kOutOfRange, "gguf: \"{}\" = {} is not finite", key, number);
  return std::optional(number);
}

Result<std::optional<std::int64_t>> GgufFile::Integer(const std::string& key) const {
  PV_ASSIGN_OR_RETURN(const auto number, Number(key));
  if (!number) return std::optional<std::int64_t>();
  if (*number != std::floor(*number) || std::abs(*number) > 0x1p53)
    return MakeError(ErrorCode::kOutOfRange, "gguf: \"{}\" = {} is no integer below 2^53", key,
                     *number);
  return std::optional(static_cast<std::int64_t>(*number));
}

Result<std::optional<bool>> GgufFile::Bool(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<bool>();
  if (value->array || value->type != GgufType::kBool) return WrongType(key, *value, "a bool");
  return std::optional(value->bytes[0] != 0);
}

Result<std::optional<std::vector<std::string_view>>> GgufFile::Texts(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<std::vector<std::string_view>>();
  if (!value->array || value->type != GgufType::kString)
    return WrongType(key, *value, "an array of strings");
  std::vector<std::string_view> texts;
  Cursor cursor(value->bytes);
  for (std::uint64_t i = 0; i < value->count; ++i)
    texts.push_back(cursor.Text(value->bytes.size(), key));
  PV_RETURN_IF_ERROR(cursor.status());
  return std::optional(std::move(texts));
}

Result<std::optional<std::string>> GgufFile::Text(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<std::string>();
  if (value->array || value->type != GgufType::kString) return WrongType(key, *value, "a string");
  Cursor cursor(value->bytes);
  return std::optional(std::string(cursor.Text(value->bytes.size(), key)));
}

Result<std::optional<std::vector<double>>> GgufFile::Numbers(const std::string& key) const {
  const GgufValue* value = Find(key);
  if (!value) return std::optional<std::vector<double>>();
  if (!value->array || !IsNumber(*value)) return WrongType(key, *value, "an array of numbers");
  std::vector<double> numbers;
  for (std::uint64_t i = 0; i < value->count; ++i) numbers.push_back(NumberAt(*value, i));
  return std::optional(std::move(numbers));
}

}  // namespace polyveil::model
