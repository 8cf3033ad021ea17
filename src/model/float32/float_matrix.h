// Activations: row-major float32, a row for each token.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace polyveil::model {

struct FloatMatrix {
  int rows = 0, cols = 0;
  std::vector<float> values;

  FloatMatrix() = default;
  FloatMatrix(int rows, int cols)
      : rows(rows), cols(cols), values(static_cast<std::size_t>(rows) * cols) {}

  std::span<float> row(int r) {
    return {values.data() + static_cast<std::size_t>(r) * cols, static_cast<std::size_t>(cols)};
  }
  std::span<const float> row(int r) const {
    return {values.data() + static_cast<std::size_t>(r) * cols, static_cast<std::size_t>(cols)};
  }
};

}  // namespace polyveil::model
