#include "train/distil/start.h"

#include <cmath>

namespace polyveil::train {
namespace {

using torch::Tensor;

constexpr double kSmallest = 0.5, kLargest = 64;
constexpr int kGrid = 15;  // half an octave apart: training goes on from there

Tensor Behind(const Tensor& x, int prefix) { return x.narrow(2, prefix, x.size(2) - prefix); }

// One layer's scores and softmax outputs over some text.
struct LayerText {
  HeadScores heads;
  Tensor wanted;
};

struct Weighted {
  Tensor output, divisor;  // [batch, heads, context, d_head], [batch, heads, context]
};

// options: of the student; divided by its own sum and nothing else.
Weighted PowerOutput(const LayerText& text, const Tensor& shift, AttentionOptions options) {
  options.eps = 1e-30;
  const AttentionTrace trace = WeighScores(text.heads, shift, torch::zeros_like(shift), options);
  return {torch::matmul(trace.weights, text.heads.values), trace.divisor};
}

LayerText ReadLayer(const Transformer& teacher, int layer, const Tensor& x) {
  LayerText text{teacher.Scores(layer, x), {}};
  const Tensor none = torch::zeros({teacher.shape().n_heads}, x.options());
  const Tensor weights =
      WeighScores(text.heads, none, none, teacher.attention_options(layer)).weights;
  text.wanted = torch::matmul(weights, text.heads.values);
  return text;
}

// Sum over text of |a - b|^2 by head, behind the prefix.
Tensor Distance(const Tensor& a, const Tensor& b, int prefix) {
  return (Behind(a, prefix) - Behind(b, prefix)).pow(2).sum({0, 2, 3});
}

Tensor BestShifts(const std::vector<LayerText>& texts, const AttentionOptions& options,
                  Tensor* best_error) {
  const std::int64_t heads = texts[0].heads.scores.size(1);
  Tensor best = torch::full({heads}, INFINITY, texts[0].heads.scores.options());
  Tensor shifts = torch::zeros_like(best), power = torch::zeros_like(best);
  for (const LayerText& text : texts)
    power += Distance(text.wanted, torch::zeros_like(text.wanted), options.exact_rows);
  for (int i = 0; i < kGrid; ++i) {
    const double c =
        kSmallest * std::pow(kLargest / kSmallest, static_cast<double>(i) / (kGrid - 1));
    const Tensor shift = torch::full_like(best, c);
    Tensor error = torch::zeros_like(best);
    for (const LayerText& text : texts)
      error += Distance(PowerOutput(text, shift, options).output, text.wanted, options.exact_rows);
    const Tensor better = error < best;
    best = torch::where(better, error, best);
    shifts = torch::where(better, shift, shifts);
  }
  *best_error = (best / power).sqrt();
  return shifts;
}

std::vector<HeadStart> StartLayer(const std::vector<LayerText>& texts,
                                  const AttentionOptions& options, Weights::Layer& layer) {
  Tensor error;
  layer.shift.copy_(BestShifts(texts, options, &error));
  std::vector<Tensor> logs;
  for (const LayerText& text : texts)
    logs.push_back(Behind(PowerOutput(text, layer.shift, options).divisor, options.exact_rows)
                       .clamp_min(1e-30)
                       .log()
                       .transpose(0, 1)
                       .flatten(1));
  const Tensor log_divisor = torch::cat(logs, 1);
  layer.log_kappa.copy_(log_divisor.mean(1));
  const Tensor ratio = (log_divisor.amax(1) - log_divisor.amin(1)).exp();
  std::vector<HeadStart> out;
  for (std::int64_t h = 0; h < error.size(0); ++h)
    out.push_back(
        {layer.shift[h].item<double>(), error[h].item<double>(), ratio[h].item<double>()});
  return out;
}

}  // namespace

std::vector<std::vector<HeadStart>> StartPower(const Transformer& teacher, Transformer& student,
                                               const std::vector<Tensor>& batches) {
  torch::NoGradGuard no_grad;
  std::vector<Tensor> x;
  for (const Tensor& tokens : batches) x.push_back(teacher.Embed(tokens));
  std::vector<std::vector<HeadStart>> out;
  for (int i = 0; i < teacher.shape().n_layers; ++i) {
    Weights::Layer& layer = student.weights.layers[static_cast<std::size_t>(i)];
    std::vector<LayerText> texts;
    for (const Tensor& each : x) texts.push_back(ReadLayer(teacher, i, each));
    out.push_back(StartLayer(texts, student.attention_options(i), layer));
    Tensor centre1, centre2;
    for (Tensor& each : x) {
      Transformer::Pass pass(
          teacher, {},
          [&](const std::string& site, const Tensor& values) {
            if (site.ends_with("attention / variance")) centre1 = values.log().mean();
            if (site.ends_with("feed-forward / variance")) centre2 = values.log().mean();
          },
          Detail::kIntervals);
      each = teacher.Block(i, each, pass);
    }
    layer.centre1.fill_(centre1.item<double>());
    layer.centre2.fill_(centre2.item<double>());
  }
  return out;
}

}  // namespace polyveil::train
