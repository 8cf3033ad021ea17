// Shapes of models that users know, for estimates and measurements without their files.
#pragma once

#include <string>
#include <vector>

#include "model/block.h"

namespace polyveil::model {

struct ModelShape {
  std::string name;
  BlockShape block;
  int n_layers = 0, vocab_size = 0;

  // Of the blocks, with the embedding and a head of its own where the model has one.
  std::int64_t parameters() const;
  bool tied_head = true;
};

std::vector<std::string> ModelShapeNames();
// Errors: kNotFound, the known names listed.
Result<ModelShape> FindModelShape(const std::string& name);

// Polynomials of these degrees on usual intervals, for shapes without forms of their own.
LayerConfig NominalForms(const BlockShape& shape, int norm_degree, int divisor_degree,
                         int activation_degree);

}  // namespace polyveil::model
