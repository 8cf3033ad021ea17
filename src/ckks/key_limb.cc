#include "ckks/key_limb.h"

#include "ckks/key_shape.h"
#include "ckks/seeded.h"

namespace polyveil::ckks {

KeyLimbReader::KeyLimbReader(const Parameters& params, const KeySwitchKey& key, size_t limb,
                             size_t rows)
    : key_(key), limb_(limb), rows_(rows) {
  PV_CHECK(rows <= key.b.size(), "{} rows of {}", rows, key.b.size());
  if (!key.compact()) return;
  const KeyShape shape = ShapeOf(params, key.kind, key.level);
  for (size_t i = 0; i < rows; ++i)
    streams_.emplace_back(key.seed, kKeyDomain, KeyStreamIndex(i, shape.chain_indices[limb]),
                          shape.tables[limb]->modulus());
}

void KeyLimbReader::Next(size_t words, u64* scratch, const u64** b, const u64** a) {
  for (size_t i = 0; i < rows_; ++i) {
    b[i] = key_.b[i].ptr(limb_) + position_;
    if (streams_.empty()) {
      a[i] = key_.a[i].ptr(limb_) + position_;
    } else {
      streams_[i].Fill({scratch + i * words, words});
      a[i] = scratch + i * words;
    }
  }
  position_ += words;
}

}  // namespace polyveil::ckks
