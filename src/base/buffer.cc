#include "base/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/secure_memory.h"

namespace polyveil {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kMapThreshold = size_t{1} << 20;

// Eight classes per power of two: at most 12.5% unused, and near-equal polynomials share blocks.
size_t SizeClass(size_t bytes) {
  if (bytes <= kPage) return kPage;
  const size_t step = std::max(std::bit_floor(bytes) / 8, kPage);
  return (bytes + step - 1) / step * step;
}

// Mapped at a huge-page boundary, so that the kernel can back the block with huge pages.
void* MapBlock(size_t bytes) {
  const size_t reserved = bytes + kHugePage;
  void* base = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  const auto start = reinterpret_cast<std::uintptr_t>(base);
  const auto aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(base, aligned - start);
  const size_t tail = start + reserved - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  void* block = reinterpret_cast<void*>(aligned);
  madvise(block, bytes, MADV_HUGEPAGE);  // advice only: a refusal costs speed
  return block;
}

class Pool {
 public:
  // Never destroyed: buffers of static objects may outlive any order of destruction.
  static Pool& Instance() {
    static Pool* pool = new Pool;
    return *pool;
  }

  void* Allocate(size_t bytes) {
    if (void* cached = TakeCached(bytes)) return cached;
    void* block = NewBlock(bytes);
    if (block == nullptr) {
      Trim();
      block = NewBlock(bytes);
    }
    PV_CHECK(block != nullptr, "out of memory: {} bytes more than {} in use", bytes,
             stats_.bytes_in_use);
    const std::lock_guard lock(mutex_);
    Use(bytes);
    return block;
  }

  // Beyond the limit blocks of the size that was longest not asked for go first: what a phase of
  // the work needs stays when its sizes change.
  void Free(void* block, size_t bytes) {
    std::vector<std::pair<void*, size_t>> released;
    {
      const std::lock_guard lock(mutex_);
      stats_.bytes_in_use -= bytes;
      stats_.bytes_cached += bytes;
      FreeList& list = free_[bytes];
      list.blocks.push_back(block);
      list.last_use = ++clock_;
      while (stats_.bytes_cached > limit_) released.push_back(Oldest());
    }
    for (const auto& [each, size] : released) Release(each, size);
  }

  void Trim() {
    std::unordered_map<size_t, FreeList> blocks;
    {
      const std::lock_guard lock(mutex_);
      blocks.swap(free_);
      stats_.bytes_cached = 0;
    }
    for (auto& [bytes, list] : blocks)
      for (void* block : list.blocks) Release(block, bytes);
  }

  buffer_pool::Stats GetStats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void SetLimit(size_t bytes) {
    bool over;
    {
      const std::lock_guard lock(mutex_);
      limit_ = bytes;
      over = stats_.bytes_cached > bytes;
    }
    if (over) Trim();
  }

 private:
  struct FreeList {
    std::vector<void*> blocks;
    u64 last_use = 0;
  };

  std::pair<void*, size_t> Oldest() {
    auto oldest = free_.end();
    for (auto each = free_.begin(); each != free_.end(); ++each)
      if (!each->second.blocks.empty() &&
          (oldest == free_.end() || each->second.last_use < oldest->second.last_use))
        oldest = each;
    void* const block = oldest->second.blocks.back();
    oldest->second.blocks.pop_back();
    stats_.bytes_cached -= oldest->first;
    return {block, oldest->first};
  }

  void* TakeCached(size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = free_.find(bytes);
    if (found == free_.end()) return nullptr;
    found->second.last_use = ++clock_;
    if (found->second.blocks.empty()) return nullptr;
    void* block = found->second.blocks.back();
    found->second.blocks.pop_back();
    stats_.bytes_cached -= bytes;
    Use(bytes);
    return block;
  }

  void Use(size_t bytes) {
    stats_.bytes_in_use += bytes;
    stats_.peak_bytes_total =
        std::max(stats_.peak_bytes_total, stats_.bytes_in_use + stats_.bytes_cached);
  }

  static void* NewBlock(size_t bytes) {
    return bytes >= kMapThreshold ? MapBlock(bytes) : std::aligned_alloc(kPage, bytes);
  }

  static void Release(void* block, size_t bytes) {
    if (bytes >= kMapThreshold) {
      munmap(block, bytes);
    } else {
      std::free(block);
    }
  }

  std::mutex mutex_;
  std::unordered_map<size_t, FreeList> free_;  // by size
  u64 clock_ = 0;
  buffer_pool::Stats stats_{};
  size_t limit_ = size_t{2} << 30;
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

}  // namespace buffer_pool
}  // namespace polyveil
