// The words of a key in the order in which a product reads them, whatever the key's storage: a
// compact key's uniform half is expanded block by block on the way and never stored.
#pragma once

#include <deque>

#include "ckks/keys.h"
#include "ckks/parameters.h"
#include "ring/samplers.h"

namespace polyveil::ckks {

// One limb of the first `rows` rows of a key, from its first word to its last. Used by one thread.
// Cost per word of a compact key: AES-256-CTR and a reduction, about 1.3 ns.
class KeyLimbReader {
 public:
  // limb: in the order of the key's ShapeOf. The key outlives the reader.
  KeyLimbReader(const Parameters& params, const KeySwitchKey& key, size_t limb, size_t rows);

  // Words of `scratch` that Next needs for a block; 0 when the key is expanded.
  size_t ScratchWords(size_t words) const { return streams_.size() * words; }
  // Points b[i] and a[i], i < rows, at the limb's next `words` words, valid until the next call and
  // as long as `scratch` (64-byte aligned). Together no more than N words.
  void Next(size_t words, u64* scratch, const u64** b, const u64** a);

 private:
  const KeySwitchKey& key_;
  const size_t limb_, rows_;
  size_t position_ = 0;
  std::deque<ring::UniformResidues> streams_;  // one per row; none when the key is expanded
};

}  // namespace polyveil::ckks
