#include "wire/ciphertext_format.h"

#include <algorithm>
#include <cmath>

#include "wire/packed_poly.h"

namespace polyveil::wire {
namespace {

constexpr size_t kPrefixBytes = 4 + 4 + 8;  // position, level, scale
constexpr size_t kSeedBytes = 32;
constexpr double kScaleTolerance = 0x1p-20;

size_t PolyBytes(const ckks::Parameters& params, int level) {
  return PackedBytes(LevelModuli(params, level), params.n());
}

void WritePrefix(Writer& writer, u32 position, int level, double scale) {
  writer.U32(position);
  writer.U32(static_cast<u32>(level));
  writer.F64(scale);
}

// Returns the scale: the sender's exact one, not the nominal one.
Result<double> ReadPrefix(Reader& reader, const MessageBounds& bounds) {
  PV_ASSIGN_OR_RETURN(const u32 position, reader.U32("position"));
  if (position != bounds.position) {
    return MakeError(ErrorCode::kMismatch, "{}: position = {}, expected {}", reader.what(),
                     position, bounds.position);
  }
  PV_ASSIGN_OR_RETURN(const u32 level, reader.U32("level"));
  if (level != static_cast<u32>(bounds.level)) {
    return MakeError(ErrorCode::kMismatch, "{}: level = {}, expected {}", reader.what(), level,
                     bounds.level);
  }
  PV_ASSIGN_OR_RETURN(const double scale, reader.F64("scale"));
  const bool near = std::abs(scale - bounds.scale) <= kScaleTolerance * bounds.scale;
  if (!std::isfinite(scale) || scale <= 0 || !near) {
    return MakeError(ErrorCode::kMismatch, "{}: scale = {}, expected {}", reader.what(), scale,
                     bounds.scale);
  }
  return scale;
}

// A part of a ciphertext. Where c1 is zero the message lies open and says nothing of who made it.
// Residues of an honest part are uniform: half of them zero has a probability below 2^-(5 N).
Result<ring::RnsPoly> ReadPart(Reader& reader, const Moduli& moduli, size_t n, const char* field) {
  PV_ASSIGN_OR_RETURN(ring::RnsPoly part, ReadPoly(reader, moduli, n, field));
  for (size_t i = 0; i < part.limbs(); ++i) {
    const auto zeros = static_cast<size_t>(std::ranges::count(part.limb(i), u64{0}));
    if (zeros <= n / 2) continue;
    return MakeError(ErrorCode::kCorrupt,
                     "{}: {} of {} residues of {} modulo q_{} are zero (not encrypted)",
                     reader.what(), zeros, n, field, i);
  }
  return part;
}

Expected Requirement(Kind kind, const MessageBounds& bounds, size_t total_bytes) {
  Expected expected;
  expected.kind = kind;
  expected.params = &bounds.binding.params;
  expected.model = &bounds.binding.model;
  expected.key_id = &bounds.binding.key_id;
  expected.min_payload_bytes = expected.max_payload_bytes = total_bytes - kHeaderBytes;
  return expected;
}

}  // namespace

size_t TokenBytes(const ckks::Parameters& params, int level) {
  return kHeaderBytes + kPrefixBytes + kSeedBytes + PolyBytes(params, level);
}

size_t ResultBytes(const ckks::Parameters& params, int level) {
  return kHeaderBytes + kPrefixBytes + 2 * PolyBytes(params, level);
}

Bytes FormatToken(const ckks::Parameters& params, const Binding& binding, u32 position,
                  const ckks::SeededCiphertext& token) {
  Writer writer = BeginContainer(TokenBytes(params, token.level) - kHeaderBytes);
  WritePrefix(writer, position, token.level, token.scale);
  writer.Raw(token.seed);
  WritePoly(writer, token.c0, LevelModuli(params, token.level));
  return FinishContainer(std::move(writer), Kind::kToken, binding);
}

Result<ckks::SeededCiphertext> ParseToken(const ckks::Parameters& params, ByteView bytes,
                                          const MessageBounds& bounds) {
  const Expected expected = Requirement(Kind::kToken, bounds, TokenBytes(params, bounds.level));
  PV_ASSIGN_OR_RETURN(const Container container, OpenContainer(bytes, expected));
  Reader reader(container.payload, KindName(Kind::kToken));
  ckks::SeededCiphertext token;
  token.level = bounds.level;
  PV_ASSIGN_OR_RETURN(token.scale, ReadPrefix(reader, bounds));
  PV_ASSIGN_OR_RETURN(token.seed, reader.Array<kSeedBytes>("seed"));
  // Its c1 is the expansion of the seed (ckks::Expand): zero would be a preimage of zero.
  PV_ASSIGN_OR_RETURN(token.c0,
                      ReadPart(reader, LevelModuli(params, bounds.level), params.n(), "c0"));
  PV_RETURN_IF_ERROR(reader.ExpectEnd());
  return token;
}

Bytes FormatResult(const ckks::Parameters& params, const Binding& binding, u32 position,
                   const ckks::Ciphertext& result) {
  PV_CHECK(result.degree() == 1, "a result of degree {}", result.degree());
  const Moduli moduli = LevelModuli(params, result.level);
  Writer writer = BeginContainer(ResultBytes(params, result.level) - kHeaderBytes);
  WritePrefix(writer, position, result.level, result.scale);
  for (const ring::RnsPoly& part : result.parts) WritePoly(writer, part, moduli);
  return FinishContainer(std::move(writer), Kind::kResult, binding);
}

Result<ckks::Ciphertext> ParseResult(const ckks::Parameters& params, ByteView bytes,
                                     const MessageBounds& bounds) {
  const Expected expected = Requirement(Kind::kResult, bounds, ResultBytes(params, bounds.level));
  PV_ASSIGN_OR_RETURN(const Container container, OpenContainer(bytes, expected));
  Reader reader(container.payload, KindName(Kind::kResult));
  const Moduli moduli = LevelModuli(params, bounds.level);
  ckks::Ciphertext result;
  result.level = bounds.level;
  PV_ASSIGN_OR_RETURN(result.scale, ReadPrefix(reader, bounds));
  for (const char* field : {"c0", "c1"}) {
    PV_ASSIGN_OR_RETURN(ring::RnsPoly part, ReadPart(reader, moduli, params.n(), field));
    result.parts.push_back(std::move(part));
  }
  PV_RETURN_IF_ERROR(reader.ExpectEnd());
  return result;
}

Result<ckks::Ciphertext> ParseAnyResult(const ckks::Parameters& params, ByteView bytes,
                                        Digest& key_id) {
  constexpr double kLogScaleBound = 20;
  MessageBounds bounds;
  bounds.binding.params = params.digest();
  Expected expected;
  expected.kind = Kind::kResult;
  expected.params = &bounds.binding.params;
  expected.model = &bounds.binding.model;
  expected.min_payload_bytes = ResultBytes(params, 0) - kHeaderBytes;
  expected.max_payload_bytes = ResultBytes(params, params.max_level()) - kHeaderBytes;
  PV_ASSIGN_OR_RETURN(const Header header, ParseHeader(bytes, expected));
  key_id = bounds.binding.key_id = header.binding.key_id;
  Reader reader(bytes.subspan(kHeaderBytes), KindName(Kind::kResult));
  PV_RETURN_IF_ERROR(reader.U32("position"));
  PV_ASSIGN_OR_RETURN(const u32 level, reader.U32("level"));
  if (level > static_cast<u32>(params.max_level()))
    return MakeError(ErrorCode::kOutOfRange, "{}: level = {} > {}", reader.what(), level,
                     params.max_level());
  bounds.level = static_cast<int>(level);
  PV_ASSIGN_OR_RETURN(bounds.scale, reader.F64("scale"));
  const double nominal = params.scale(bounds.level);
  if (!(std::abs(std::log2(bounds.scale / nominal)) <= kLogScaleBound))
    return MakeError(ErrorCode::kMismatch, "{}: scale = {}, {} is nominal", reader.what(),
                     bounds.scale, nominal);
  return ParseResult(params, bytes, bounds);
}

}  // namespace polyveil::wire
