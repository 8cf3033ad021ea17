// Bounded little-endian reading and writing: the only way bytes become numbers in this module.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/int_types.h"
#include "base/result.h"

namespace polyveil::wire {

using Bytes = std::vector<std::uint8_t>;
using ByteView = std::span<const std::uint8_t>;

// Appends to a vector. Never fails.
class Writer {
 public:
  explicit Writer(size_t reserve = 0) { bytes_.reserve(reserve); }

  void U8(std::uint8_t value) { bytes_.push_back(value); }
  void U16(std::uint16_t value) { Little(value, 2); }
  void U32(u32 value) { Little(value, 4); }
  void U64(u64 value) { Little(value, 8); }
  void I32(i32 value) { Little(static_cast<u32>(value), 4); }
  void F64(double value);
  void Raw(ByteView bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  // Grows by `count` bytes and returns where they start; valid until the next call.
  std::uint8_t* Extend(size_t count);

  size_t size() const { return bytes_.size(); }
  Bytes& bytes() { return bytes_; }
  Bytes Take() { return std::move(bytes_); }

 private:
  void Little(u64 value, int count);
  Bytes bytes_;
};

// Reads from a view that outlives it. Every error names the field, its offset and both sizes or
// values.
class Reader {
 public:
  // `what` begins every message: "seeded ciphertext".
  Reader(ByteView bytes, std::string what) : bytes_(bytes), what_(std::move(what)) {}

  Result<std::uint8_t> U8(std::string_view field);
  Result<std::uint16_t> U16(std::string_view field);
  Result<u32> U32(std::string_view field);
  Result<u64> U64(std::string_view field);
  Result<i32> I32(std::string_view field);
  Result<double> F64(std::string_view field);
  Result<ByteView> Raw(size_t count, std::string_view field);
  template <size_t kSize>
  Result<std::array<std::uint8_t, kSize>> Array(std::string_view field);
  // kCorrupt when bytes are left over.
  Status ExpectEnd() const;

  size_t offset() const { return offset_; }
  size_t remaining() const { return bytes_.size() - offset_; }
  const std::string& what() const { return what_; }

 private:
  Result<u64> Little(int count, std::string_view field);
  ByteView bytes_;
  size_t offset_ = 0;
  std::string what_;
};

template <size_t kSize>
Result<std::array<std::uint8_t, kSize>> Reader::Array(std::string_view field) {
  PV_ASSIGN_OR_RETURN(const ByteView view, Raw(kSize, field));
  std::array<std::uint8_t, kSize> out;
  std::copy(view.begin(), view.end(), out.begin());
  return out;
}

}  // namespace polyveil::wire
