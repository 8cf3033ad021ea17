// Graph operations on ciphertexts.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "circuits/bootstrapper.h"
#include "circuits/compact_plaintext.h"
#include "ckks/encoder.h"
#include "ckks/evaluator.h"
#include "compile/compiled_program.h"
#include "runtime/latency_table.h"
#include "runtime/weight_store.h"

namespace polyveil::runtime {

// What every step of one client shares: made once for its keys. Immutable.
struct EngineParts {
  std::shared_ptr<const compile::CompiledProgram> model;
  std::shared_ptr<const ckks::EvaluationKeys> keys;
  std::shared_ptr<WeightStore> weights;
  ckks::Encoder encoder;
  ckks::Evaluator evaluator;
  std::map<circuits::BootstrapSpec, WeightStore::Bootstrapper> bootstrappers;
};

// Keeps the invariant that a value at level l has the nominal scale params.scale(l), except between
// kRescaleUnit and the polynomial that follows; an operand above its user's level is adjusted on
// use.
class EngineMachine {
 public:
  using Value = ckks::Ciphertext;

  EngineMachine(const EngineParts& parts, LatencyTable* latency)
      : parts_(parts), latency_(latency) {}

  // The step's input, or a kept value; null: zero (a trivial encryption, the server may know it).
  Result<Value> Load(const compile::Node& node, const Value* value);
  // Known values as a ciphertext of the level, which the server may know; none: zero.
  Result<Value> Trivial(const std::vector<compile::Complex>& slots, int level);
  Result<Value> Execute(const compile::Node& node, std::span<const Value* const> inputs);

 private:
  Result<Value> Dispatch(const compile::Node& node, std::span<const Value* const> inputs);
  Result<Value> At(const Value& value, int level);
  Result<ckks::Plaintext> Encode(const std::vector<compile::Complex>& values, int level,
                                 double scale);
  Result<Value> MulPlain(const compile::Node& node, const Value& a);
  Result<Value> Linear(const compile::Node& node, const Value& a);
  Result<Value> MulSum(const compile::Node& node, std::span<const Value* const> inputs);
  Result<Value> Band(const compile::Node& node, const Value& a, const Value& b);
  Result<Value> AddPlain(const compile::Node& node, const Value& a);
  Result<Value> RotateSum(const compile::Node& node, const Value& a);
  Result<Value> ChangeUnit(const compile::Node& node, const Value& a);
  Result<Value> Bootstrap(const compile::Node& node, const Value& a);
  const ckks::Parameters& params() const { return *parts_.model->params(); }

  Result<std::vector<circuits::CompactPlaintext>> EncodeTerms(const compile::LinearMap& map,
                                                              int first, int count, int shift,
                                                              int level, double scale);
  class Fan;
  class Steps;
  // Of a band's operand that another band shares; null: nobody's.
  std::map<int, Value>* KeptSteps(const compile::Node& node);
  Result<Value> Products(const compile::LinearMap& map, std::span<const Value* const> a,
                         std::span<const circuits::CompactPlaintext> plains, double scale,
                         std::span<const Value* const> b);
  Result<Value> Rotated(const Value& value, int rotation);
  // Adds a primitive's time to the latency table.
  class Stopwatch;
  const EngineParts& parts_;
  LatencyTable* latency_;
  std::map<int, Value> steps_;  // of the operand that the last band keeps
  WeightStore::Transform map_;  // that the last linear one keeps
};

}  // namespace polyveil::runtime
