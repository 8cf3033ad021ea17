// Pooled, 64-byte aligned word buffers. Polynomials of 0.5..40 MB come and go in every operation;
// the pool keeps what is freed (page_arena.h), so that no operation pays for mmap and page faults.
#pragma once

#include <utility>

#include "base/int_types.h"

namespace polyveil {

// Owns `size()` uninitialised u64 words, 64-byte aligned. Moves are free; a copy copies the words.
// Thread safety: as a vector (distinct objects are independent; the pool behind them is
// thread-safe).
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t words);
  Buffer(const Buffer& other);
  Buffer& operator=(const Buffer& other);
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), words_(std::exchange(other.words_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(words_, other.words_);
    return *this;
  }
  ~Buffer();

  u64* data() { return data_; }
  const u64* data() const { return data_; }
  size_t size() const { return words_; }
  u64& operator[](size_t i) { return data_[i]; }
  const u64& operator[](size_t i) const { return data_[i]; }
  void Zero();
  // Overwrites the words so that the compiler cannot drop it; for buffers that held a secret.
  void Wipe();

 private:
  u64* data_ = nullptr;
  size_t words_ = 0;
};

namespace buffer_pool {

struct Stats {
  size_t bytes_in_use;      // held by live buffers
  size_t bytes_cached;      // free blocks kept for reuse
  size_t peak_bytes_total;  // largest in_use + cached so far
};

Stats GetStats();
// Returns every cached block to the system.
void Trim();
// Bytes of free blocks that the pool may keep (default: 2 GiB); what is above is returned at once.
void SetCacheLimit(size_t bytes);

// While one lives, the pool keeps all free blocks; what is above the limit is returned when the
// last one ends. For work whose blocks come and go by gigabytes: the system clears every page that
// it gives, which costs as much as several operations on it. The peak is that of the work.
class KeepFree {
 public:
  KeepFree();
  ~KeepFree();
  KeepFree(const KeepFree&) = delete;
};

}  // namespace buffer_pool
}  // namespace polyveil
