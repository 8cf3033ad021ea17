#include "wire/packed_poly.h"

#include <cstring>

#include "base/thread_pool.h"

namespace polyveil::wire {
namespace {

size_t LimbBytes(const ring::Modulus& q, size_t n) { return n * q.bits / 8; }

void StoreLittle(std::uint8_t* out, u64 value, int bytes) {
  for (int i = 0; i < bytes; ++i) out[i] = static_cast<std::uint8_t>(value >> (8 * i));
}

u64 LoadLittle(const std::uint8_t* in, size_t bytes) {
  u64 value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= u64{in[i]} << (8 * i);
  return value;
}

void PackLimb(std::span<const u64> in, int bits, std::uint8_t* out) {
  u64 pending = 0;
  int filled = 0;  // bits of `pending` in use, below 8 before each residue
  for (const u64 residue : in) {
    pending |= residue << filled;  // bits + 7 <= 57
    filled += bits;
    const int bytes = filled / 8;
    StoreLittle(out, pending, bytes);
    out += bytes;
    pending >>= 8 * bytes;
    filled -= 8 * bytes;
  }
}

// Returns the index of the first residue >= q, or in.size() when all are in range.
size_t UnpackLimb(ByteView in, const ring::Modulus& q, std::span<u64> out) {
  const u64 mask = (u64{1} << q.bits) - 1;
  u64 bad = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const size_t bit = i * q.bits;
    const size_t byte = bit / 8;
    const u64 word = LoadLittle(in.data() + byte, std::min<size_t>(8, in.size() - byte));
    out[i] = (word >> (bit % 8)) & mask;
    bad |= out[i] >= q.q;
  }
  if (!bad) return out.size();
  size_t i = 0;
  while (out[i] < q.q) ++i;
  return i;
}

}  // namespace

Moduli LevelModuli(const ckks::Parameters& params, int level) {
  Moduli moduli;
  for (int i = 0; i < params.limbs(level); ++i) moduli.push_back(&params.q(i));
  return moduli;
}

Moduli KeyModuli(const ckks::KeyShape& shape) {
  Moduli moduli;
  for (const ring::NttTables* table : shape.tables) moduli.push_back(&table->modulus());
  return moduli;
}

size_t PackedBytes(const Moduli& moduli, size_t n) {
  size_t bytes = 0;
  for (const ring::Modulus* q : moduli) bytes += LimbBytes(*q, n);
  return bytes;
}

void WritePoly(Writer& writer, const ring::RnsPoly& poly, const Moduli& moduli) {
  PV_CHECK(poly.limbs() == moduli.size(), "{} limbs, {} moduli", poly.limbs(), moduli.size());
  std::uint8_t* out = writer.Extend(PackedBytes(moduli, poly.n()));
  std::vector<size_t> offsets;
  size_t offset = 0;
  for (const ring::Modulus* q : moduli) {
    offsets.push_back(offset);
    offset += LimbBytes(*q, poly.n());
  }
  ParallelFor(moduli.size(),
              [&](size_t i) { PackLimb(poly.limb(i), moduli[i]->bits, out + offsets[i]); });
}

Result<ring::RnsPoly> ReadPoly(Reader& reader, const Moduli& moduli, size_t n,
                               std::string_view field) {
  const size_t start = reader.offset();
  PV_ASSIGN_OR_RETURN(const ByteView bytes, reader.Raw(PackedBytes(moduli, n), field));
  std::vector<ByteView> views;
  size_t offset = 0;
  for (const ring::Modulus* q : moduli) {
    views.push_back(bytes.subspan(offset, LimbBytes(*q, n)));
    offset += LimbBytes(*q, n);
  }
  ring::RnsPoly poly(moduli.size(), n);
  std::vector<size_t> bad(moduli.size());
  ParallelFor(moduli.size(),
              [&](size_t i) { bad[i] = UnpackLimb(views[i], *moduli[i], poly.limb(i)); });
  for (size_t i = 0; i < moduli.size(); ++i) {
    if (bad[i] == n) continue;
    return MakeError(ErrorCode::kOutOfRange,
                     "{}: {} at offset {}: residue {} of limb {} is {} >= q = {}", reader.what(),
                     field, start, bad[i], i, poly.limb(i)[bad[i]], moduli[i]->q);
  }
  return poly;
}

}  // namespace polyveil::wire
