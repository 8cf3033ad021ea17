#include "base/secure_memory.h"

#include <sodium.h>

namespace polyveil {

void SecureWipe(void* data, size_t bytes) { sodium_memzero(data, bytes); }

bool SecureEqual(const void* a, const void* b, size_t bytes) {
  return sodium_memcmp(a, b, bytes) == 0;
}

}  // namespace polyveil
