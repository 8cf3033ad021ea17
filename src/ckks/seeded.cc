#include "ckks/seeded.h"

#include "base/thread_pool.h"
#include "ring/samplers.h"

namespace polyveil::ckks {

Result<Ciphertext> Expand(const Parameters& params, const SeededCiphertext& seeded) {
  if (seeded.level < 0 || seeded.level > params.max_level())
    return MakeError(ErrorCode::kOutOfRange, "seeded ciphertext: level = {}, expected 0..{}",
                     seeded.level, params.max_level());
  const size_t limbs = params.limbs(seeded.level);
  const size_t n = params.n();
  if (seeded.c0.limbs() != limbs || seeded.c0.n() != n)
    return MakeError(ErrorCode::kMismatch, "seeded ciphertext: c0 is {} x {}, expected {} x {}",
                     seeded.c0.limbs(), seeded.c0.n(), limbs, n);
  Ciphertext result;
  result.level = seeded.level;
  result.scale = seeded.scale;
  result.parts.push_back(seeded.c0);
  result.parts.emplace_back(limbs, n);
  ring::RnsPoly& c1 = result.parts[1];
  ParallelFor(limbs, [&](size_t j) {
    ring::SampleUniform(seeded.seed, kCiphertextDomain, j, params.q(j), c1.limb(j));
  });
  return result;
}

Status ExpandKey(const Parameters& params, KeySwitchKey& key) {
  if (!key.a.empty()) return {};
  if (key.level < 0 || key.level > params.max_level())
    return MakeError(ErrorCode::kOutOfRange, "key: level = {}, expected 0..{}", key.level,
                     params.max_level());
  const KeyShape shape = ShapeOf(params, key.kind, key.level);
  if (key.b.size() != static_cast<size_t>(shape.rows))
    return MakeError(ErrorCode::kMismatch, "key: {} rows, expected {}", key.b.size(), shape.rows);
  const size_t n = params.n();
  for (const ring::RnsPoly& row : key.b)
    if (row.limbs() != shape.limbs() || row.n() != n)
      return MakeError(ErrorCode::kMismatch, "key: row of {} x {}, expected {} x {}", row.limbs(),
                       row.n(), shape.limbs(), n);
  for (int i = 0; i < shape.rows; ++i) key.a.emplace_back(shape.limbs(), n);
  ParallelFor(shape.rows * shape.limbs(), [&](size_t item) {
    const size_t row = item / shape.limbs(), j = item % shape.limbs();
    ring::SampleUniform(key.seed, kKeyDomain, KeyStreamIndex(row, shape.chain_indices[j]),
                        shape.tables[j]->modulus(), key.a[row].limb(j));
  });
  return {};
}

Status ExpandKeys(const Parameters& params, EvaluationKeys& keys) {
  Status status;
  keys.ForEach([&](KeySwitchKey& key) {
    if (status.ok()) status = ExpandKey(params, key);
  });
  return status;
}

void CompactKeys(EvaluationKeys& keys) {
  keys.ForEach([](KeySwitchKey& key) { key.a.clear(); });
}

}  // namespace polyveil::ckks
