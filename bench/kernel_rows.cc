// NTTs of the backend in use, one thread. "hot": one limb again and again, tables in cache. "cold":
// all limbs of the chain in turn, as in a real operation: data and tables come from L3 or memory.
#include "base/thread_pool.h"
#include "bench/sections.h"
#include "ring/kernels.h"
#include "ring/rns_poly.h"
#include "ring/samplers.h"

namespace polyveil::bench {
namespace {

constexpr int kBatch = 16;

Row MeasureNtt(const Section& section, const ckks::Parameters& params, bool inverse, bool cold) {
  const ring::Kernels& kernels = ring::ActiveKernels();
  const size_t n = params.n(), limbs = cold ? params.q_count() : 1;
  ring::RnsPoly data(limbs, n);
  for (size_t j = 0; j < limbs; ++j)
    ring::SampleUniform(Seed{}, "bench", j, params.q(static_cast<int>(j)), data.limb(j));
  size_t j = 0;
  Row row;
  row.measured = Measure(section.Repetitions(25), cold ? static_cast<int>(limbs) : kBatch, [&] {
    const ring::NttTables& tables = params.q_table(static_cast<int>(j));
    u64* limb = data.ptr(j);
    inverse ? kernels.inverse_ntt(limb, limb, tables, 1) : kernels.forward_ntt(limb, limb, tables);
    j = j + 1 == limbs ? 0 : j + 1;
  });
  const char* direction = inverse ? "inverse" : "forward";
  row.id = fmt::format("ntt_{}_{}", direction, cold ? "cold" : "hot");
  row.name = fmt::format("{} NTT, one limb, {}", direction, cold ? "cold" : "hot");
  row.parameters = params.spec().name;
  row.work.butterflies = static_cast<double>(n) / 2 * params.log_n();
  row.bytes = static_cast<double>(n * sizeof(u64));
  return row;
}

// The uniform half of a key from its seed: what a compact key pays for each limb that it
// multiplies.
Row MeasureExpansion(const Section& section, const ckks::Parameters& params) {
  Buffer limb(params.n());
  Row row;
  row.measured = Measure(section.Repetitions(25), kBatch, [&] {
    ring::SampleUniform(Seed{}, "bench", 0, params.q(0), {limb.data(), limb.size()});
  });
  row.id = "expand_limb";
  row.name = "a limb from its seed";
  row.parameters = params.spec().name;
  row.bytes = static_cast<double>(params.n() * sizeof(u64));
  return row;
}

}  // namespace

Status MeasureKernels(const Section& section, const ckks::Parameters& params) {
  SetThreads(1);
  PV_RETURN_IF_ERROR(section.Begin("NTT"));
  for (const bool cold : {false, true})
    for (const bool inverse : {false, true})
      section.Add(MeasureNtt(section, params, inverse, cold));
  section.Add(MeasureExpansion(section, params));
  return {};
}

}  // namespace polyveil::bench
