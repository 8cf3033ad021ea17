#include "base/page_arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

namespace polyveil {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

// Whole huge pages, which the kernel may back with such; 0: none.
std::uintptr_t MapHugePages(size_t bytes) {
  const size_t reserved = bytes + kHugePage;
  void* base = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) return 0;
  const auto start = reinterpret_cast<std::uintptr_t>(base);
  const std::uintptr_t aligned = RoundUp(start, kHugePage);
  if (aligned > start) munmap(base, aligned - start);
  const size_t tail = start + reserved - (aligned + bytes);
  if (tail > 0) munmap(reinterpret_cast<void*>(aligned + bytes), tail);
  // Advice only: a refusal costs speed.
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
  return aligned;
}

}  // namespace

void* PageArena::Allocate(size_t bytes) {
  auto fit = by_size_.lower_bound({bytes, 0});
  if (fit == by_size_.end()) {
    const size_t mapped = RoundUp(bytes, kHugePage);
    const Address pages = MapHugePages(mapped);
    if (pages == 0) return nullptr;
    Insert(pages, mapped);
    fit = by_size_.lower_bound({bytes, 0});
  }
  const auto [size, start] = *fit;
  Erase(runs_.find(start));
  if (size > bytes) Insert(start + bytes, size - bytes);
  return reinterpret_cast<void*>(start);
}

void PageArena::Free(void* block, size_t bytes) { Insert(reinterpret_cast<Address>(block), bytes); }

void PageArena::ReleaseBeyond(size_t bytes) {
  while (free_bytes_ > bytes) {
    const auto [size, start] = *by_size_.rbegin();
    // From its end, whole huge pages: what is left of one would be backed by small pages.
    const size_t excess = std::min(size, RoundUp(free_bytes_ - bytes, kHugePage));
    const Address from = (start + size - excess) / kHugePage * kHugePage;
    const Address first = std::max(start, from);
    Erase(runs_.find(start));
    if (first > start) Insert(start, first - start);
    munmap(reinterpret_cast<void*>(first), start + size - first);
  }
}

void PageArena::Insert(Address start, size_t bytes) {
  auto next = runs_.lower_bound(start);
  if (next != runs_.end() && next->first == start + bytes) {
    bytes += next->second;
    Erase(next++);
  }
  if (next != runs_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == start) {
      start = before->first;
      bytes += before->second;
      Erase(before);
    }
  }
  runs_.emplace(start, bytes);
  by_size_.emplace(bytes, start);
  free_bytes_ += bytes;
}

void PageArena::Erase(std::map<Address, size_t>::iterator run) {
  by_size_.erase({run->second, run->first});
  free_bytes_ -= run->second;
  runs_.erase(run);
}

}  // namespace polyveil
