// The matrices of a model's programs as plaintexts, and those of their bootstraps. They are made
// when a step first asks for them and kept while a budget allows, so that no step makes what an
// earlier one has left. Shared by all clients of a model. Thread-safe.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>

#include "base/memory_report.h"
#include "base/result.h"
#include "circuits/bootstrapper.h"
#include "circuits/linear_transform.h"
#include "ckks/encoder.h"
#include "compile/compiled_program.h"
#include "runtime/latency_table.h"

namespace polyveil::runtime {

class WeightStore {
 public:
  // budget: bytes of what is kept; nothing: the estimate's.
  explicit WeightStore(std::shared_ptr<const compile::CompiledProgram> program,
                       std::optional<size_t> budget = {});

  using Transform = std::shared_ptr<const circuits::LinearTransform>;
  using Factor = std::shared_ptr<const ckks::Plaintext>;

  // A map of several terms for an operand of this level and scale, giving `output_scale`. latency:
  // gets the time of what had to be made; may be null. Errors: those of LinearTransform::Create.
  Result<Transform> TransformOf(const compile::LinearMap& map, int level, double input_scale,
                                double output_scale, LatencyTable* latency);
  // A map of one term as the factor of a product. Errors: those of Encoder::Encode.
  Result<Factor> FactorOf(const compile::LinearMap& map, int level, double scale,
                          LatencyTable* latency);

  using Bootstrapper = std::shared_ptr<const circuits::Bootstrapper>;
  // Kept whatever the budget. Errors: those of Bootstrapper::Create.
  Result<Bootstrapper> BootstrapperOf(const circuits::BootstrapSpec& spec);

  const std::shared_ptr<const compile::CompiledProgram>& program() const { return program_; }
  const ckks::Encoder& encoder() const { return encoder_; }
  size_t budget() const { return budget_; }
  size_t bytes() const;  // of what is kept
  void Report(MemoryReport& report) const;

 private:
  struct Kept {
    Transform transform;
    Factor factor;
    double input_scale = 1, output_scale = 1;
    size_t bytes = 0;
    double seconds = 0;  // that it took to make
  };
  using Key = compile::PlaintextKey;

  std::optional<Kept> Find(const Key& key, double input_scale, double output_scale) const;
  // Keeps it where the budget has room, or what is kept saves half as much time a byte.
  void Offer(const compile::LinearMap& map, const Key& key, Kept made);
  bool MakeRoom(const Kept& made);

  const std::shared_ptr<const compile::CompiledProgram> program_;
  const ckks::Encoder encoder_;
  const size_t budget_;
  mutable std::mutex mutex_;
  std::map<Key, Kept> kept_;
  std::map<circuits::BootstrapSpec, Bootstrapper> bootstrappers_;
  size_t bytes_ = 0;
};

}  // namespace polyveil::runtime
