#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "base/system.h"
#include "base/thread_pool.h"
#include "ckks/special_fft.h"
#include "compile/block_matrices.h"
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

// Times body(thread, repeat) on all threads at once; the median over threads and repeats.
template <typename F>
double MedianSeconds(size_t threads, size_t repeats, F&& body) {
  std::vector<double> seconds(threads * repeats);
  ParallelFor(threads, [&](size_t thread) {
    for (size_t i = 0; i < repeats; ++i) {
      Timer timer;
      body(thread, i);
      seconds[thread * repeats + i] = timer.Seconds();
    }
  });
  const auto middle = seconds.begin() + static_cast<std::ptrdiff_t>(seconds.size() / 2);
  std::nth_element(seconds.begin(), middle, seconds.end());
  return *middle;
}

template <typename F>
double OfAll(std::vector<Workspace>& workspaces, size_t repeats, F&& body) {
  return MedianSeconds(workspaces.size(), repeats,
                       [&](size_t thread, size_t i) { body(workspaces[thread], i); });
}

// What the terms of a matrix go through: a down matrix of a small block stands for all.
void MeasureEncoding(size_t slots, size_t threads, MachineSpeed& speed) {
  model::BlockShape shape;
  shape.d_model = 512;
  shape.n_heads = shape.n_kv_heads = 8;
  shape.d_head = 64;
  shape.d_ff = 2048;
  const auto layout = BlockLayout::Create(shape, 1, std::countr_zero(slots));
  if (!layout.ok()) return;
  model::BlockWeights weights;
  weights.down = {shape.d_model, shape.d_ff,
                  std::vector<double>(static_cast<size_t>(shape.d_model) * shape.d_ff, 0.01)};
  model::Block block;
  block.shape = shape;
  block.weights = std::make_shared<const model::KeptWeights>(std::move(weights));
  const MapDiagonals diagonals(DownMap(*layout, {}, 0), block, *layout);
  std::vector<std::vector<Complex>> values(threads);
  speed.gather_seconds =
      MedianSeconds(threads, 5, [&](size_t t, size_t) { values[t] = diagonals.Term(0); });
  const ckks::SpecialFft fft(slots);
  std::vector<std::vector<i64>> rounded(threads, std::vector<i64>(2 * slots));
  speed.encode_seconds = MedianSeconds(threads, 5, [&](size_t thread, size_t) {
    std::vector<Complex> coefficients = values[thread];
    fft.Inverse(coefficients);
    for (size_t i = 0; i < slots; ++i) {
      rounded[thread][i] = std::llrint(coefficients[i].real() * 0x1p40);
      rounded[thread][i + slots] = std::llrint(coefficients[i].imag() * 0x1p40);
    }
  });
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
  speed.ntt_seconds = OfAll(workspaces, 200, [&](Workspace& w, size_t i) {
    u64* limb = w.limbs.ptr(i % kLimbs);
    kernels.forward_ntt(limb, limb, *tables);
  });
  speed.product_seconds =
      OfAll(workspaces, 20, [&](Workspace& w, size_t) { inner_product(w, 0, 0); }) / kLimbs;
  speed.stream_seconds = OfAll(workspaces, 2 * limbs / kLimbs,
                               [&](Workspace& w, size_t i) { inner_product(w, i * kLimbs, 1); }) /
                         kLimbs;
  speed.expand_seconds = OfAll(workspaces, 20, [&](Workspace& w, size_t) {
    ring::SampleUniform(Seed{}, "speed", 0, q, w.sums.limb(0));
  });
  MeasureEncoding(n / 2, workspaces.size(), speed);
  speed.memory_bytes = AvailableMemoryBytes();
  return speed;
}

}  // namespace polyveil::compile
