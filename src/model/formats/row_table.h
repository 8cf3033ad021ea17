// A matrix of a file where it stands mapped, of any type of elements: rows out of it, and its
// product with a vector.
#pragma once

#include <span>
#include <vector>

#include "model/formats/tensor_view.h"

namespace polyveil::model {

class RowTable {
 public:
  RowTable() = default;
  // Requires a real type, or I8 with a scale for each row.
  RowTable(TensorView view, std::vector<float> scales)
      : view_(std::move(view)), scales_(std::move(scales)) {}

  bool empty() const { return view_.empty(); }
  std::int64_t rows() const { return view_.rows(); }
  std::int64_t cols() const { return view_.cols(); }

  // x += row. Requires row < rows() and as many values as columns.
  void AddRow(std::int64_t row, std::span<double> x) const;
  // y = W x: a pass over the bytes, rows in parallel, sums in float64.
  std::vector<double> Multiply(std::span<const double> x) const;

 private:
  // Values of a row before its scale.
  void Decode(std::int64_t row, float* out) const;
  double Scale(std::int64_t row) const {
    return scales_.empty() ? 1 : scales_[static_cast<std::size_t>(row)];
  }

  TensorView view_;
  std::vector<float> scales_;
};

}  // namespace polyveil::model
