#include <algorithm>
#include <array>
#include <vector>

#include "base/system.h"
#include "base/thread_pool.h"
#include "compile/cost_model.h"
#include "ring/kernels.h"
#include "ring/ntt_tables.h"
#include "ring/primes.h"
#include "ring/rns_poly.h"
#include "ring/samplers.h"

namespace polyveil::compile {

namespace {

// At N = 2^16: 8 MB of a thread are more than L2, 96 MB of all of them more than L3.
constexpr size_t kLimbs = 16, kLimbsOfAll = 192;

// What one thread works on.
struct Workspace {
  ring::RnsPoly limbs, sums;
};

// Times body(workspace, repeat) on all workspaces at once; the median over threads and repeats.
template <typename F>
double MedianSeconds(std::vector<Workspace>& workspaces, size_t repeats, F&& body) {
  std::vector<double> seconds(workspaces.size() * repeats);
  ParallelFor(workspaces.size(), [&](size_t thread) {
    for (size_t i = 0; i < repeats; ++i) {
      Timer timer;
      body(workspaces[thread], i);
      seconds[thread * repeats + i] = timer.Seconds();
    }
  });
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

}  // namespace

MachineSpeed MeasureMachineSpeed(int log_n, int threads) {
  MachineSpeed speed;
  speed.threads = threads;
  const size_t n = size_t{1} << log_n;
  auto primes = ring::FindNttPrimes(n, 45, 1);
  if (!primes.ok()) return speed;
  const auto tables = ring::NttTables::Get(n, primes.value()[0]);
  const ring::Kernels& kernels = ring::ActiveKernels();
  const ring::Modulus& q = tables->modulus();
  const size_t limbs = std::max(kLimbs, kLimbsOfAll / static_cast<size_t>(threads));
  std::vector<Workspace> workspaces;
  for (int i = 0; i < threads; ++i)
    workspaces.push_back({ring::RnsPoly::Zero(limbs, n), ring::RnsPoly::Zero(2, n)});
  const auto inner_product = [&](Workspace& w, size_t first, size_t step) {
    std::array<const u64*, kLimbs> rows;
    for (size_t i = 0; i < kLimbs; ++i) rows[i] = w.limbs.ptr((first + step * i) % limbs);
    kernels.inner_product(w.sums.ptr(0), rows.data(), rows.data(), kLimbs, n, q);
  };
  speed.ntt_seconds = MedianSeconds(workspaces, 200, [&](Workspace& w, size_t i) {
    u64* limb = w.limbs.ptr(i % kLimbs);
    kernels.forward_ntt(limb, limb, *tables);
  });
  speed.product_seconds =
      MedianSeconds(workspaces, 20, [&](Workspace& w, size_t) { inner_product(w, 0, 0); }) / kLimbs;
  speed.stream_seconds =
      MedianSeconds(workspaces, 2 * limbs / kLimbs,
                    [&](Workspace& w, size_t i) { inner_product(w, i * kLimbs, 1); }) /
      kLimbs;
  speed.expand_seconds = MedianSeconds(workspaces, 20, [&](Workspace& w, size_t) {
    ring::SampleUniform(Seed{}, "speed", 0, q, w.sums.limb(0));
  });
  return speed;
}

}  // namespace polyveil::compile
