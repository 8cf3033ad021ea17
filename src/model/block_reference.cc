#include "model/block_reference.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/worst.h"

namespace polyveil::model {

// Head-major rows of one attention block, collected for the observer.
struct BlockReference::HeadTrace {
  std::vector<double> scores, powers, divisor, inverse, weights, output;
};

namespace {

void Note(double& bound, std::span<const double> values) {
  for (const double v : values) bound = Worse(bound, std::abs(v));
}

void NoteChannels(std::vector<double>& bounds, std::span<const double> values) {
  bounds.resize(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) bounds[i] = Worse(bounds[i], std::abs(values[i]));
}

void ScaleAndAdd(std::vector<double>& x, double factor, const std::vector<double>& bias) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = x[i] * factor + (bias.empty() ? 0 : bias[i]);
}

void AddTo(std::vector<double>& x, std::span<const double> y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

double MeanSquare(std::span<const double> x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return sum / static_cast<double>(x.size());
}

double IntegerPower(double x, int power) {
  double out = 1;
  for (int i = 0; i < power; ++i) out *= x;
  return out;
}

}  // namespace

BlockReference::BlockReference(const Block& block, Evaluation evaluation, std::string name)
    : block_(block), exact_(evaluation == Evaluation::kExact), name_(std::move(name)) {
  ranges_.score.resize(static_cast<std::size_t>(block.shape.n_heads));
  ranges_.log_mean.resize(static_cast<std::size_t>(block.shape.n_heads));
  Reset();
}

void BlockReference::Reset() {
  position_ = block_.prefix();
  keys_ = block_.prefix_keys;
  values_ = block_.prefix_values;
}

void BlockReference::ReleaseWeights() { w_.reset(); }

Result<std::vector<double>> BlockReference::Step(std::span<const double> input) {
  if (!block_.shape.causal)
    return MakeError(ErrorCode::kInvalidArgument,
                     "a token of a bidirectional block, which reads whole texts");
  PV_ASSIGN_OR_RETURN(const Projected token, Project(input));
  std::vector<double> out = Finish(token);
  ++position_;
  return out;
}

Result<std::vector<std::vector<double>>> BlockReference::Read(
    std::span<const std::vector<double>> text) {
  Reset();
  std::vector<std::vector<double>> results;
  std::vector<Projected> tokens;
  for (const auto& input : text) {
    if (block_.shape.causal) {
      PV_ASSIGN_OR_RETURN(auto out, Step(input));
      results.push_back(std::move(out));
      continue;
    }
    PV_ASSIGN_OR_RETURN(Projected token, Project(input));
    tokens.push_back(std::move(token));
    ++position_;
  }
  --position_;  // that of the last token, whose keys all of them see
  for (const Projected& token : tokens) results.push_back(Finish(token));
  ++position_;
  return results;
}

Result<BlockReference::Projected> BlockReference::Project(std::span<const double> input) {
  const BlockShape& s = block_.shape;
  if (static_cast<int>(input.size()) != s.d_model)
    return MakeError(ErrorCode::kMismatch, "a token of {} values, the block's width is {}",
                     input.size(), s.d_model);
  if (!w_) w_ = block_.weights->Load();
  Projected token;
  token.x.assign(input.begin(), input.end());
  Note(ranges_.bounds.residual_in, token.x);
  token.variance = MeanSquare(token.x);
  if (!s.post_norm)
    token.root = InverseRoot("attention / variance", block_.forms.norm1, token.variance);
  token.q = Multiply(w_->wq, token.x);
  token.k = Multiply(w_->wk, token.x);
  token.v = Multiply(w_->wv, token.x);
  ScaleAndAdd(token.q, token.root, w_->bq);
  ScaleAndAdd(token.k, token.root, w_->bk);
  ScaleAndAdd(token.v, token.root, w_->bv);
  RotateRows(s, position_, token.q, 1);
  RotateRows(s, position_, token.k, 1);
  if (block_.forms.attention.qk_norm) {
    NormaliseHeads(token.q, s.n_heads, true);
    NormaliseHeads(token.k, s.n_kv_heads, false);
  }
  Note(ranges_.bounds.query, token.q);
  Note(ranges_.bounds.key, token.k);
  Note(ranges_.bounds.value, token.v);
  keys_.insert(keys_.end(), token.k.begin(), token.k.end());
  values_.insert(values_.end(), token.v.begin(), token.v.end());
  return token;
}

std::vector<double> BlockReference::Finish(const Projected& token) {
  if (block_.shape.post_norm) return FinishPostNorm(token);
  std::vector<double> out = token.x;
  AddTo(out, Attention(token));
  if (block_.shape.parallel) {
    AddTo(out, FeedForward(token.x, token.root));
  } else {
    Observe("attention / residual", out);
    Note(ranges_.bounds.residual_mid, out);
    NoteChannels(ranges_.mid_channels, out);
    const double v2 = MeanSquare(out);
    const double scale = InverseRoot("feed-forward / variance", block_.forms.norm2, v2);
    Observe("feed-forward / variance", {&v2, 1});
    Observe("feed-forward / scale", {&scale, 1});
    AddTo(out, FeedForward(out, scale));
  }
  Observe("feed-forward / residual", out);
  Note(ranges_.bounds.residual_out, out);
  NoteChannels(ranges_.out_channels, out);
  ++ranges_.tokens;
  return out;
}

std::vector<double> BlockReference::AddNormalised(bool first, const std::vector<double>& x,
                                                  const std::vector<double>& update) {
  const std::vector<double>& gain = first ? w_->gain_in : w_->gain_mid;
  const char* const site = first ? "attention / variance" : "feed-forward / variance";
  std::vector<double> sum = x;
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] *= gain[i];
  RemoveMean(sum);
  AddTo(sum, update);
  Observe(first ? "attention / residual" : "feed-forward / residual", sum);
  Note(first ? ranges_.bounds.residual_mid : ranges_.bounds.residual_out, sum);
  const double variance = MeanSquare(sum);
  const double root = InverseRoot(site, first ? block_.forms.norm1 : block_.forms.norm2, variance);
  if (first || !block_.shape.norm_outside)
    for (double& value : sum) value *= root;
  return sum;
}

std::vector<double> BlockReference::FinishPostNorm(const Projected& token) {
  const std::vector<double> middle = AddNormalised(true, token.x, Attention(token));
  std::vector<double> out = AddNormalised(false, middle, FeedForward(middle, 1));
  ++ranges_.tokens;
  return out;
}

// 1/sqrt(v + eps); of the norm behind a bilinear feed-forward 1/(v + eps).
double BlockReference::InverseRoot(const char* site, const Approximant& p, double mean) {
  const double shifted = mean + block_.shape.norm_eps;
  const bool whole = &p == &block_.forms.norm2 && block_.shape.bilinear();
  return Apply(site, p, mean, whole ? 1 / shifted : 1 / std::sqrt(shifted));
}

std::vector<double> BlockReference::Attention(const Projected& token) {
  const BlockShape& s = block_.shape;
  HeadTrace trace;
  for (int h = 0; h < s.n_heads; ++h) {
    const auto at = static_cast<std::size_t>(h) * s.d_head;
    AttendHead(h, std::span(token.q).subspan(at, s.d_head), trace);
  }
  Note(ranges_.bounds.head_out, trace.output);
  std::vector<double> out = Multiply(w_->wo, trace.output);
  ScaleAndAdd(out, 1, w_->bo);
  const std::pair<const char*, std::span<const double>> values[] = {
      {"attention / input", token.x},
      {"attention / variance", {&token.variance, 1}},
      {"attention / inverse root", {&token.root, 1}},
      {"attention / query", token.q},
      {"attention / key", token.k},
      {"attention / value", token.v},
      {"attention / scores", trace.scores},
      {"attention / powers", trace.powers},
      {"attention / divisor", trace.divisor},
      {"attention / divisor inverse", trace.inverse},
      {"attention / weights", trace.weights},
      {"attention / head output", trace.output},
      {"attention / projection", out}};
  for (const auto& [what, span] : values) Observe(what, span);
  return out;
}

void BlockReference::NormaliseHeads(std::vector<double>& x, int heads, bool query) {
  const QkNorm& norm = *block_.forms.attention.qk_norm;
  const auto d_head = static_cast<std::size_t>(block_.shape.d_head);
  for (std::size_t h = 0; h < static_cast<std::size_t>(heads); ++h) {
    const std::span<double> part(x.data() + h * d_head, d_head);
    const double root =
        InverseRoot(query ? "attention / query variance" : "attention / key variance",
                    query ? norm.query_root : norm.key_root, MeanSquare(part));
    for (double& value : part) value *= query ? norm.gain[h] * root : root;
  }
}

void BlockReference::AttendHead(int head, std::span<const double> query, HeadTrace& trace) {
  const BlockShape& s = block_.shape;
  const auto h = static_cast<std::size_t>(head), keys = static_cast<std::size_t>(position_) + 1;
  const auto width = static_cast<std::size_t>(s.kv_width()), d = query.size();
  const std::size_t first = static_cast<std::size_t>(s.KvHead(head)) * d;
  const std::size_t begin = trace.scores.size();
  for (std::size_t k = 0; k < keys; ++k) {
    double score = 0;
    for (std::size_t e = 0; e < d; ++e) score += query[e] * keys_[k * width + first + e];
    ranges_.score[h] = Worse(ranges_.score[h], std::abs(score));
    trace.scores.push_back(score + block_.forms.shift[h]);
  }
  const std::vector<double> u = Summands(head, std::span(trace.scores).subspan(begin));
  double divisor = 0;
  for (const double summand : u) divisor += summand;
  ranges_.log_mean[h] += std::log(divisor * block_.forms.kappa[h]);
  const double inverse = block_.forms.attention.divides()
                             ? Apply("attention / divisor", block_.forms.divisor_inverse, divisor,
                                     1 / (s.attention_eps + divisor))
                             : 1;
  std::vector<double> out(d);
  for (std::size_t k = 0; k < keys; ++k) {
    const double weight = u[k] * inverse;
    trace.weights.push_back(weight);
    for (std::size_t e = 0; e < d; ++e) out[e] += weight * values_[k * width + first + e];
  }
  trace.powers.insert(trace.powers.end(), u.begin(), u.end());
  trace.divisor.push_back(divisor);
  trace.inverse.push_back(inverse);
  trace.output.insert(trace.output.end(), out.begin(), out.end());
}

std::vector<double> BlockReference::Summands(int head, std::span<const double> scores) {
  const AttentionForm& form = block_.forms.attention;
  const double keys = form.KeyCount(position_ + 1);
  const double centre = block_.forms.kappa[static_cast<std::size_t>(head)] * keys;
  const bool iterates = form.kind == AttentionKind::kNormaliseSquare;
  const int squarings = iterates ? static_cast<int>(form.rounds.size()) : form.squarings;
  std::vector<double> u;
  for (const double z : scores) {
    if (!form.approximates_softmax()) {
      u.push_back(IntegerPower(z, block_.power(head)) / centre);
      continue;
    }
    double e =
        Apply("attention / scores", *form.exponential, z, std::exp(std::ldexp(z, -squarings)));
    for (int i = 0; i < squarings && !iterates; ++i) e *= e;
    u.push_back(e / (iterates ? keys : centre));
  }
  for (const Approximant& root : form.rounds) Round(root, keys, u);
  return u;
}

void BlockReference::Round(const Approximant& root, double keys, std::vector<double>& weights) {
  const double m = keys * static_cast<double>(weights.size()) * MeanSquare(weights);
  const double r = Apply("attention / round", root, m, 1 / std::sqrt(m));
  for (double& w : weights) w = keys * w * w * r * r;
}

std::vector<double> BlockReference::FeedForward(const std::vector<double>& x, double root) {
  const std::vector<double> product = Hidden(x, root);
  Note(ranges_.bounds.product, product);
  Observe("feed-forward / product", product);
  std::vector<double> out = Multiply(w_->down, product);
  Observe("feed-forward / down", out);
  ScaleAndAdd(out, block_.shape.bilinear() ? root : 1, w_->b_down);
  Observe("feed-forward / output", out);
  return out;
}

// What the down matrix reads.
std::vector<double> BlockReference::Hidden(const std::vector<double>& x, double root) {
  const BlockShape& s = block_.shape;
  const double scale = s.bilinear() ? 1 : root;
  std::vector<double> hidden = Multiply(s.gated ? w_->gate : w_->up, x);
  ScaleAndAdd(hidden, scale, s.gated ? w_->b_gate : w_->b_up);
  Observe("feed-forward / hidden 1", hidden);
  if (s.bilinear()) {
    Note(ranges_.bounds.hidden, hidden);
  } else {
    static const Approximant none;  // a block that is yet to be fitted
    const Approximant& activation = block_.forms.activation ? *block_.forms.activation : none;
    for (double& u : hidden)
      u = Apply("feed-forward / hidden", activation, u, Activate(s.activation, u));
  }
  if (!s.gated) return hidden;
  std::vector<double> up = Multiply(w_->up, x);
  ScaleAndAdd(up, scale, w_->b_up);
  Note(ranges_.bounds.hidden, up);
  Observe("feed-forward / hidden 2", up);
  for (std::size_t i = 0; i < hidden.size(); ++i) hidden[i] *= up[i];
  return hidden;
}

double BlockReference::Apply(const char* site, const Approximant& p, double x, double exact) {
  const std::string name = name_ + site;
  EscapeCount& count = escapes_[name];
  ++count.evaluations;
  count.seen.Add(x);
  if (!std::isfinite(x)) {
    ++count.not_finite;
    if (first_not_finite_.empty()) first_not_finite_ = name;
  }
  if (!p.Contains(x)) {
    ++count.escapes;
    count.worst_ratio = Worse(count.worst_ratio, approx::EscapeRatio(x, p.a, p.b));
  }
  return exact_ ? exact : p(x);
}

void BlockReference::Observe(const char* what, std::span<const double> values) const {
  if (observer_) observer_(name_ + what, values);
}

}  // namespace polyveil::model
