#include "model/float32/linear.h"

#include <cblas.h>

#include <algorithm>
#include <mutex>

#include "base/check.h"
#include "base/thread_pool.h"

namespace polyveil::model {
namespace {

constexpr int kTile = 192;  // output features of one task: its float32 weights stay in L2

// Threads are ours (base/thread_pool): BLAS must not start its own under them. With OpenMP the
// number belongs to the calling thread, so every thread sets it before its first product.
void UseOneBlasThread() {
  static std::mutex mutex;
  thread_local bool done = false;
  if (done) return;
  const std::lock_guard lock(mutex);
  openblas_set_num_threads(1);
  done = true;
}

// Weights of the output features [first, first + count): row-major [count, in], or [in, count] when
// the file is transposed. In place where it can be, else decoded to scratch.
struct WeightTile {
  const float* data;
  int stride;
};

WeightTile LoadTile(const Linear& linear, int first, int count, std::vector<float>& scratch) {
  const float* floats = linear.weight.floats();
  if (linear.transposed) {
    if (floats) return {floats + first, linear.out};
    scratch.resize(static_cast<std::size_t>(linear.in) * count);
    DecodeTile(linear.weight, 0, linear.in, first, count, scratch.data());
    return {scratch.data(), count};
  }
  if (floats) return {floats + static_cast<std::size_t>(first) * linear.in, linear.in};
  scratch.resize(static_cast<std::size_t>(linear.in) * count);
  DecodeTile(linear.weight, first, count, 0, linear.in, scratch.data());
  return {scratch.data(), linear.in};
}

void AddBias(std::span<const float> bias, const FloatMatrix& y, float* at) {
  for (int r = 0; r < y.rows; ++r, at += y.cols)
    for (std::size_t i = 0; i < bias.size(); ++i) at[i] += bias[i];
}

}  // namespace

void Multiply(const MatrixProduct& p) {
  UseOneBlasThread();
  if (p.m == 1) {
    const int rows = p.transpose_b ? p.n : p.k, cols = p.transpose_b ? p.k : p.n;
    cblas_sgemv(CblasRowMajor, p.transpose_b ? CblasNoTrans : CblasTrans, rows, cols, p.alpha, p.b,
                p.b_stride, p.a, 1, 0, p.c, 1);
    return;
  }
  cblas_sgemm(CblasRowMajor, CblasNoTrans, p.transpose_b ? CblasTrans : CblasNoTrans, p.m, p.n, p.k,
              p.alpha, p.a, p.a_stride, p.b, p.b_stride, 0, p.c, p.c_stride);
}

void Apply(const Linear& linear, const FloatMatrix& x, FloatMatrix& y, int first_col) {
  PV_CHECK(x.cols == linear.in && x.rows == y.rows && first_col + linear.out <= y.cols,
           "{}: [{}, {}] to columns {} + {} of [{}, {}]", linear.weight.name, x.rows, x.cols,
           first_col, linear.out, y.rows, y.cols);
  if (x.rows == 0) return;
  const int tiles = (linear.out + kTile - 1) / kTile;
  ParallelFor(static_cast<std::size_t>(tiles), [&](std::size_t tile) {
    thread_local std::vector<float> scratch;
    const int first = static_cast<int>(tile) * kTile, count = std::min(kTile, linear.out - first);
    const WeightTile weights = LoadTile(linear, first, count, scratch);
    float* out = y.values.data() + first_col + first;
    Multiply({x.rows, count, linear.in, 1, x.values.data(), x.cols, weights.data, weights.stride,
              !linear.transposed, out, y.cols});
    if (!linear.bias.empty())
      AddBias(std::span(linear.bias)
                  .subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
              y, out);
  });
}

FloatMatrix Apply(const Linear& linear, const FloatMatrix& x) {
  FloatMatrix y(x.rows, linear.out);
  Apply(linear, x, y);
  return y;
}

}  // namespace polyveil::model
