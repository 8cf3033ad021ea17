#include "base/buffer.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "base/page_arena.h"
#include "base/secure_memory.h"

namespace polyveil {
namespace {

// Blocks from this size on come from the arena, and stand at multiples of its granule.
constexpr size_t kArenaThreshold = size_t{1} << 17;

// Small ones: eight classes per power of two, at most 12.5% unused. Aligned to a page at least,
// which the arena's are as well.
size_t SizeClass(size_t bytes) {
  constexpr size_t kPage = PageArena::kGranule;
  if (bytes <= kPage) return kPage;
  const size_t step = bytes >= kArenaThreshold ? kPage : std::max(std::bit_floor(bytes) / 8, kPage);
  return (bytes + step - 1) / step * step;
}

class Pool {
 public:
  // Never destroyed: buffers of static objects may outlive any order of destruction.
  static Pool& Instance() {
    static Pool* pool = new Pool;
    return *pool;
  }

  void* Allocate(size_t bytes) {
    const std::lock_guard lock(mutex_);
    void* block = bytes >= kArenaThreshold ? arena_.Allocate(bytes) : AllocateSmall(bytes);
    if (block == nullptr && bytes >= kArenaThreshold) {
      Release(0);
      block = arena_.Allocate(bytes);
    }
    PV_CHECK(block != nullptr, "out of memory: {} bytes more than {} in use", bytes, in_use_);
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_ + Cached());
    return block;
  }

  void Free(void* block, size_t bytes) {
    const std::lock_guard lock(mutex_);
    in_use_ -= bytes;
    if (bytes >= kArenaThreshold) {
      arena_.Free(block, bytes);
    } else {
      small_[bytes].push_back(block);
      small_bytes_ += bytes;
    }
    if (keepers_ == 0) Release(limit_);
  }

  void AddKeepers(int count) {
    const std::lock_guard lock(mutex_);
    keepers_ += count;
    if (keepers_ == 0) Release(limit_);
  }

  void Trim() {
    const std::lock_guard lock(mutex_);
    Release(0);
  }

  buffer_pool::Stats GetStats() {
    const std::lock_guard lock(mutex_);
    return {in_use_, Cached(), peak_};
  }

  void SetLimit(size_t bytes) {
    const std::lock_guard lock(mutex_);
    limit_ = bytes;
    Release(limit_);
  }

 private:
  size_t Cached() const { return small_bytes_ + arena_.free_bytes(); }

  void* AllocateSmall(size_t bytes) {
    std::vector<void*>& blocks = small_[bytes];
    if (blocks.empty()) return std::aligned_alloc(PageArena::kGranule, bytes);
    void* block = blocks.back();
    blocks.pop_back();
    small_bytes_ -= bytes;
    return block;
  }

  // All small blocks first: they are few.
  void Release(size_t bytes) {
    if (Cached() <= bytes) return;
    for (auto& [size, blocks] : small_) {
      for (void* block : blocks) std::free(block);
      blocks.clear();
    }
    small_bytes_ = 0;
    arena_.ReleaseBeyond(bytes);
  }

  std::mutex mutex_;
  PageArena arena_;
  std::unordered_map<size_t, std::vector<void*>> small_;  // free ones, by size
  size_t small_bytes_ = 0, in_use_ = 0, peak_ = 0;
  size_t limit_ = size_t{2} << 30;
  int keepers_ = 0;
};

}  // namespace

Buffer::Buffer(size_t words) : words_(words) {
  if (words == 0) return;
  PV_CHECK(words < (size_t{1} << 45), "buffer of {} words", words);
  data_ = static_cast<u64*>(Pool::Instance().Allocate(SizeClass(words * sizeof(u64))));
}

Buffer::Buffer(const Buffer& other) : Buffer(other.words_) {
  if (words_ > 0) std::memcpy(data_, other.data_, words_ * sizeof(u64));
}

Buffer& Buffer::operator=(const Buffer& other) {
  if (this == &other) return *this;
  if (words_ != other.words_) *this = Buffer(other.words_);
  if (words_ > 0) std::memcpy(data_, other.data_, words_ * sizeof(u64));
  return *this;
}

Buffer::~Buffer() {
  if (data_ != nullptr) Pool::Instance().Free(data_, SizeClass(words_ * sizeof(u64)));
}

void Buffer::Zero() {
  if (words_ > 0) std::memset(data_, 0, words_ * sizeof(u64));
}

void Buffer::Wipe() {
  if (words_ > 0) SecureWipe(data_, words_ * sizeof(u64));
}

namespace buffer_pool {

Stats GetStats() { return Pool::Instance().GetStats(); }
void Trim() { Pool::Instance().Trim(); }
void SetCacheLimit(size_t bytes) { Pool::Instance().SetLimit(bytes); }
KeepFree::KeepFree() { Pool::Instance().AddKeepers(1); }
KeepFree::~KeepFree() { Pool::Instance().AddKeepers(-1); }

}  // namespace buffer_pool
}  // namespace polyveil
