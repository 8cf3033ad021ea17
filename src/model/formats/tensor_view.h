// Tensors where they stand in a mapped file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/element_type.h"

namespace polyveil::model {

// What a matrix [rows, cols] is taken with beside what its file has: left right is added to it.
struct LowRankUpdate {
  int rank = 0;
  std::vector<float> left;   // [rows, rank]
  std::vector<float> right;  // [rank, cols]
};

// Row-major, the last extent contiguous; bytes belong to the mapping. Blocks of quantised types
// stand inside rows.
struct TensorView {
  std::string name;
  ElementType type = ElementType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::uint8_t> bytes;
  std::shared_ptr<const LowRankUpdate> update{};  // of an adapter; null: none

  std::int64_t rows() const { return shape.empty() ? 1 : shape.front(); }
  std::int64_t cols() const;  // elements of a row
  std::size_t row_bytes() const;
  bool empty() const { return bytes.empty(); }
  // The values where they stand, when they are aligned float32 without an update; else null.
  const float* floats() const;
};

std::string ShapeText(std::span<const std::int64_t> shape);  // "[2, 3]"

// Widens elements [first_col, first_col + cols) of the rows [first_row, first_row + rows) to
// out [rows, cols], with their update. Requires columns at block boundaries.
void DecodeTile(const TensorView& tensor, std::int64_t first_row, std::int64_t rows,
                std::int64_t first_col, std::int64_t cols, float* out);
std::vector<float> DecodeAll(const TensorView& tensor);
// Adds a row, of as many values as x has.
void AddRow(const TensorView& tensor, std::int64_t row, std::span<float> x);

// Reads every element of a real type. Errors: kCorrupt with the tensor's name, how many are not
// finite, the first of them.
Status CheckFinite(const TensorView& tensor);

using TensorViews = std::map<std::string, TensorView>;

}  // namespace polyveil::model
