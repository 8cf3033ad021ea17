#include <algorithm>
#include <array>

#include "base/system.h"
#include "compile/cost_model.h"
#include "ring/kernels.h"
#include "ring/ntt_tables.h"
#include "ring/primes.h"
#include "ring/rns_poly.h"
#include "ring/samplers.h"

namespace polyveil::compile {

namespace {

// Least of a few timings: what the machine can do when nobody disturbs it.
template <typename F>
double BestSeconds(int repeats, F&& body) {
  double best = 1e30;
  for (int i = 0; i < repeats; ++i) {
    Timer timer;
    body();
    best = std::min(best, timer.Seconds());
  }
  return best;
}

}  // namespace

MachineSpeed MeasureMachineSpeed(int log_n, int threads) {
  constexpr size_t kStreamLimbs = 48;  // 24 MB at N = 2^16: more than L2
  MachineSpeed speed;
  speed.threads = threads;
  const size_t n = size_t{1} << log_n;
  auto primes = ring::FindNttPrimes(n, 45, 1);
  if (!primes.ok()) return speed;
  const auto tables = ring::NttTables::Get(n, primes.value()[0]);
  const ring::Kernels& kernels = ring::ActiveKernels();
  const ring::Modulus& q = tables->modulus();
  auto words = ring::RnsPoly::Zero(kStreamLimbs, n);
  auto sums = ring::RnsPoly::Zero(2, n);
  speed.ntt_seconds =
      BestSeconds(8, [&] { kernels.forward_ntt(sums.ptr(0), sums.ptr(0), *tables); });
  speed.product_seconds = BestSeconds(
      8, [&] { kernels.mul_add(sums.ptr(0), sums.ptr(1), sums.ptr(0), sums.ptr(1), n, q); });
  speed.expand_seconds =
      BestSeconds(8, [&] { ring::SampleUniform(Seed{}, "speed", 0, q, sums.limb(0)); });
  std::array<const u64*, kStreamLimbs> rows;
  for (size_t i = 0; i < kStreamLimbs; ++i) rows[i] = words.ptr(i);
  speed.stream_seconds = BestSeconds(3,
                                     [&] {
                                       kernels.inner_product(sums.ptr(0), rows.data(), rows.data(),
                                                             kStreamLimbs, n, q);
                                     }) /
                         kStreamLimbs;
  return speed;
}

}  // namespace polyveil::compile
