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
