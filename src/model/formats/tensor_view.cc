#include "model/formats/tensor_view.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include "base/check.h"
#include "base/thread_pool.h"

namespace polyveil::model {
namespace {

// out [cols] += (left right)[row, first_col..].
void AddUpdate(const LowRankUpdate& update, std::int64_t row, std::int64_t all_cols,
               std::int64_t first_col, std::int64_t cols, float* out) {
  for (int k = 0; k < update.rank; ++k) {
    const float factor = update.left[static_cast<std::size_t>(row * update.rank + k)];
    const float* right = update.right.data() + k * all_cols + first_col;
    for (std::int64_t c = 0; c < cols; ++c) out[c] += factor * right[c];
  }
}

}  // namespace

std::int64_t TensorView::cols() const {
  std::int64_t n = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) n *= shape[i];
  return n;
}

std::size_t TensorView::row_bytes() const {
  const ElementFormat& format = FormatOf(type);
  return static_cast<std::size_t>(cols()) / format.block_elements * format.block_bytes;
}

const float* TensorView::floats() const {
  const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.data()) % alignof(float) == 0;
  return type == ElementType::kF32 && aligned && !update
             ? reinterpret_cast<const float*>(bytes.data())
             : nullptr;
}

std::string ShapeText(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + "]";
}

void DecodeTile(const TensorView& tensor, std::int64_t first_row, std::int64_t rows,
                std::int64_t first_col, std::int64_t cols, float* out) {
  const ElementFormat& format = FormatOf(tensor.type);
  const auto first = static_cast<std::size_t>(first_col);
  PV_CHECK(first % format.block_elements == 0 && first_row + rows <= tensor.rows() &&
               first_col + cols <= tensor.cols(),
           "{}: tile at ({}, {}) of {} x {}", tensor.name, first_row, first_col, rows, cols);
  const std::uint8_t* at = tensor.bytes.data() +
                           static_cast<std::size_t>(first_row) * tensor.row_bytes() +
                           first / format.block_elements * format.block_bytes;
  for (std::int64_t r = 0; r < rows; ++r) {
    DecodeElements(tensor.type, at, static_cast<std::size_t>(cols), out + r * cols);
    if (tensor.update)
      AddUpdate(*tensor.update, first_row + r, tensor.cols(), first_col, cols, out + r * cols);
    at += tensor.row_bytes();
  }
}

std::vector<float> DecodeAll(const TensorView& tensor) {
  std::vector<float> out(static_cast<std::size_t>(tensor.rows() * tensor.cols()));
  DecodeTile(tensor, 0, tensor.rows(), 0, tensor.cols(), out.data());
  return out;
}

void AddRow(const TensorView& tensor, std::int64_t row, std::span<float> x) {
  std::vector<float> values(x.size());
  DecodeTile(tensor, row, 1, 0, static_cast<std::int64_t>(x.size()), values.data());
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += values[i];
}

Status CheckFinite(const TensorView& tensor) {
  const std::int64_t cols = tensor.cols();
  std::mutex mutex;
  std::int64_t lost = 0, first = tensor.rows() * cols;
  float value = 0;
  ParallelFor(static_cast<std::size_t>(tensor.rows()), [&](std::size_t row) {
    std::vector<float> values(static_cast<std::size_t>(cols));
    DecodeTile(tensor, static_cast<std::int64_t>(row), 1, 0, cols, values.data());
    const auto bad = [](float x) { return !std::isfinite(x); };
    const auto at = std::find_if(values.begin(), values.end(), bad);
    if (at == values.end()) return;
    const std::int64_t index = static_cast<std::int64_t>(row) * cols + (at - values.begin());
    const std::lock_guard lock(mutex);
    lost += std::count_if(at, values.end(), bad);
    if (index >= first) return;
    first = index;
    value = *at;
  });
  if (lost == 0) return {};
  return MakeError(ErrorCode::kCorrupt,
                   "tensor \"{}\": {} of {} elements are not finite, the first is [{}, {}] = {}",
                   tensor.name, lost, tensor.rows() * cols, first / cols, first % cols, value);
}

}  // namespace polyveil::model
