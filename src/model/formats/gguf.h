// GGUF, versions 2 and 3, little endian: own bounded parser of the metadata and the tensors' index.
// Layout after ggml's docs/gguf.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/formats/tensor_view.h"

namespace polyveil::model {

struct Architecture;

enum class GgufType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

// One value where it stands in the file: nothing is copied until it is asked for.
struct GgufValue {
  GgufType type;  // of the value, or of an array's elements
  bool array;
  std::uint64_t count;  // 1, or of an array
  std::span<const std::uint8_t> bytes;
};

class GgufFile {
 public:
  // Refuses: another magic or version, counts and lengths beyond the file or beyond 2^16 entries,
  // unknown types, nested arrays, duplicate keys and tensors, shapes that overflow or cut a block,
  // tensors that are misaligned, overlap, leave gaps or leave the file. Errors: kCorrupt,
  // kOutOfRange, kMismatch; the key or tensor named, with both values. Memory: O(keys + tensors).
  static Result<GgufFile> Parse(std::span<const std::uint8_t> bytes);

  // Typed access; nothing when the key is absent. Errors: kCorrupt when it has another type,
  // kOutOfRange when it does not fit.
  Result<std::optional<std::int64_t>> Integer(const std::string& key) const;
  Result<std::optional<double>> Number(const std::string& key) const;
  Result<std::optional<bool>> Bool(const std::string& key) const;
  Result<std::optional<std::string>> Text(const std::string& key) const;
  // Elements stay in the file's bytes.
  Result<std::optional<std::vector<std::string_view>>> Texts(const std::string& key) const;
  Result<std::optional<std::vector<double>>> Numbers(const std::string& key) const;

  // A file of the same metadata without tensors: what a tokenizer needs.
  std::vector<std::uint8_t> MetadataOnly() const;

  bool Has(const std::string& key) const { return metadata_.contains(key); }
  std::vector<std::string> Keys() const;
  // Shapes in row-major order (the file's reversed).
  const TensorViews& tensors() const { return tensors_; }

 private:
  const GgufValue* Find(const std::string& key) const;

  std::map<std::string, GgufValue> metadata_;
  TensorViews tensors_;
  std::span<const std::uint8_t> head_;  // magic, version, counts, all keys with their values
};

// The architecture that the metadata and the tensors' names describe: general.architecture llama
// (Mistral's files too), qwen2, gpt2, gptneox or bert. Every key is used, known not to change the
// forward pass, or refused. Errors: kNotFound, kCorrupt, kOutOfRange, kMismatch; the key named.
Result<Architecture> GgufArchitecture(const GgufFile& file);

}  // namespace polyveil::model
