// Test support: GGUF files written by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "model/formats/gguf.h"

namespace polyveil::model {

// Writes GGUF by hand, whatever is asked for.
class GgufWriter {
 public:
  template <typename T>
  GgufWriter& Add(T value) {
    const auto* at = reinterpret_cast<const std::uint8_t*>(&value);
    bytes.insert(bytes.end(), at, at + sizeof value);
    return *this;
  }
  GgufWriter& Text(const std::string& text) {
    Add<std::uint64_t>(text.size());
    for (const char c : text) bytes.push_back(static_cast<std::uint8_t>(c));
    return *this;
  }
  GgufWriter& Header(std::uint64_t tensors, std::uint64_t keys, std::uint32_t version = 3) {
    for (const char c : {'G', 'G', 'U', 'F'}) bytes.push_back(static_cast<std::uint8_t>(c));
    return Add(version).Add(tensors).Add(keys);
  }
  GgufWriter& Tensor(const std::string& name, std::vector<std::uint64_t> extents,
                     std::uint32_t type, std::uint64_t offset) {
    Text(name).Add(static_cast<std::uint32_t>(extents.size()));
    for (const std::uint64_t extent : extents) Add(extent);
    return Add(type).Add(offset);
  }
  GgufWriter& Data(std::size_t count) {
    bytes.resize((bytes.size() + 31) / 32 * 32 + count);
    return *this;
  }
  std::string Error() const {
    const auto file = GgufFile::Parse(bytes);
    return file.ok() ? "" : file.error().message;
  }

  std::vector<std::uint8_t> bytes;
};

// A file as keys and tensors, laid out when it is asked for.
class GgufModel {
 public:
  GgufModel& Set(const std::string& key, std::uint32_t value) { return Put(key, 4, value); }
  GgufModel& Set(const std::string& key, float value) { return Put(key, 6, value); }
  GgufModel& Set(const std::string& key, bool value) {
    return Put<std::uint8_t>(key, 7, value ? 1 : 0);
  }
  GgufModel& Set(const std::string& key, const char* value) { return Set(key, std::string(value)); }
  GgufModel& Set(const std::string& key, const std::string& value) {
    GgufWriter w;
    w.Add(8u).Text(value);
    keys_[key] = w.bytes;
    return *this;
  }
  GgufModel& Set(const std::string& key, const std::vector<std::string>& values) {
    GgufWriter w;
    w.Add(9u).Add(8u).Add<std::uint64_t>(values.size());
    for (const std::string& value : values) w.Text(value);
    keys_[key] = w.bytes;
    return *this;
  }
  template <typename T>
  GgufModel& SetNumbers(const std::string& key, std::uint32_t type, const std::vector<T>& values) {
    GgufWriter w;
    w.Add(9u).Add(type).template Add<std::uint64_t>(values.size());
    for (const T value : values) w.Add(value);
    keys_[key] = w.bytes;
    return *this;
  }
  // shape: row-major. Bytes are random, float32 values small.
  GgufModel& AddTensor(const std::string& name, const std::vector<std::uint64_t>& shape,
                       std::uint32_t type);

  std::vector<std::uint8_t> Bytes() const;

 private:
  struct Tensor {
    std::vector<std::uint64_t> shape;
    std::uint32_t type;
    std::vector<std::uint8_t> bytes;
  };
  template <typename T>
  GgufModel& Put(const std::string& key, std::uint32_t type, T value) {
    GgufWriter w;
    w.Add(type).Add(value);
    keys_[key] = w.bytes;
    return *this;
  }

  std::map<std::string, std::vector<std::uint8_t>> keys_;
  std::map<std::string, Tensor> tensors_;
};

inline GgufModel& GgufModel::AddTensor(const std::string& name,
                                       const std::vector<std::uint64_t>& shape,
                                       std::uint32_t type) {
  std::mt19937_64 random(std::hash<std::string>()(name));
  std::size_t elements = 1;
  for (const std::uint64_t extent : shape) elements *= extent;
  const ElementFormat& format = FormatOf(*ElementTypeFromGguf(type));
  GgufWriter w;
  if (type == 0) {
    for (std::size_t i = 0; i < elements; ++i)
      w.Add(static_cast<float>(random() % 1000) * 1e-3f - 0.5f);
  } else {
    for (std::size_t i = 0; i < elements / format.block_elements * format.block_bytes; ++i)
      w.Add(static_cast<std::uint8_t>(random()));
  }
  tensors_[name] = {shape, type, w.bytes};
  return *this;
}

inline std::vector<std::uint8_t> GgufModel::Bytes() const {
  const auto align = [](std::size_t n) { return (n + 31) / 32 * 32; };
  GgufWriter w;
  w.Header(tensors_.size(), keys_.size());
  for (const auto& [key, value] : keys_) {
    w.Text(key);
    w.bytes.insert(w.bytes.end(), value.begin(), value.end());
  }
  std::size_t offset = 0;
  for (const auto& [name, tensor] : tensors_) {
    w.Tensor(name, {tensor.shape.rbegin(), tensor.shape.rend()}, tensor.type, offset);
    offset += align(tensor.bytes.size());
  }
  w.Data(0);
  for (const auto& [name, tensor] : tensors_) {
    w.bytes.insert(w.bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
    w.bytes.resize(align(w.bytes.size()));
  }
  return w.bytes;
}

// A Llama with every quantised type: width 32, a layer for each type of 256 elements, one of 32
// beside it.
inline GgufModel BlockLlama() {
  constexpr std::uint32_t kWide[] = {10, 11, 12, 13, 14, 15, 23};
  constexpr std::uint32_t kNarrow[] = {2, 3, 6, 7, 8, 20, 30};
  GgufModel m;
  m.Set("general.architecture", "llama").Set("llama.block_count", 7u).Set("llama.vocab_size", 32u);
  m.Set("llama.embedding_length", 32u).Set("llama.attention.head_count", 4u);
  m.Set("llama.attention.head_count_kv", 2u).Set("llama.feed_forward_length", 256u);
  m.Set("llama.context_length", 64u).Set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  m.Set("llama.rope.dimension_count", 8u).Set("llama.rope.freq_base", 10000.0f);
  m.AddTensor("token_embd.weight", {32, 32}, 0).AddTensor("output_norm.weight", {32}, 0);
  for (int i = 0; i < 7; ++i) {
    const std::string at = "blk." + std::to_string(i) + ".";
    m.AddTensor(at + "attn_norm.weight", {32}, 0).AddTensor(at + "ffn_norm.weight", {32}, 0);
    m.AddTensor(at + "attn_q.weight", {32, 32}, kNarrow[i]);
    m.AddTensor(at + "attn_k.weight", {16, 32}, kNarrow[i]);
    m.AddTensor(at + "attn_v.weight", {16, 32}, 1);
    m.AddTensor(at + "attn_output.weight", {32, 32}, 8);
    m.AddTensor(at + "ffn_gate.weight", {256, 32}, kNarrow[i]);
    m.AddTensor(at + "ffn_up.weight", {256, 32}, 8);
    m.AddTensor(at + "ffn_down.weight", {32, 256}, kWide[i]);
  }
  return m;
}

}  // namespace polyveil::model
