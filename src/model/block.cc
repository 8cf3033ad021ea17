#include "model/block.h"

#include <fmt/ranges.h>

#include <cmath>
#include <random>

#include "base/check.h"
#include "model/activation.h"
#include "model/layer_json.h"

namespace polyveil::model {
namespace {

Status CheckSize(const std::string& where, const char* field, int value) {
  constexpr int kLargest = 1 << 20;
  if (value >= 1 && value <= kLargest) return {};
  return MakeError(ErrorCode::kOutOfRange, "{}: {} = {} outside 1..{}", where, field, value,
                   kLargest);
}

Status CheckFeedForward(const BlockShape& s, const std::string& where) {
  if (s.activation == BlockActivation::kIdentity && !s.gated)
    return MakeError(ErrorCode::kMismatch, "{}: an activation is missing, gated = {}", where,
                     s.gated);
  if (s.bilinear() && (s.biases || s.parallel))
    return MakeError(ErrorCode::kMismatch,
                     "{}: a bilinear feed-forward with biases = {}, parallel = {}", where, s.biases,
                     s.parallel);
  return {};
}

Matrix RandomProjection(int rows, int cols, std::mt19937_64& random) {
  std::normal_distribution<double> normal(0, 1 / std::sqrt(static_cast<double>(cols)));
  Matrix m{rows, cols, std::vector<double>(static_cast<std::size_t>(rows) * cols)};
  for (double& v : m.values) v = normal(random);
  return m;
}

void AddRandomBiases(const BlockShape& s, std::mt19937_64& random, BlockWeights& w) {
  std::normal_distribution<double> normal(0, 0.1);
  const auto fill = [&](int size) {
    std::vector<double> bias(static_cast<std::size_t>(size));
    for (double& v : bias) v = normal(random);
    return bias;
  };
  w.bq = fill(s.q_width());
  w.bk = fill(s.kv_width());
  w.bv = fill(s.kv_width());
  w.bo = fill(s.d_model);
  if (s.gated) w.b_gate = fill(s.d_ff);
  w.b_up = fill(s.d_ff);
  w.b_down = fill(s.d_model);
}

void AddRandomGains(const BlockShape& s, std::mt19937_64& random, BlockWeights& w) {
  std::normal_distribution<double> normal(1, 0.2);
  for (auto* gain : {&w.gain_in, &w.gain_mid}) {
    gain->resize(static_cast<std::size_t>(s.d_model));
    for (double& v : *gain) v = normal(random);
  }
}

Status CheckPostNorm(const BlockShape& s, const std::string& where) {
  if (!s.post_norm && (!s.causal || s.norm_outside))
    return MakeError(ErrorCode::kMismatch,
                     "{}: post_norm = false with causal = {}, norm_outside = {}", where, s.causal,
                     s.norm_outside);
  if (s.post_norm && (s.parallel || s.gated || !s.centred || !s.biases || !s.rotary.empty()))
    return MakeError(ErrorCode::kMismatch,
                     "{}: a post-norm block with parallel = {}, gated = {}, centred = {}, biases = "
                     "{}, {} rotary pairs",
                     where, s.parallel, s.gated, s.centred, s.biases, s.rotary.size());
  return {};
}

}  // namespace

double Activate(BlockActivation activation, double x) {
  switch (activation) {
    case BlockActivation::kSilu:
      return Silu(x);
    case BlockActivation::kGelu:
      return Gelu(x);
    case BlockActivation::kGeluTanh:
      return GeluTanh(x);
    case BlockActivation::kIdentity:
      return x;
  }
  PV_CHECK(false, "activation {}", static_cast<int>(activation));
}

std::int64_t BlockShape::parameters() const {
  const std::int64_t d = d_model, q = q_width(), kv = kv_width(), f = d_ff;
  return d * (2 * q + 2 * kv) + (gated ? 3 : 2) * d * f;
}

std::shared_ptr<const BlockBiases> BlockWeightSource::Biases() const {
  std::lock_guard lock(mutex_);
  if (biases_) return biases_;
  BlockBiases biases;
  for (const unsigned part : {kQkvWeights, kProjectionWeights, kHiddenWeights, kDownWeights}) {
    const auto weights = Load(part);
    for (auto bias : {&BlockBiases::bq, &BlockBiases::bk, &BlockBiases::bv, &BlockBiases::bo,
                      &BlockBiases::b_gate, &BlockBiases::b_up, &BlockBiases::b_down,
                      &BlockBiases::gain_in, &BlockBiases::gain_mid})
      if (!((*weights).*bias).empty()) biases.*bias = (*weights).*bias;
  }
  biases_ = std::make_shared<const BlockBiases>(std::move(biases));
  return biases_;
}

Status ValidateBlock(const Block& block, const std::string& where) {
  const BlockShape& s = block.shape;
  PV_RETURN_IF_ERROR(CheckSize(where, "d_model", s.d_model));
  PV_RETURN_IF_ERROR(CheckSize(where, "n_heads", s.n_heads));
  PV_RETURN_IF_ERROR(CheckSize(where, "n_kv_heads", s.n_kv_heads));
  PV_RETURN_IF_ERROR(CheckSize(where, "d_head", s.d_head));
  PV_RETURN_IF_ERROR(CheckSize(where, "d_ff", s.d_ff));
  if (s.n_heads % s.n_kv_heads != 0)
    return MakeError(ErrorCode::kMismatch, "{}: n_heads = {} is no multiple of n_kv_heads = {}",
                     where, s.n_heads, s.n_kv_heads);
  if (s.power % 2 != 0 || s.power < 2 || s.power > 12)
    return MakeError(ErrorCode::kOutOfRange, "{}: power = {} is not even and in 2..12", where,
                     s.power);
  if (2 * s.rotary.size() > static_cast<std::size_t>(s.d_head))
    return MakeError(ErrorCode::kMismatch, "{}: {} rotary pairs, d_head = {}", where,
                     s.rotary.size(), s.d_head);
  PV_RETURN_IF_ERROR(CheckFeedForward(s, where));
  PV_RETURN_IF_ERROR(CheckPostNorm(s, where));
  if (block.prefix_keys.size() != block.prefix_values.size() ||
      block.prefix_keys.size() % static_cast<std::size_t>(s.kv_width()) != 0)
    return MakeError(ErrorCode::kMismatch, "{}: a prefix of {} keys' and {} values' numbers", where,
                     block.prefix_keys.size(), block.prefix_values.size());
  PV_RETURN_IF_ERROR(ValidateExponents(block.forms.bounds, s.d_model, where));
  return ValidateLayer(block.forms, s.n_heads, !s.bilinear(), LayerFields::kAll, where);
}

std::string DescribeShape(const BlockShape& s) {
  const std::string text = fmt::format(
      "{} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", s.d_model, s.n_heads, s.n_kv_heads, s.d_head,
      s.d_ff, s.gated, s.parallel, s.centred, s.biases, static_cast<int>(s.activation), s.norm_eps,
      s.power, s.attention_eps, fmt::join(s.rotary, ","), s.adjacent_pairs);
  return s.post_norm ? fmt::format("{} post-norm {} {}", text, s.causal, s.norm_outside) : text;
}

void RemoveMean(std::vector<double>& x) {
  double mean = 0;
  for (const double v : x) mean += v / static_cast<double>(x.size());
  for (double& v : x) v -= mean;
}

void RemoveMean(Matrix& w, std::vector<double>& bias) {
  const auto cols = static_cast<std::size_t>(w.cols);
  std::vector<double> mean(cols);
  for (int r = 0; r < w.rows; ++r) {
    const auto row = w.row(r);
    for (std::size_t c = 0; c < cols; ++c) mean[c] += row[c] / w.rows;
  }
  for (int r = 0; r < w.rows; ++r) {
    double* row = w.values.data() + static_cast<std::size_t>(r) * cols;
    for (std::size_t c = 0; c < cols; ++c) row[c] -= mean[c];
  }
  RemoveMean(bias);
}

BlockWeights RandomBlockWeights(const BlockShape& s, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  BlockWeights w;
  w.wq = RandomProjection(s.q_width(), s.d_model, random);
  for (double& v : w.wq.values) v /= std::sqrt(static_cast<double>(s.d_head));
  w.wk = RandomProjection(s.kv_width(), s.d_model, random);
  w.wv = RandomProjection(s.kv_width(), s.d_model, random);
  w.wo = RandomProjection(s.d_model, s.q_width(), random);
  if (s.gated) w.gate = RandomProjection(s.d_ff, s.d_model, random);
  w.up = RandomProjection(s.d_ff, s.d_model, random);
  w.down = RandomProjection(s.d_model, s.d_ff, random);
  if (s.biases) AddRandomBiases(s, random, w);
  if (s.post_norm) AddRandomGains(s, random, w);
  if (s.centred) {
    RemoveMean(w.wo, w.bo);
    RemoveMean(w.down, w.b_down);
  }
  return w;
}

void RotateRows(const BlockShape& shape, int position, std::span<double> values, int cols) {
  const int pairs = static_cast<int>(shape.rotary.size());
  const int rows = static_cast<int>(values.size()) / cols;
  for (int i = 0; i < pairs; ++i) {
    const double angle = position * shape.rotary[static_cast<std::size_t>(i)];
    const double c = std::cos(angle), s = std::sin(angle);
    const int first = shape.adjacent_pairs ? 2 * i : i;
    const int second = shape.adjacent_pairs ? first + 1 : first + pairs;
    for (int head = 0; head < rows; head += shape.d_head) {
      double* x = values.data() + static_cast<std::size_t>(head + first) * cols;
      double* y = values.data() + static_cast<std::size_t>(head + second) * cols;
      for (int col = 0; col < cols; ++col) {
        const double before = x[col];
        x[col] = before * c - y[col] * s;
        y[col] = before * s + y[col] * c;
      }
    }
  }
}

Turn TurnOf(const BlockShape& shape, int position, int element) {
  const int pairs = static_cast<int>(shape.rotary.size());
  if (element >= 2 * pairs) return {1, 0, element};
  const int pair = shape.adjacent_pairs ? element / 2 : element % pairs;
  const bool second = shape.adjacent_pairs ? element % 2 == 1 : element >= pairs;
  const double angle = position * shape.rotary[static_cast<std::size_t>(pair)];
  const int apart = shape.adjacent_pairs ? 1 : pairs;
  return {std::cos(angle), second ? std::sin(angle) : -std::sin(angle),
          second ? element - apart : element + apart};
}

}  // namespace polyveil::model
