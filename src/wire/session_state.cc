#include "wire/session_state.h"

#include <cmath>

#include "wire/packed_poly.h"

namespace polyveil::wire {
namespace {

constexpr size_t kMaxParts = 2;

Result<ckks::Ciphertext> ReadValue(Reader& reader, const ckks::Parameters& params) {
  ckks::Ciphertext value;
  PV_ASSIGN_OR_RETURN(const auto parts, reader.U8("parts"));
  if (parts > kMaxParts)
    return MakeError(ErrorCode::kOutOfRange, "{}: a value of {} parts > {}", reader.what(), parts,
                     kMaxParts);
  if (parts == 0) return value;
  PV_ASSIGN_OR_RETURN(const u32 level, reader.U32("level"));
  if (level > static_cast<u32>(params.max_level()))
    return MakeError(ErrorCode::kOutOfRange, "{}: level {} > {}", reader.what(), level,
                     params.max_level());
  value.level = static_cast<int>(level);
  PV_ASSIGN_OR_RETURN(value.scale, reader.F64("scale"));
  if (!std::isfinite(value.scale) || value.scale <= 0)
    return MakeError(ErrorCode::kCorrupt, "{}: scale {}", reader.what(), value.scale);
  const Moduli moduli = LevelModuli(params, value.level);
  for (int i = 0; i < parts; ++i) {
    PV_ASSIGN_OR_RETURN(ring::RnsPoly part, ReadPoly(reader, moduli, params.n(), "part"));
    value.parts.push_back(std::move(part));
  }
  return value;
}

}  // namespace

Bytes FormatSessionState(const ckks::Parameters& params, const Binding& binding, u32 position,
                         std::span<const ckks::Ciphertext> values) {
  size_t bytes = 8;
  for (const ckks::Ciphertext& value : values)
    bytes += 13 + value.parts.size() * PackedBytes(LevelModuli(params, value.level), params.n());
  Writer writer = BeginContainer(bytes);
  writer.U32(position);
  writer.U32(static_cast<u32>(values.size()));
  for (const ckks::Ciphertext& value : values) {
    PV_CHECK(value.parts.size() <= kMaxParts, "a value of {} parts", value.parts.size());
    writer.U8(static_cast<std::uint8_t>(value.parts.size()));
    if (value.parts.empty()) continue;
    writer.U32(static_cast<u32>(value.level));
    writer.F64(value.scale);
    for (const ring::RnsPoly& part : value.parts)
      WritePoly(writer, part, LevelModuli(params, value.level));
  }
  return FinishContainer(std::move(writer), Kind::kSessionState, binding);
}

Result<std::vector<ckks::Ciphertext>> ParseSessionState(const ckks::Parameters& params,
                                                        ByteView bytes, const Binding& binding,
                                                        u32 position, size_t max_values) {
  Expected expected;
  expected.kind = Kind::kSessionState;
  expected.params = &binding.params;
  expected.model = &binding.model;
  expected.key_id = &binding.key_id;
  expected.max_payload_bytes = bytes.size();
  PV_ASSIGN_OR_RETURN(const Container container, OpenContainer(bytes, expected));
  Reader reader(container.payload, KindName(Kind::kSessionState));
  PV_ASSIGN_OR_RETURN(const u32 found, reader.U32("position"));
  if (found != position)
    return MakeError(ErrorCode::kMismatch, "{}: position = {}, expected {}", reader.what(), found,
                     position);
  PV_ASSIGN_OR_RETURN(const u32 count, reader.U32("count"));
  if (count > max_values)
    return MakeError(ErrorCode::kOutOfRange, "{}: {} values > {}", reader.what(), count,
                     max_values);
  std::vector<ckks::Ciphertext> values;
  for (u32 i = 0; i < count; ++i) {
    PV_ASSIGN_OR_RETURN(ckks::Ciphertext value, ReadValue(reader, params));
    values.push_back(std::move(value));
  }
  PV_RETURN_IF_ERROR(reader.ExpectEnd());
  return values;
}

}  // namespace polyveil::wire
