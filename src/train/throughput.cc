#include "train/throughput.h"

#include <algorithm>
#include <chrono>

#include "train/bf16_product.h"

namespace polyveil::train {

double MeasureGemmRate(torch::ScalarType type, Precision precision) {
  constexpr std::int64_t kSize = 768;
  constexpr int kRepeats = 5;
  torch::NoGradGuard no_grad;
  const bool bf16 = precision == Precision::kBf16;
  torch::Tensor c = torch::zeros({kSize, kSize}, type);
  const torch::Tensor a = torch::ones({kSize, kSize}, bf16 ? torch::kBFloat16 : type),
                      b = a.clone();
  const auto multiply = [&] { bf16 ? MultiplyBf16(a, b, c) : (void)torch::mm_out(c, a, b); };
  multiply();  // threads and pages are ready after this one
  double best = 0;
  for (int i = 0; i < kRepeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    multiply();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds.count());
  }
  return best;
}

double TrainingFlopsPerToken(const Shape& shape) {
  const double d = shape.d_model, f = shape.d_ff;
  const double up = shape.ffn == model::FeedForwardKind::kBilinear ? 2 : 1;
  const double block = 4 * d * d + (up + 1) * d * f + 2 * d * shape.context;
  return 3 * 2 * (shape.n_layers * block + d * shape.vocab_size);
}

}  // namespace polyveil::train
