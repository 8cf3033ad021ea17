// Large blocks of memory that come and go in any sizes: what is freed joins its neighbours, so that
// the same pages serve the next size. A page that a kernel gives is cleared first, which costs as
// much as several operations on it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "base/int_types.h"

namespace polyveil {

// Not thread-safe.
class PageArena {
 public:
  static constexpr size_t kGranule = 4096;  // of sizes and addresses

  // bytes: a multiple of kGranule. The smallest free run that holds them, else new pages; null: the
  // system has none.
  void* Allocate(size_t bytes);
  void Free(void* block, size_t bytes);
  // Gives free runs back to the system, the largest first, until at most so many bytes are free.
  void ReleaseBeyond(size_t bytes);

  size_t free_bytes() const { return free_bytes_; }

 private:
  using Address = std::uintptr_t;
  using BySize = std::set<std::pair<size_t, Address>>;

  // Of a run and its neighbours.
  void Insert(Address start, size_t bytes);
  void Erase(std::map<Address, size_t>::iterator run);

  std::map<Address, size_t> runs_;  // free ones: no two touch
  BySize by_size_;                  // the same
  size_t free_bytes_ = 0;
};

}  // namespace polyveil
