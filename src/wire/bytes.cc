#include "wire/bytes.h"

#include <bit>

namespace polyveil::wire {

void Writer::Little(u64 value, int count) {
  for (int i = 0; i < count; ++i) bytes_.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

void Writer::F64(double value) { U64(std::bit_cast<u64>(value)); }

std::uint8_t* Writer::Extend(size_t count) {
  bytes_.resize(bytes_.size() + count);
  return bytes_.data() + bytes_.size() - count;
}

Result<ByteView> Reader::Raw(size_t count, std::string_view field) {
  if (count > remaining()) {
    return MakeError(ErrorCode::kCorrupt, "{}: field '{}' at offset {} needs {} bytes, {} left",
                     what_, field, offset_, count, remaining());
  }
  const ByteView view = bytes_.subspan(offset_, count);
  offset_ += count;
  return view;
}

Result<u64> Reader::Little(int count, std::string_view field) {
  PV_ASSIGN_OR_RETURN(const ByteView view, Raw(count, field));
  u64 value = 0;
  for (int i = 0; i < count; ++i) value |= u64{view[i]} << (8 * i);
  return value;
}

Result<std::uint8_t> Reader::U8(std::string_view field) {
  PV_ASSIGN_OR_RETURN(const u64 value, Little(1, field));
  return static_cast<std::uint8_t>(value);
}

Result<std::uint16_t> Reader::U16(std::string_view field) {
  PV_ASSIGN_OR_RETURN(const u64 value, Little(2, field));
  return static_cast<std::uint16_t>(value);
}

Result<u32> Reader::U32(std::string_view field) {
  PV_ASSIGN_OR_RETURN(const u64 value, Little(4, field));
  return static_cast<u32>(value);
}

Result<u64> Reader::U64(std::string_view field) { return Little(8, field); }

Result<i32> Reader::I32(std::string_view field) {
  PV_ASSIGN_OR_RETURN(const u64 value, Little(4, field));
  return static_cast<i32>(static_cast<u32>(value));
}

Result<double> Reader::F64(std::string_view field) {
  PV_ASSIGN_OR_RETURN(const u64 value, Little(8, field));
  return std::bit_cast<double>(value);
}

Status Reader::ExpectEnd() const {
  if (remaining() == 0) return {};
  return MakeError(ErrorCode::kCorrupt, "{}: {} bytes after its end at offset {}", what_,
                   remaining(), offset_);
}

}  // namespace polyveil::wire
