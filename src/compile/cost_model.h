// Seconds of each operation from its level, from a few speeds measured on the machine at hand.
#pragma once

#include "ckks/parameters.h"
#include "compile/graph.h"

namespace polyveil::compile {

struct MachineSpeed {
  double ntt_seconds = 1.1e-4;      // one limb at N = 2^16, one core
  double product_seconds = 2.5e-5;  // one limb of multiply-accumulate at N = 2^16, one core
  double key_seconds = 4e-5;        // one limb of key product, the key read from memory
  int threads = 2;
  double efficiency = 0.85;         // of the second and later threads
};

// Measures the speeds in about 50 ms with the active backend.
MachineSpeed MeasureMachineSpeed(int log_n, int threads);

class CostModel {
 public:
  CostModel(ckks::ParametersPtr params, MachineSpeed speed);
  double Seconds(const Node& node) const;  // node.level set

 private:
  double KeySwitch(int level) const;
  double Product(int level) const;
  double Bootstrap(int log_period, bool real) const;
  ckks::ParametersPtr params_;
  MachineSpeed speed_;
};

}  // namespace polyveil::compile
