// Linear transforms at every baby-step giant-step split: what the cost model of circuits/bsgs.cc is
// held against. CoeffsToSlots' factors, and a matrix of a prompt in blocks, whose diagonals repeat.
// Counters: babies, giants, megabytes of keys.
//
//   transforms_bench --benchmark_filter=sparse16/7
#include <benchmark/benchmark.h>
#include <fmt/core.h>

#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "circuits/bootstrap_matrices.h"
#include "circuits/linear_transform.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"
#include "ckks/seeded.h"

namespace polyveil {
namespace {

using circuits::LinearTransform;

struct Case {
  std::string set;
  int log_period, factor;
};

// 384 inputs and 508 outputs in blocks of 512 slots: those of MiniLM's attention.
constexpr int kBlock = 512, kInputs = 384, kOutputs = 508, kBlockLevel = 9;

circuits::DiagonalMatrix BlockMatrix(int log_slots) {
  circuits::DiagonalMatrix matrix{log_slots, {}};
  std::vector<ckks::Complex> diagonal(kBlock);
  for (int apart = 1 - kOutputs; apart < kInputs; ++apart) {
    for (int r = 0; r < kBlock; ++r) diagonal[static_cast<size_t>(r)] = 1e-3 * (r * apart % 1000);
    matrix.diagonals[apart] = diagonal;
  }
  return matrix;
}

std::vector<int> Indices(const circuits::DiagonalMatrix& matrix) {
  std::vector<int> indices;
  for (const auto& [index, diagonal] : matrix.diagonals) indices.push_back(index);
  return indices;
}

// baby_steps 0: the cost model's choice.
void Transform(benchmark::State& state, const ckks::ParametersPtr& params,
               const circuits::DiagonalMatrix& matrix, int level, int baby_steps) {
  SetThreads(1);
  const ckks::Encoder encoder(params);
  const auto secret = ckks::SecretKey::Generate(params);
  ckks::KeyRequest request;
  LinearTransform::AddKeys(request, *params, matrix, level, baby_steps);
  const auto keys = ckks::KeyGenerator(secret).Generate(request).value();
  const ckks::Evaluator evaluator(params, &keys);
  constexpr double kScale = 0x1p50;
  const auto transform =
      LinearTransform::Create(encoder, matrix, level, kScale, kScale, baby_steps).value();
  const std::vector<ckks::Complex> values(1, 0.5);
  const auto plain = encoder.Encode(values, level, kScale).value();
  const auto x = ckks::Expand(*params, ckks::Encryptor(secret).Encrypt(plain)).value();
  benchmark::DoNotOptimize(transform.Sum(evaluator, x).value());  // fills tables
  for (auto _ : state) benchmark::DoNotOptimize(transform.Sum(evaluator, x).value());
  const auto split =
      circuits::SplitRotations(*params, Indices(matrix), matrix.log_period, level, baby_steps);
  state.counters["diagonals"] = static_cast<double>(matrix.diagonals.size());
  state.counters["babies"] = static_cast<double>(split.Babies().size()) - 1;
  state.counters["giants"] = static_cast<double>(split.giants.size()) - 1;
  state.counters["key_MB"] = static_cast<double>(keys.bytes()) / 1e6;
}

ckks::ParametersPtr Named(const std::string& set) {
  return ckks::Parameters::Create(ckks::FindParameters(set).value()).value();
}

void Factor(benchmark::State& state, const Case& what, int baby_steps) {
  const auto params = Named(what.set);
  const auto matrix =
      circuits::CoeffsToSlotsMatrices(*params, {what.log_period, false})[what.factor];
  Transform(state, params, matrix, params->max_level() - what.factor, baby_steps);
}

void Blocks(benchmark::State& state, int baby_steps) {
  const auto params = Named("prompt16");
  Transform(state, params, BlockMatrix(params->log_slots()), kBlockLevel, baby_steps);
}

void Register(const Case& what, std::initializer_list<int> baby_steps) {
  for (const int steps : baby_steps) {
    const std::string name = fmt::format("CoeffsToSlots/{}/{}/factor:{}/baby_steps:{}", what.set,
                                         what.log_period, what.factor, steps);
    benchmark::RegisterBenchmark(name.c_str(), Factor, what, steps)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  }
}

}  // namespace
}  // namespace polyveil

int main(int argc, char** argv) {
  using polyveil::Register;
  for (const char* set : {"decode16", "sparse16"}) {
    Register({set, 7, 0}, {0, 2, 4, 8});
    Register({set, 7, 1}, {0, 4, 8, 15});
  }
  for (const int factor : {0, 1}) Register({"sparse16", 10, factor}, {0, 4, 8, 16, 32});
  for (const int factor : {0, 1, 2}) Register({"full16", 15, factor}, {0, 8, 16, 32});
  for (const int steps : {32, 64, 128})
    benchmark::RegisterBenchmark(fmt::format("Blocks/prompt16/baby_steps:{}", steps).c_str(),
                                 polyveil::Blocks, steps)
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
