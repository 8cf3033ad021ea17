// Finds tensors by name and remembers which were taken; internal to this folder.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "model/formats/weights.h"

namespace polyveil::model {

// The first error stays; what follows it reads as empty.
class TensorBinder {
 public:
  // All are kept by reference.
  TensorBinder(const TensorViews& tensors, const WeightNames& names);

  TensorView Take(const std::string& name, std::vector<std::int64_t> shape);
  std::vector<float> Vector(const std::string& name, int size);
  Linear Matrix(const std::string& name, int out, int in, bool bias, bool transposed);
  NormWeights TakeNorm(const std::string& name, const Architecture& architecture);
  bool Has(const std::string& name) const;

  // Fails for a tensor that was not taken and is neither a buffer of the program that wrote it nor
  // another task's head: a weight that the forward pass lacks. `head`: the model's own is one.
  void RefuseWeights(const Architecture& architecture);

  const std::set<std::string>& unused() const { return unused_; }
  const Status& status() const { return status_; }

 private:
  void FindPrefix(const WeightNames& names);
  std::vector<std::string> NamesOf(const std::string& name) const;
  const TensorView* Find(const std::string& name);
  bool MayStayUnused(std::string_view name, bool causal_head) const;
  void Fail(Error error) {
    if (status_.ok()) status_ = std::move(error);
  }

  const TensorViews& tensors_;
  std::string wrapper_, prefix_;  // of every name; of the names without their heads
  std::set<std::string> unused_;
  Status status_;
};

// "layers.{}.norm" of one layer.
std::string LayerName(const std::string& pattern, int layer);

}  // namespace polyveil::model
