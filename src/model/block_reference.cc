#include "model/block_reference.h"

#include <algorithm>
#include <cmath>

#include "base/worst.h"

namespace polyveil::model {
namespace {

void Note(double& bound, std::span<const double> values) {
  for (const double v : values) bound = Worse(bound, std::abs(v));
}

void ScaleAndAdd(std::vector<double>& x, double factor, const std::vector<double>& bias) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = x[i] * factor + (bias.empty() ? 0 : bias[i]);
}

void AddTo(std::vector<double>& x, std::span<const double> y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

}  // namespace

BlockReference::BlockReference(const Block& block, Evaluation evaluation)
    : block_(block), w_(block.weights->Get()), exact_(evaluation == Evaluation::kExact) {
  ranges_.score.resize(static_cast<std::size_t>(block.shape.n_heads));
  ranges_.log_mean.resize(static_cast<std::size_t>(block.shape.n_heads));
  Reset();
}

void BlockReference::Reset() {
  position_ = block_.prefix();
  keys_ = block_.prefix_keys;
  values_ = block_.prefix_values;
}

Result<std::vector<double>> BlockReference::Step(std::span<const double> input) {
  const BlockShape& s = block_.shape;
  if (static_cast<int>(input.size()) != s.d_model)
    return MakeError(ErrorCode::kMismatch, "a token of {} values, the block's width is {}",
                     input.size(), s.d_model);
  std::vector<double> x(input.begin(), input.end());
  Note(ranges_.bounds.residual_in, x);
  const double root1 = InverseRoot(x, block_.forms.norm1, ranges_.norm1);
  const std::vector<double> attended = Attention(x, root1);
  std::vector<double> middle = x;
  AddTo(middle, attended);
  if (s.parallel) {
    AddTo(middle, FeedForward(x, root1));
  } else {
    Note(ranges_.bounds.residual_mid, middle);
    AddTo(middle, FeedForward(middle, InverseRoot(middle, block_.forms.norm2, ranges_.norm2)));
  }
  Note(ranges_.bounds.residual_out, middle);
  ++position_;
  ++ranges_.tokens;
  return middle;
}

double BlockReference::InverseRoot(std::span<const double> x, const Approximant& p,
                                   approx::Range& seen) {
  double mean = 0;
  for (const double v : x) mean += v * v / static_cast<double>(x.size());
  seen.Add(mean);
  return exact_ ? 1 / std::sqrt(mean + block_.shape.norm_eps) : p(mean);
}

std::vector<double> BlockReference::Attention(const std::vector<double>& x, double root) {
  const BlockShape& s = block_.shape;
  std::vector<double> q = Multiply(w_->wq, x), k = Multiply(w_->wk, x), v = Multiply(w_->wv, x);
  ScaleAndAdd(q, root, w_->bq);
  ScaleAndAdd(k, root, w_->bk);
  ScaleAndAdd(v, root, w_->bv);
  RotateRows(s, position_, q, 1);
  RotateRows(s, position_, k, 1);
  Note(ranges_.bounds.query, q);
  Note(ranges_.bounds.key, k);
  Note(ranges_.bounds.value, v);
  keys_.insert(keys_.end(), k.begin(), k.end());
  values_.insert(values_.end(), v.begin(), v.end());
  std::vector<double> heads(static_cast<std::size_t>(s.q_width()));
  for (int h = 0; h < s.n_heads; ++h) {
    const auto at = static_cast<std::size_t>(h) * s.d_head;
    AttendHead(h, std::span(q).subspan(at, s.d_head), std::span(heads).subspan(at, s.d_head));
  }
  Note(ranges_.bounds.head_out, heads);
  std::vector<double> out = Multiply(w_->wo, heads);
  ScaleAndAdd(out, 1, w_->bo);
  return out;
}

void BlockReference::AttendHead(int head, std::span<const double> query, std::span<double> out) {
  const BlockShape& s = block_.shape;
  const auto h = static_cast<std::size_t>(head);
  const std::size_t first = static_cast<std::size_t>(s.KvHead(head)) * s.d_head;
  const double n = position_ + 1, kappa = block_.forms.kappa[h];
  double divisor = 0;
  for (int k = 0; k <= position_; ++k) {
    const std::size_t row = static_cast<std::size_t>(k) * s.kv_width() + first;
    double score = 0;
    for (int e = 0; e < s.d_head; ++e) score += query[e] * keys_[row + e];
    ranges_.score[h] = Worse(ranges_.score[h], std::abs(score));
    const double z = score + block_.forms.shift[h];
    double power = 1 / (kappa * n);
    for (int i = 0; i < s.power; ++i) power *= z;
    divisor += power;
    for (int e = 0; e < s.d_head; ++e) out[e] += power * values_[row + e];
  }
  ranges_.divisor.Add(divisor);
  ranges_.log_mean[h] += std::log(divisor * kappa);
  const double inverse =
      exact_ ? 1 / (s.attention_eps + divisor) : block_.forms.divisor_inverse(divisor);
  for (double& v : out) v *= inverse;
}

std::vector<double> BlockReference::FeedForward(const std::vector<double>& x, double root) {
  const BlockShape& s = block_.shape;
  std::vector<double> hidden = Multiply(s.gated ? w_->gate : w_->up, x);
  ScaleAndAdd(hidden, root, s.gated ? w_->b_gate : w_->b_up);
  for (double& u : hidden) {
    ranges_.activation.Add(u);
    u = exact_ ? Activate(s.activation, u) : (*block_.forms.activation)(u);
  }
  if (s.gated) {
    std::vector<double> up = Multiply(w_->up, x);
    ScaleAndAdd(up, root, w_->b_up);
    Note(ranges_.bounds.hidden, up);
    for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] *= up[i];
  }
  Note(ranges_.bounds.product, hidden);
  std::vector<double> out = Multiply(w_->down, hidden);
  ScaleAndAdd(out, 1, w_->b_down);
  return out;
}

}  // namespace polyveil::model
