#include "model/reference.h"

#include <algorithm>
#include <cmath>

#include "approx/range.h"
#include "base/worst.h"

namespace polyveil::model {

// Head-major rows of one attention block, collected for the observer.
struct HeadTrace {
  std::vector<double> scores, powers, divisor, inverse, weights, output;
};

namespace {

double MeanSquare(std::span<const double> x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return sum / static_cast<double>(x.size());
}

void Scale(std::vector<double>& x, double factor) {
  for (double& value : x) value *= factor;
}

void AddTo(std::vector<double>& x, std::span<const double> y) {
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

double IntegerPower(double x, int power) {
  double out = 1;
  for (int i = 0; i < power; ++i) out *= x;
  return out;
}

double Gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }

}  // namespace

ReferenceModel::ReferenceModel(const BodyBundle& bundle, Evaluation evaluation)
    : bundle_(bundle), evaluation_(evaluation), cache_(bundle.weights.layers.size()) {}

void ReferenceModel::Reset() {
  position_ = 0;
  for (LayerCache& cache : cache_) cache = {};
}

Result<std::vector<double>> ReferenceModel::StepFromEmbedding(std::span<const double> x0,
                                                              int position) {
  const ModelConfig& config = bundle_.config;
  if (static_cast<int>(x0.size()) != config.d_model)
    return MakeError(ErrorCode::kMismatch, "embedding of {} values, the model's width is {}",
                     x0.size(), config.d_model);
  if (position != position_ || position >= config.context)
    return MakeError(ErrorCode::kOutOfRange, "position {}, {} tokens so far, context {}", position,
                     position_, config.context);
  std::vector<double> x(x0.begin(), x0.end());
  for (int layer = 0; layer < config.n_layers; ++layer) {
    Attention(layer, x);
    FeedForward(layer, x);
  }
  ++position_;
  return x;
}

void ReferenceModel::Attention(int layer, std::vector<double>& x) {
  const auto index = static_cast<std::size_t>(layer);
  const LayerWeights& w = bundle_.weights.layers[index];
  const LayerConfig& c = bundle_.config.layers[index];
  Observe(layer, "attention", "input", x);
  const double v = MeanSquare(x);
  const double root =
      Apply("attention / variance", layer, c.norm1, v, 1 / std::sqrt(v + bundle_.config.norm_eps));
  std::vector<double> query = Multiply(w.wq, x), key = Multiply(w.wk, x), value = Multiply(w.wv, x);
  for (auto* part : {&query, &key, &value}) Scale(*part, root);
  if (c.attention.qk_norm) NormaliseHeads(layer, query, key);
  cache_[index].keys.insert(cache_[index].keys.end(), key.begin(), key.end());
  cache_[index].values.insert(cache_[index].values.end(), value.begin(), value.end());
  HeadTrace trace;
  for (int head = 0; head < bundle_.config.n_heads; ++head) AttendHead(layer, head, query, trace);
  const std::vector<double> projection = Multiply(w.wo, trace.output);
  AddTo(x, projection);
  const std::pair<const char*, std::span<const double>> values[] = {
      {"variance", {&v, 1}},
      {"inverse root", {&root, 1}},
      {"query", query},
      {"key", key},
      {"value", value},
      {"scores", trace.scores},
      {"powers", trace.powers},
      {"divisor", trace.divisor},
      {"divisor inverse", trace.inverse},
      {"weights", trace.weights},
      {"head output", trace.output},
      {"projection", projection},
      {"residual", x}};
  for (const auto& [what, span] : values) Observe(layer, "attention", what, span);
}

void ReferenceModel::NormaliseHeads(int layer, std::vector<double>& query,
                                    std::vector<double>& key) {
  const ModelConfig& config = bundle_.config;
  const QkNorm& norm = *config.layers[static_cast<std::size_t>(layer)].attention.qk_norm;
  const auto d_head = static_cast<std::size_t>(config.d_head);
  for (std::size_t h = 0; h < norm.gain.size(); ++h) {
    const auto normalise = [&](const char* site, const Approximant& root, std::vector<double>& x,
                               double gain) {
      const std::span<double> part(x.data() + h * d_head, d_head);
      const double v = MeanSquare(part);
      const double scale = gain * Apply(site, layer, root, v, 1 / std::sqrt(v + config.norm_eps));
      for (double& value : part) value *= scale;
    };
    normalise("attention / query variance", norm.query_root, query, norm.gain[h]);
    normalise("attention / key variance", norm.key_root, key, 1);
  }
}

void ReferenceModel::AttendHead(int layer, int head, std::span<const double> query,
                                HeadTrace& trace) {
  const ModelConfig& config = bundle_.config;
  const auto index = static_cast<std::size_t>(layer), h = static_cast<std::size_t>(head);
  const LayerConfig& c = config.layers[index];
  const auto width = static_cast<std::size_t>(config.d_model);
  const auto d_head = static_cast<std::size_t>(config.d_head);
  const auto keys = static_cast<std::size_t>(position_) + 1;
  const std::size_t first = h * d_head, begin = trace.powers.size();
  double divisor = 0;
  for (std::size_t k = 0; k < keys; ++k) {
    const double* key = cache_[index].keys.data() + k * width + first;
    double score = c.shift[h];
    for (std::size_t i = 0; i < d_head; ++i) score += query[first + i] * key[i];
    trace.scores.push_back(score);
  }
  for (const double u : Summands(layer, head, std::span(trace.scores).subspan(begin))) {
    trace.powers.push_back(u);
    divisor += u;
  }
  const double inverse = c.attention.divides()
                             ? Apply("attention / divisor", layer, c.divisor_inverse, divisor,
                                     1 / (config.attention_eps + divisor))
                             : 1;
  std::vector<double> out(d_head, 0.0);
  for (std::size_t k = 0; k < keys; ++k) {
    const double weight = trace.powers[begin + k] * inverse;
    const double* value = cache_[index].values.data() + k * width + first;
    trace.weights.push_back(weight);
    for (std::size_t i = 0; i < d_head; ++i) out[i] += weight * value[i];
  }
  trace.divisor.push_back(divisor);
  trace.inverse.push_back(inverse);
  trace.output.insert(trace.output.end(), out.begin(), out.end());
}

std::vector<double> ReferenceModel::Summands(int layer, int head, std::span<const double> scores) {
  const LayerConfig& c = bundle_.config.layers[static_cast<std::size_t>(layer)];
  const AttentionForm& form = c.attention;
  const double keys = form.KeyCount(position_ + 1);
  const double centre = c.kappa[static_cast<std::size_t>(head)] * keys;
  const bool iterates = form.kind == AttentionKind::kNormaliseSquare;
  const int squarings = iterates ? static_cast<int>(form.rounds.size()) : form.squarings;
  std::vector<double> u;
  for (const double z : scores) {
    if (!form.approximates_softmax()) {
      u.push_back(IntegerPower(z, HeadPower(bundle_.config, layer, head)) / centre);
      continue;
    }
    double e = Apply("attention / scores", layer, *form.exponential, z,
                     std::exp(std::ldexp(z, -squarings)));
    for (int i = 0; i < squarings && !iterates; ++i) e *= e;
    u.push_back(e / (iterates ? keys : centre));
  }
  for (std::size_t i = 0; i < form.rounds.size(); ++i) {
    const double m = keys * static_cast<double>(u.size()) * MeanSquare(u);
    const double root = Apply("attention / round", layer, form.rounds[i], m, 1 / std::sqrt(m));
    for (double& w : u) w = keys * w * w * root * root;
  }
  return u;
}

void ReferenceModel::FeedForward(int layer, std::vector<double>& x) {
  const auto index = static_cast<std::size_t>(layer);
  const LayerWeights& w = bundle_.weights.layers[index];
  const LayerConfig& c = bundle_.config.layers[index];
  const bool bilinear = bundle_.config.ffn == FeedForwardKind::kBilinear;
  const double v = MeanSquare(x), shifted = v + bundle_.config.norm_eps;
  const double scale = Apply("feed-forward / variance", layer, c.norm2, v,
                             bilinear ? 1 / shifted : 1 / std::sqrt(shifted));
  const char* part = "feed-forward";
  Observe(layer, part, "variance", {&v, 1});
  Observe(layer, part, "scale", {&scale, 1});
  std::vector<double> hidden = Multiply(w.w1, x), product;
  if (bilinear) {
    const std::vector<double> hidden2 = Multiply(w.w2, x);
    Observe(layer, part, "hidden 1", hidden);
    Observe(layer, part, "hidden 2", hidden2);
    for (std::size_t i = 0; i < hidden.size(); ++i) product.push_back(hidden[i] * hidden2[i]);
  } else {
    Scale(hidden, scale);
    Observe(layer, part, "hidden 1", hidden);
    for (const double value : hidden)
      product.push_back(Apply("feed-forward / hidden", layer, *c.activation, value, Gelu(value)));
  }
  Observe(layer, part, "product", product);
  std::vector<double> down = Multiply(w.wdown, product);
  Observe(layer, part, "down", down);
  if (bilinear) Scale(down, scale);
  Observe(layer, part, "output", down);
  AddTo(x, down);
  Observe(layer, part, "residual", x);
}

double ReferenceModel::Apply(const char* site, int layer, const Approximant& p, double x,
                             double exact) {
  const std::string name = fmt::format("layer {} / {}", layer, site);
  EscapeCount& count = escapes_[name];
  count.seen.Add(x);
  ++count.evaluations;
  if (!std::isfinite(x)) {
    ++count.not_finite;
    if (first_not_finite_.empty())
      first_not_finite_ = fmt::format("{} at position {}", name, position_);
  }
  if (!p.Contains(x)) {
    ++count.escapes;
    count.worst_ratio = Worse(count.worst_ratio, approx::EscapeRatio(x, p.a, p.b));
  }
  return evaluation_ == Evaluation::kExact ? exact : p(x);
}

void ReferenceModel::Observe(int layer, const char* part, const char* what,
                             std::span<const double> values) const {
  if (observer_) observer_(fmt::format("layer {} / {} / {}", layer, part, what), values);
}

}  // namespace polyveil::model
