#include "base/secure_memory.h"

#include <sodium.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

namespace polyveil {
namespace {

// The leak check of a sanitizer's build reads its own process from another one.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
#else
constexpr bool kSanitized = false;
#endif

}  // namespace

bool LockMemory(const void* data, size_t bytes) { return mlock(data, bytes) == 0; }

void UnlockMemory(const void* data, size_t bytes) { munlock(data, bytes); }

void ProtectProcess() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  if (!kSanitized) prctl(PR_SET_DUMPABLE, 0);
  rlimit locked{};
  if (getrlimit(RLIMIT_MEMLOCK, &locked) != 0) return;
  locked.rlim_cur = locked.rlim_max;
  setrlimit(RLIMIT_MEMLOCK, &locked);
}

void SecureWipe(void* data, size_t bytes) { sodium_memzero(data, bytes); }

bool SecureEqual(const void* a, const void* b, size_t bytes) {
  return sodium_memcmp(a, b, bytes) == 0;
}

}  // namespace polyveil
