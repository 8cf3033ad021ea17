// Scheme operations at N = 2^16 ("decode16") by number of limbs, one thread unless --threads=2.
//   build/bench/ckks_bench [--threads=k] [--benchmark_filter=Rotate]
#include <benchmark/benchmark.h>

#include <memory>
#include <random>
#include <string>

#include "base/thread_pool.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/client/secret_key.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "ckks/seeded.h"

namespace polyveil::ckks {
namespace {

struct Setup {
  Setup()
      : params(Parameters::Create(FindParameters("decode16").value()).value()),
        key(SecretKey::Generate(params)),
        encoder(params),
        values(params->slots()) {
    KeyRequest request;
    for (const int limbs : {27, 16, 12}) {  // keys of the levels that are measured
      request.AddRotation(1, params->slots(), limbs - 1);
      request.AddRelinearization(limbs - 1);
    }
    request.encapsulation = true;
    keys = KeyGenerator(key).Generate(request).value();
    evaluator = std::make_unique<Evaluator>(params, &keys);
    std::mt19937_64 random(1);
    std::uniform_real_distribution<double> uniform(-1, 1);
    for (Complex& value : values) value = {uniform(random), uniform(random)};
  }
  Ciphertext Encrypt(int level) const {
    const Plaintext plaintext = encoder.Encode(values, level, 0x1p40).value();
    return Expand(*params, Encryptor(key).Encrypt(plaintext)).value();
  }

  ParametersPtr params;
  SecretKey key;
  EvaluationKeys keys;
  Encoder encoder;
  std::unique_ptr<Evaluator> evaluator;
  std::vector<Complex> values;
};

const Setup& Get() {
  static const Setup setup;
  return setup;
}

int LevelOf(const benchmark::State& state) { return static_cast<int>(state.range(0)) - 1; }

void Rotate(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  for (auto _ : state) benchmark::DoNotOptimize(Get().evaluator->Rotate(x, 1).value());
}

void Decompose(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  for (auto _ : state)
    benchmark::DoNotOptimize(Get().evaluator->Decompose(x, LevelOf(state)).value());
}

void RotateHoistedLazy(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  const HoistedDigits digits = Get().evaluator->Decompose(x, LevelOf(state)).value();
  for (auto _ : state)
    benchmark::DoNotOptimize(Get().evaluator->RotateHoistedLazy(x, digits, 1).value());
}

void RotateHoisted(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  const HoistedDigits digits = Get().evaluator->Decompose(x, LevelOf(state)).value();
  for (auto _ : state)
    benchmark::DoNotOptimize(Get().evaluator->RotateHoisted(x, digits, 1).value());
}

void ModDown(benchmark::State& state) {
  const ExtendedCiphertext x = Get().evaluator->Extend(Get().Encrypt(LevelOf(state)));
  for (auto _ : state) benchmark::DoNotOptimize(Get().evaluator->ModDown(x));
}

void MulRelinearizeRescale(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  for (auto _ : state) benchmark::DoNotOptimize(Get().evaluator->MulRescale(x, x).value());
}

void MulPlainRescale(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  const Plaintext p = Get().encoder.Encode(Get().values, LevelOf(state), 0x1p40).value();
  for (auto _ : state) {
    Ciphertext y = Get().evaluator->MulPlain(x, p).value();
    benchmark::DoNotOptimize(Get().evaluator->RescaleInplace(y).ok());
  }
}

void MulPlain(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state));
  const Plaintext p = Get().encoder.Encode(Get().values, LevelOf(state), 0x1p40).value();
  for (auto _ : state) benchmark::DoNotOptimize(Get().evaluator->MulPlain(x, p).value());
}

void Add(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(LevelOf(state)), y = Get().Encrypt(LevelOf(state));
  for (auto _ : state) benchmark::DoNotOptimize(Get().evaluator->Add(x, y).value());
}

void AddConstant(benchmark::State& state) {
  Ciphertext x = Get().Encrypt(LevelOf(state));
  for (auto _ : state) Get().evaluator->AddConstantInplace(x, Complex(0.5, 0.25));
}

void ModRaise(benchmark::State& state) {
  const Ciphertext x = Get().Encrypt(0);
  for (auto _ : state) benchmark::DoNotOptimize(Get().evaluator->ModRaise(x).value());
}

void Encode(benchmark::State& state) {
  const std::vector<Complex> values(Get().values.begin(), Get().values.begin() + state.range(1));
  for (auto _ : state)
    benchmark::DoNotOptimize(Get().encoder.Encode(values, LevelOf(state), 0x1p40, true).value());
}

void EmbeddingAlone(benchmark::State& state) {
  std::vector<Complex> values = Get().values;
  for (auto _ : state) Get().encoder.SlotsToCoefficients(values);
}

void Encrypt(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(Get().Encrypt(LevelOf(state)));
}

void RotationKey(benchmark::State& state) {
  for (auto _ : state) {
    KeySwitchKey key = KeyGenerator(Get().key).Rotation(1, LevelOf(state));
    benchmark::DoNotOptimize(ExpandKey(*Get().params, key).ok());
  }
}

void Limbs(benchmark::internal::Benchmark* benchmark) {
  for (const int limbs : {27, 16, 12}) benchmark->Arg(limbs);
  benchmark->Unit(benchmark::kMillisecond)->UseRealTime();
}

BENCHMARK(Rotate)->Apply(Limbs);
BENCHMARK(Decompose)->Apply(Limbs);
BENCHMARK(RotateHoistedLazy)->Apply(Limbs);
BENCHMARK(RotateHoisted)->Apply(Limbs);
BENCHMARK(ModDown)->Apply(Limbs);
BENCHMARK(MulRelinearizeRescale)->Apply(Limbs);
BENCHMARK(MulPlainRescale)->Apply(Limbs);
BENCHMARK(MulPlain)->Apply(Limbs);
BENCHMARK(Add)->Apply(Limbs);
BENCHMARK(AddConstant)->Apply(Limbs);
BENCHMARK(Encrypt)->Apply(Limbs);
BENCHMARK(RotationKey)->Apply(Limbs);
BENCHMARK(ModRaise)->Unit(benchmark::kMillisecond)->UseRealTime();
BENCHMARK(Encode)
    ->Args({16, 1 << 15})
    ->Args({16, 1 << 7})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();
BENCHMARK(EmbeddingAlone)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace polyveil::ckks

int main(int argc, char** argv) {
  size_t threads = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--threads=", 0) != 0) continue;
    threads = std::stoul(argument.substr(10));
    for (int k = i; k + 1 < argc; ++k) argv[k] = argv[k + 1];
    --argc;
    break;
  }
  polyveil::SetThreads(threads);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
