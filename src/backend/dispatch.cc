// Which backend runs: decided once from CPUID and POLYVEIL_BACKEND, changed only by SetBackend.
#include <atomic>
#include <cstdlib>
#include <string>

#include "backend/backends.h"

namespace polyveil::ring {
namespace {

std::vector<const Kernels*> Detect() {
  std::vector<const Kernels*> found;
#ifdef POLYVEIL_X86_SIMD
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512ifma");
  if (avx512) found.push_back(&backend::Avx512Kernels());
  if (avx2) found.push_back(&backend::Avx2Kernels());
#endif
  found.push_back(&backend::RefKernels());
  return found;
}

const Kernels* Find(std::string_view name) {
  const auto available = AvailableKernels();
  if (name.empty() || name == "auto") return available.front();
  for (const Kernels* kernels : available)
    if (name == kernels->name) return kernels;
  return nullptr;
}

Result<const Kernels*> FindOrRefuse(std::string_view name, const char* where) {
  if (const Kernels* kernels = Find(name)) return kernels;
  std::string known = "auto";
  for (const Kernels* kernels : AvailableKernels()) known += std::string(", ") + kernels->name;
  return MakeError(ErrorCode::kUnavailable, "{} '{}' is none of those that this CPU runs: {}",
                   where, name, known);
}

Result<const Kernels*> FromEnvironment() {
  const char* name = std::getenv("POLYVEIL_BACKEND");
  return FindOrRefuse(name == nullptr ? "" : name, "POLYVEIL_BACKEND");
}

const Kernels* Initial() { return FromEnvironment().value(); }

std::atomic<const Kernels*>& Active() {
  static std::atomic<const Kernels*> active{Initial()};
  return active;
}

}  // namespace

std::vector<const Kernels*> AvailableKernels() {
  static const std::vector<const Kernels*> available = Detect();
  return available;
}

const Kernels& ActiveKernels() { return *Active().load(std::memory_order_relaxed); }

Status SetBackend(std::string_view name) {
  PV_ASSIGN_OR_RETURN(const Kernels* kernels, FindOrRefuse(name, "backend"));
  Active().store(kernels, std::memory_order_relaxed);
  return {};
}

}  // namespace polyveil::ring

namespace polyveil::backend {

Status CheckVariable() {
  PV_RETURN_IF_ERROR(ring::FromEnvironment());
  return {};
}

}  // namespace polyveil::backend
