// A ring element in RNS form: `limbs` rows of N residues, one contiguous aligned block.
#pragma once

#include <span>

#include "base/buffer.h"
#include "base/check.h"

namespace polyveil::ring {

// Storage only: which moduli the limbs belong to, and whether they are in NTT form, is the owner's
// knowledge.
class RnsPoly {
 public:
  RnsPoly() = default;
  // Uninitialised words.
  RnsPoly(size_t limbs, size_t n) : limbs_(limbs), n_(n), words_(limbs * n) {}
  static RnsPoly Zero(size_t limbs, size_t n) {
    RnsPoly result(limbs, n);
    result.words_.Zero();
    return result;
  }

  size_t limbs() const { return limbs_; }
  size_t n() const { return n_; }
  bool empty() const { return limbs_ == 0; }
  size_t bytes() const { return words_.size() * sizeof(u64); }  // allocated

  u64* data() { return words_.data(); }
  const u64* data() const { return words_.data(); }
  std::span<u64> limb(size_t i) { return {ptr(i), n_}; }
  std::span<const u64> limb(size_t i) const { return {ptr(i), n_}; }
  u64* ptr(size_t i) {
    PV_CHECK(i < limbs_, "limb {} of {}", i, limbs_);
    return words_.data() + i * n_;
  }
  const u64* ptr(size_t i) const {
    PV_CHECK(i < limbs_, "limb {} of {}", i, limbs_);
    return words_.data() + i * n_;
  }

  // Keeps the first `limbs` limbs in place (no copy, memory kept until destruction).
  void Truncate(size_t limbs) {
    PV_CHECK(limbs <= limbs_, "truncate to {} of {} limbs", limbs, limbs_);
    limbs_ = limbs;
  }
  // A copy of the first `limbs` limbs, exactly sized.
  RnsPoly CopyPrefix(size_t limbs) const;
  void Wipe() { words_.Wipe(); }

 private:
  size_t limbs_ = 0;
  size_t n_ = 0;
  Buffer words_;
};

}  // namespace polyveil::ring
