// Seconds of each operation from its level, from a few speeds measured on the machine at hand.
#pragma once

#include <map>
#include <optional>
#include <set>

#include "base/int_types.h"
#include "ckks/key_request.h"
#include "ckks/parameters.h"
#include "compile/graph.h"

namespace polyveil::compile {

// Seconds of one thread while all `threads` are at work: they share memory, and often cores.
struct MachineSpeed {
  double ntt_seconds = 1.25e-4;     // one limb that is not in L2
  double product_seconds = 1.7e-5;  // one limb of a multiply-accumulate in cache
  double stream_seconds = 4.6e-5;   // one limb of a key product, the key read from memory
  double expand_seconds = 9e-5;     // one limb from its seed
  double encode_seconds = 2e-3;     // all slots' values to rounded coefficients
  double gather_seconds = 3e-4;     // all slots' values of a matrix from its weights
  int threads = 2;
  // What a server may keep of its weights' plaintexts: nothing is half of memory_bytes beside one
  // client's keys and a step, so that a second client finds room.
  std::optional<u64> weight_bytes;
  u64 memory_bytes = 0;  // that the process can get; 0: unknown, no limit
};

// Measures the speeds in about 0.2 s with the active backend: medians, so that they hold for the
// machine as it is, shared or not.
MachineSpeed MeasureMachineSpeed(int log_n, int threads);

class CostModel {
 public:
  CostModel(ckks::ParametersPtr params, MachineSpeed speed);

  // From now on key switches cost what the fastest key of the request makes them cost, before: what
  // a key of their own level would.
  void UseKeys(const ckks::KeyRequest& keys);

  // The operation at this level (Depth(node) above it for its operands); bootstraps:
  // BootstrapSeconds.
  double Seconds(const Node& node, int level) const;
  double BootstrapSeconds(int log_period, bool real) const;
  // A map's plaintexts from its weights, which Seconds leaves out, for an operand at this level.
  double MakeSeconds(const LinearMap& map, int level) const;
  size_t PlaintextBytes(const LinearMap& map, int level) const;
  // What a map of several terms holds while it runs: the rotations of its operand over QP.
  size_t RotationBytes(const LinearMap& map, int level) const;
  double KeyGenerationSeconds(const ckks::KeyRequest& request) const;
  // `limbs` limbs of compact keys, in place of their read from memory.
  double ExpansionSeconds(double limbs) const;

 private:
  double Parallel(double seconds) const;
  double Transform() const;  // of a limb on one thread, out of memory and back
  double KeySwitch(int level) const { return KeySwitch(level, nullptr); }
  double KeySwitch(int level, const std::set<int>* keys) const;
  double Rotate(int rotation, int level) const;
  double HoistedRotation(int level) const;
  // `count` rotations of a band's operand in groups, `ahead` of a decomposition each.
  double Fan(int count, int ahead, int level) const;
  double ModUp(int level) const;
  double Product(int level) const;  // ciphertext x ciphertext, relinearised and rescaled
  double MulSum(const Node& node, int level) const;
  double Rescale(int level) const;
  double Chebyshev(int degree, int level) const;
  struct Split {
    int babies = 1;
    double seconds = 0;  // of its rotations
  };
  // baby_steps: given, or 0 for the best.
  Split BestSplit(int diagonals, int level, int baby_steps) const;
  // The key switches of a linear transform.
  double Rotations(int diagonals, int level, int baby_steps) const;
  double LinearTransform(int diagonals, int level) const;
  double Terms(const LinearMap& map, int level) const;
  double Band(const Node& node, int level) const;
  double SlotsToCoeffs(int log_period, int log_size) const;
  double CoeffsToSlots(int log_size) const;
  double Trace(int log_output_period) const;

  ckks::ParametersPtr params_;
  MachineSpeed speed_;
  // Levels of the keys; empty: not known.
  std::map<int, std::set<int>> rotation_keys_;
  std::set<int> relinearization_keys_, conjugation_keys_;
};

// Bytes of the keys: expanded in memory, and seeded and packed on the wire.
struct KeyBytes {
  size_t memory = 0, wire = 0;
};
KeyBytes MeasureKeys(const ckks::Parameters& params, const ckks::KeyRequest& request);

}  // namespace polyveil::compile
