// Containers for secrets: the memory is overwritten before it is given back.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

namespace polyveil {

// Overwrites bytes in a way that the compiler cannot remove (sodium_memzero).
void SecureWipe(void* data, size_t bytes);
// Constant-time comparison.
bool SecureEqual(const void* a, const void* b, size_t bytes);

// Keeps a secret's pages out of swap while it lives, as far as the system's limit of locked memory
// goes: false when they are not locked. Locks do not nest: pages that two secrets share are
// unlocked with the first.
bool LockMemory(const void* data, size_t bytes);
void UnlockMemory(const void* data, size_t bytes);

// For a program that holds secrets: no core dumps, no reading of its memory by other processes of
// the same user, and as much lockable memory as the user may have.
void ProtectProcess();

template <typename T>
struct WipingAllocator {
  using value_type = T;
  WipingAllocator() = default;
  template <typename U>
  WipingAllocator(const WipingAllocator<U>&) {}
  T* allocate(size_t count) { return std::allocator<T>().allocate(count); }
  void deallocate(T* data, size_t count) {
    SecureWipe(data, count * sizeof(T));
    std::allocator<T>().deallocate(data, count);
  }
  template <typename U>
  bool operator==(const WipingAllocator<U>&) const {
    return true;
  }
};

// A vector of secret values; reallocation and destruction wipe.
template <typename T>
using SecureVector = std::vector<T, WipingAllocator<T>>;

}  // namespace polyveil
