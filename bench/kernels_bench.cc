// Kernels per backend at N = 2^16, against ceilings measured in the same run.
//   kernels_bench [--benchmark_filter=...] [--benchmark_format=json]
// "hot": one limb again and again, tables in cache. "cold": 32 limbs of 32 moduli in turn, as in a
// real operation: data and tables (1 MB each) come from L3 or memory.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <random>
#include <string>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "bench/ceilings.h"
#include "ring/automorphism.h"
#include "ring/base_convert.h"
#include "ring/kernels.h"
#include "ring/primes.h"
#include "ring/rns_poly.h"
#include "ring/samplers.h"

namespace polyveil::bench {
namespace {

using namespace ring;

constexpr size_t kN = size_t{1} << 16;
constexpr size_t kColdLimbs = 32;

std::vector<Modulus> MakeModuli(int bits, size_t count) {
  std::vector<Modulus> moduli;
  const auto primes = FindNttPrimes(kN, bits, count).value();
  for (const u64 q : primes) moduli.emplace_back(q);
  return moduli;
}

RnsPoly RandomPoly(const std::vector<Modulus>& moduli) {
  RnsPoly result(moduli.size(), kN);
  for (size_t i = 0; i < moduli.size(); ++i)
    SampleUniform(Seed{}, "bench", i, moduli[i], result.limb(i));
  return result;
}

void SetRate(benchmark::State& state, const char* name, double per_iteration) {
  state.counters[name] =
      benchmark::Counter(per_iteration, benchmark::Counter::kIsIterationInvariantRate);
}

void CeilingButterflies(benchmark::State& state) {
  u64 done = 0;
  for (auto _ : state) done += RegisterButterflies(10000);
  state.counters["butterflies"] =
      benchmark::Counter(static_cast<double>(done), benchmark::Counter::kIsRate);
}

void CeilingNearButterflies(benchmark::State& state) {
  u64 done = 0;
  for (auto _ : state) done += RegisterNearButterflies(10000);
  state.counters["butterflies"] =
      benchmark::Counter(static_cast<double>(done), benchmark::Counter::kIsRate);
}

void CeilingProducts(benchmark::State& state) {
  u64 done = 0;
  for (auto _ : state) done += RegisterProducts(10000);
  state.counters["products"] =
      benchmark::Counter(static_cast<double>(done), benchmark::Counter::kIsRate);
}

void CeilingRead(benchmark::State& state) {
  const size_t words = static_cast<size_t>(state.range(0)) << 7;  // range in KB
  Buffer buffer(words);
  buffer.Zero();
  for (auto _ : state) benchmark::DoNotOptimize(ReadAll(buffer.data(), words));
  SetRate(state, "bytes", static_cast<double>(words * 8));
}

struct NttSetup {
  std::vector<Modulus> moduli;
  std::vector<std::shared_ptr<const NttTables>> tables;
  RnsPoly data;
  NttSetup(int bits, size_t limbs) : moduli(MakeModuli(bits, limbs)), data(RandomPoly(moduli)) {
    for (const Modulus& q : moduli) tables.push_back(NttTables::Get(kN, q.q));
  }
};

void Ntt(benchmark::State& state, const Kernels* k, int bits, size_t limbs, bool inverse) {
  NttSetup setup(bits, limbs);
  size_t i = 0;
  for (auto _ : state) {
    u64* limb = setup.data.ptr(i);
    if (inverse) {
      k->inverse_ntt(limb, limb, *setup.tables[i], 1);
    } else {
      k->forward_ntt(limb, limb, *setup.tables[i]);
    }
    i = i + 1 == limbs ? 0 : i + 1;
  }
  SetRate(state, "butterflies", kN / 2 * 16);
}

// A key product: `digits` limbs times two key halves.
void KeyProduct(benchmark::State& state, const Kernels* k, size_t digits, bool permuted) {
  const auto moduli = MakeModuli(50, 1);
  RnsPoly storage(3 * digits + 2, kN);
  for (size_t i = 0; i < storage.limbs(); ++i)
    SampleUniform(Seed{}, "bench", i, moduli[0], storage.limb(i));
  std::vector<const u64*> a, b0, b1;
  for (size_t i = 0; i < digits; ++i) {
    a.push_back(storage.ptr(3 * i));
    b0.push_back(storage.ptr(3 * i + 1));
    b1.push_back(storage.ptr(3 * i + 2));
  }
  const auto perm = NttAutomorphism(GaloisElement(1, kN), kN);
  u64 *out0 = storage.ptr(3 * digits), *out1 = storage.ptr(3 * digits + 1);
  for (auto _ : state) {
    if (permuted) {
      k->inner_product2_permuted(out0, out1, a.data(), perm.data(), b0.data(), b1.data(), digits,
                                 kN, moduli[0]);
    } else {
      k->inner_product2(out0, out1, a.data(), b0.data(), b1.data(), digits, kN, moduli[0]);
    }
  }
  SetRate(state, "products", static_cast<double>(2 * digits * kN));
  SetRate(state, "bytes", static_cast<double>((3 * digits + 2) * kN * 8));
}

void Convert(benchmark::State& state, const Kernels* k, size_t from, size_t to) {
  if (!SetBackend(k->name).ok()) return state.SkipWithError("backend");
  const auto sources = MakeModuli(50, from), targets = MakeModuli(40, to);
  RnsPoly in = RandomPoly(sources), out(to, kN);
  std::vector<u64*> in_limbs, out_limbs;
  for (size_t i = 0; i < from; ++i) in_limbs.push_back(in.ptr(i));
  for (size_t i = 0; i < to; ++i) out_limbs.push_back(out.ptr(i));
  const BaseConverter converter(sources, targets);
  SetThreads(1);
  for (auto _ : state) converter.Convert(out_limbs.data(), in_limbs.data(), kN);
  SetRate(state, "products", static_cast<double>((from + 1) * to * kN));
  SetThreads(0);
  if (!SetBackend("").ok()) state.SkipWithError("backend");
}

void Elementwise(benchmark::State& state, const Kernels* k, size_t limbs) {
  const auto moduli = MakeModuli(50, limbs);
  RnsPoly a = RandomPoly(moduli), b = a, out(limbs, kN);
  size_t i = 0;
  for (auto _ : state) {
    k->mul(out.ptr(i), a.ptr(i), b.ptr(i), kN, moduli[i]);
    i = i + 1 == limbs ? 0 : i + 1;
  }
  SetRate(state, "bytes", 3.0 * kN * 8);
}

void Permute(benchmark::State& state, const Kernels* k) {
  const auto moduli = MakeModuli(50, 1);
  RnsPoly in = RandomPoly(moduli), out(1, kN);
  const auto perm = NttAutomorphism(GaloisElement(1, kN), kN);
  for (auto _ : state) k->permute(out.ptr(0), in.ptr(0), perm.data(), kN);
  SetRate(state, "bytes", kN * 20.0);
}

void Uniform(benchmark::State& state) {
  const auto moduli = MakeModuli(50, 1);
  RnsPoly out(1, kN);
  for (auto _ : state) SampleUniform(Seed{}, "bench", 0, moduli[0], out.limb(0));
  SetRate(state, "bytes", kN * 8.0);
}

void Gaussian(benchmark::State& state) {
  std::vector<i64> out(kN);
  Prng prng(Seed{}, "bench");
  for (auto _ : state) SampleGaussian(prng, out);
}

template <typename... Args>
void Register(const std::string& name, Args... args) {
  benchmark::RegisterBenchmark(name.c_str(), args...)->Unit(benchmark::kMicrosecond);
}

void RegisterAll() {
  if (HasIfma()) {
    Register("ceiling/butterflies", CeilingButterflies);
    Register("ceiling/near_butterflies", CeilingNearButterflies);
    Register("ceiling/products", CeilingProducts);
  }
  for (const int kilobytes : {32, 512, 8192, 262144})
    benchmark::RegisterBenchmark("ceiling/read_kb", CeilingRead)->Arg(kilobytes);
  for (const Kernels* k : AvailableKernels()) {
    const std::string name = std::string("/") + k->name;
    for (const int bits : {50, 40}) {
      const std::string size = "/" + std::to_string(bits);
      Register("ntt_forward/hot" + size + name, Ntt, k, bits, size_t{1}, false);
      Register("ntt_inverse/hot" + size + name, Ntt, k, bits, size_t{1}, true);
      Register("ntt_forward/cold" + size + name, Ntt, k, bits, kColdLimbs, false);
      Register("ntt_inverse/cold" + size + name, Ntt, k, bits, kColdLimbs, true);
    }
    for (const size_t digits : {4, 7}) {
      const std::string terms = "/" + std::to_string(digits);
      Register("key_product" + terms + name, KeyProduct, k, digits, false);
      Register("key_product_permuted" + terms + name, KeyProduct, k, digits, true);
    }
    Register("convert/9_to_28" + name, Convert, k, size_t{9}, size_t{28});
    Register("convert/7_to_30" + name, Convert, k, size_t{7}, size_t{30});
    Register("mul/hot" + name, Elementwise, k, size_t{1});
    Register("mul/cold" + name, Elementwise, k, kColdLimbs);
    Register("permute" + name, Permute, k);
  }
  Register("sample/uniform", Uniform);
  Register("sample/gaussian", Gaussian);
}

}  // namespace
}  // namespace polyveil::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  polyveil::bench::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
