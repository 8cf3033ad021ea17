#include "train/study_probes.h"

#include <algorithm>
#include <cmath>

#include "train/cross_entropy.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
constexpr std::int64_t kFirstPosition = 8;  // earlier rows have too few keys to tell forms apart

// "layer L / attention / weights" -> L, or -1 for another site.
int LayerOf(const std::string& site, const std::string& what) {
  if (!site.ends_with(" / " + what)) return -1;
  return std::stoi(site.substr(std::string("layer ").size()));
}

Tensor Normalised(const Tensor& weights) {
  return weights / weights.sum(-1, true).clamp_min(1e-12);
}

struct Sums {
  Tensor entropy, sparsity, distance, diagonal, previous;  // [heads] each
  std::int64_t rows = 0;
};

// weights [batch, heads, context, context], rows summing to 1.
void Accumulate(const Tensor& weights, Sums& sums) {
  const std::int64_t n = weights.size(2);
  const auto options = weights.options();
  const Tensor position = torch::arange(n, options), keys = position + 1;
  const auto by_head = [&](const Tensor& rows) {  // [batch, heads, context] -> sums by head
    return rows.narrow(2, kFirstPosition, n - kFirstPosition)
        .sum(torch::IntArrayRef{0, 2})
        .to(torch::kFloat64);
  };
  const auto add = [](Tensor& to, const Tensor& part) { to = to.defined() ? to + part : part; };
  const Tensor entropy = -(weights * (weights + 1e-12).log()).sum(-1) / keys.log();
  const Tensor seen = torch::ones({n, n}, options).tril();
  const Tensor small = (weights < 0.1 / keys.view({-1, 1})).to(options.dtype()) * seen;
  const Tensor away = (position.view({-1, 1}) - position.view({1, -1})) * seen;
  add(sums.entropy, by_head(entropy));
  add(sums.sparsity, by_head(small.sum(-1) / keys));
  add(sums.distance, by_head((weights * away).sum(-1)));
  add(sums.diagonal, by_head(weights.diagonal(0, 2, 3)));
  const Tensor before = weights.diagonal(-1, 2, 3);  // one row shorter
  add(sums.previous, by_head(torch::cat({torch::zeros_like(before.narrow(2, 0, 1)), before}, 2)));
  sums.rows += weights.size(0) * (n - kFirstPosition);
}

// Random symbols, twice: what followed the first occurrence stands n - 1 tokens back.
Batch RepeatedText(int rows, int context, const TaskAlphabet& alphabet) {
  torch::Generator random = at::make_generator<at::CPUGeneratorImpl>(17);
  const int half = context / 2;
  const Tensor once =
      torch::randint(alphabet.first_symbol, alphabet.first_symbol + alphabet.symbols, {rows, half},
                     random, torch::TensorOptions().dtype(torch::kInt64));
  const Tensor inputs = torch::cat({once, once}, 1);
  return {inputs, torch::full_like(inputs, -100)};
}

void AddInduction(const Tensor& weights, int layer, AttentionStatistics& out) {
  const std::int64_t half = weights.size(2) / 2;
  // Row half + t looks at key t + 1: the diagonal half - 1 below, from its t = 0 on.
  const Tensor looked = weights.diagonal(-(half - 1), 2, 3).narrow(2, 1, half);
  const Tensor mean = looked.mean(torch::IntArrayRef{0, 2});
  for (int h = 0; h < out.n_heads; ++h)
    out.heads[static_cast<std::size_t>(layer * out.n_heads + h)].induction = mean[h].item<double>();
}

double SumNats(const Transformer& model, const std::vector<Batch>& text, double& count) {
  double nats = 0;
  for (const Batch& batch : text) {
    const LossSum sum = HeadLossSum(model.Forward(batch.inputs, {}).hidden, model.HeadMatrix(),
                                    batch.targets.view(-1));
    nats += sum.nats;
    count += static_cast<double>(sum.count);
  }
  return nats;
}

// Ratio of the largest to the smallest, and of the 99.9% to the 0.1% quantile.
std::pair<double, double> Ratios(const std::vector<Tensor>& parts) {
  const Tensor sorted = std::get<0>(torch::cat(parts).to(torch::kFloat64).sort());
  const std::int64_t n = sorted.numel(), cut = n / 1000;
  const auto at = [&](std::int64_t i) { return std::max(sorted[i].item<double>(), 1e-300); };
  return {at(n - 1) / at(0), at(n - 1 - cut) / at(cut)};
}

}  // namespace

AttentionStatistics MeasureAttention(const Transformer& model, const std::vector<Batch>& text,
                                     const TaskAlphabet& alphabet) {
  torch::NoGradGuard no_grad;
  AttentionStatistics out;
  out.n_layers = model.shape().n_layers;
  out.n_heads = model.shape().n_heads;
  out.heads.resize(static_cast<std::size_t>(out.n_layers * out.n_heads));
  std::vector<Sums> sums(static_cast<std::size_t>(out.n_layers));
  for (const Batch& batch : text)
    model.Forward(batch.inputs, {}, [&](const std::string& site, const Tensor& values) {
      if (const int layer = LayerOf(site, "weights"); layer >= 0)
        Accumulate(Normalised(values), sums[static_cast<std::size_t>(layer)]);
    });
  for (int i = 0; i < out.n_layers * out.n_heads; ++i) {
    const Sums& s = sums[static_cast<std::size_t>(i / out.n_heads)];
    const int h = i % out.n_heads;
    const auto mean = [&](const Tensor& x) {
      return x[h].item<double>() / static_cast<double>(s.rows);
    };
    out.heads[static_cast<std::size_t>(i)] = {mean(s.entropy),  mean(s.sparsity), mean(s.distance),
                                              mean(s.diagonal), mean(s.previous), 0};
  }
  model.Forward(RepeatedText(16, model.shape().context, alphabet).inputs, {},
                [&](const std::string& site, const Tensor& values) {
                  if (const int layer = LayerOf(site, "weights"); layer >= 0)
                    AddInduction(Normalised(values), layer, out);
                });
  return out;
}

double TaskAccuracy(const Transformer& model, Task task, const TaskAlphabet& alphabet,
                    int sequences, std::uint64_t seed) {
  torch::NoGradGuard no_grad;
  const int context = model.shape().context;
  std::int64_t right = 0, asked = 0;
  for (int i = 0; i < sequences; ++i) {
    const TaskSequence sequence =
        MakeTask(task, context, alphabet, seed + static_cast<std::uint64_t>(i));
    std::vector<std::int64_t> inputs{model::Tokenizer::kEnd};
    inputs.insert(inputs.end(), sequence.tokens.begin(), sequence.tokens.end() - 1);
    const Tensor logits =
        model.Logits(torch::tensor(inputs, torch::kInt64).view({1, context})).squeeze(0);
    const Tensor best = logits.argmax(1).contiguous();
    const std::int64_t* guess = best.data_ptr<std::int64_t>();
    for (std::size_t t = 0; t < sequence.tokens.size(); ++t) {
      if (!sequence.predictable[t]) continue;
      ++asked;
      right += guess[t] == sequence.tokens[t];
    }
  }
  return static_cast<double>(right) / static_cast<double>(std::max<std::int64_t>(1, asked));
}

RangeStatistics MeasureRanges(const Transformer& model, const std::vector<Batch>& text) {
  torch::NoGradGuard no_grad;
  std::map<std::string, std::vector<Tensor>> divisors, variances;
  RangeStatistics out;
  for (const Batch& batch : text)
    model.Forward(batch.inputs, {}, [&](const std::string& site, const Tensor& values) {
      if (site.ends_with("/ variance")) variances[site].push_back(values.flatten());
      if (site.ends_with("attention / divisor"))
        for (std::int64_t h = 0; h < values.size(1); ++h)
          divisors[fmt::format("{} {}", site, h)].push_back(values.select(1, h).flatten());
      if (site.ends_with("attention / scores"))
        out.largest_score = std::max(out.largest_score, values.abs().max().item<double>());
    });
  const auto widest = [](const auto& sites, double& whole, double& trimmed) {
    for (const auto& [site, parts] : sites) {
      const auto [all, most] = Ratios(parts);
      whole = std::max(whole, all);
      trimmed = std::max(trimmed, most);
    }
  };
  widest(divisors, out.divisor_ratio, out.divisor_ratio_trimmed);
  widest(variances, out.variance_ratio, out.variance_ratio_trimmed);
  return out;
}

std::vector<double> NatsByPosition(const Transformer& model, const std::vector<Batch>& text) {
  torch::NoGradGuard no_grad;
  const int context = model.shape().context;
  Tensor sum = torch::zeros({context}, torch::kFloat64), count = sum.clone();
  for (const Batch& batch : text) {
    const Tensor logits = torch::log_softmax(model.Logits(batch.inputs), 2);
    const Tensor kept = (batch.targets >= 0).to(torch::kFloat64);
    const Tensor nats =
        -logits.gather(2, batch.targets.clamp_min(0).unsqueeze(2)).squeeze(2).to(torch::kFloat64);
    sum += (nats * kept).sum(0);
    count += kept.sum(0);
  }
  std::vector<double> out;
  for (std::int64_t begin = 0, end = 8; begin < context; begin = end, end *= 2) {
    const std::int64_t size = std::min<std::int64_t>(end, context) - begin;
    out.push_back(sum.narrow(0, begin, size).sum().item<double>() /
                  std::max(1.0, count.narrow(0, begin, size).sum().item<double>()));
  }
  return out;
}

std::vector<double> NatsByScoreScale(const Transformer& model, const std::vector<Batch>& text,
                                     const std::vector<double>& factors) {
  torch::NoGradGuard no_grad;
  const std::int64_t d = model.shape().d_model;
  std::vector<double> out;
  for (const double factor : factors) {
    std::vector<std::pair<Tensor, Tensor>> saved;
    for (int layer = 0; layer < model.shape().n_layers; ++layer) {
      // A norm would divide the queries' own scale out; its gain comes after it.
      Tensor queries = model.shape().qk_norm
                           ? model.Get(fmt::format("layers.{}.qk_gain", layer))
                           : model.Get(fmt::format("layers.{}.wqkv", layer)).narrow(0, 0, d);
      saved.emplace_back(queries, queries.clone());
      queries.mul_(factor);
    }
    double count = 0;
    const double nats = SumNats(model, text, count);
    out.push_back(nats / std::max(1.0, count));
    for (auto& [queries, before] : saved) queries.copy_(before);
  }
  return out;
}

int BlockLevels(const Shape& shape, AttentionForm form, int layer, const LayerPolynomials& fits) {
  const std::vector<int> powers = shape.HeadPowers(layer);
  const int largest = *std::max_element(powers.begin(), powers.end());
  const bool differ = *std::min_element(powers.begin(), powers.end()) != largest;
  // Squares of x, the root, its product with the masked queries, scores, the power, values, their
  // mask, the projection.
  int attention =
      1 + fits.norm1.LevelDepth() + 1 + 1 + approx::Depth(largest - 1) + differ + 1 + 1 + 1;
  if (shape.qk_norm) attention += 1 + fits.query_root->LevelDepth() + 1;
  if (form != AttentionForm::kPointwise) attention += fits.divisor_inverse.LevelDepth() + 1;
  // Up, mask, gated product, down, scale; or the scale beside them.
  return attention + std::max(5, 1 + fits.norm2.LevelDepth() + 1);
}

nlohmann::ordered_json ToJson(const AttentionStatistics& statistics) {
  nlohmann::ordered_json heads = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < statistics.heads.size(); ++i) {
    const HeadStatistics& h = statistics.heads[i];
    const auto n = static_cast<std::size_t>(statistics.n_heads);
    heads.push_back({{"layer", i / n},
                     {"head", i % n},
                     {"entropy", h.entropy},
                     {"sparsity", h.sparsity},
                     {"distance", h.distance},
                     {"diagonal", h.diagonal},
                     {"previous", h.previous},
                     {"induction", h.induction}});
  }
  return heads;
}

nlohmann::ordered_json ToJson(const RangeStatistics& r) {
  return {{"divisor_ratio", r.divisor_ratio},
          {"divisor_ratio_trimmed", r.divisor_ratio_trimmed},
          {"variance_ratio", r.variance_ratio},
          {"variance_ratio_trimmed", r.variance_ratio_trimmed},
          {"largest_score", r.largest_score}};
}

}  // namespace polyveil::train
