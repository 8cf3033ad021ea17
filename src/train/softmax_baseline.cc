#include "train/softmax_baseline.h"

#include <algorithm>
#include <cmath>

#include "approx/softmax.h"
#include "model/client/language_model.h"
#include "train/export.h"

namespace polyveil::train {
namespace {

using model::AttentionKind;
using torch::Tensor;

// Of one layer: all scores, and by head the row means of exp(score), in logarithms.
struct ScoreRanges {
  approx::Range scores;
  std::vector<approx::Range> log_means;
};

std::vector<ScoreRanges> ObserveScores(const Transformer& model, const std::vector<Batch>& text) {
  torch::NoGradGuard no_grad;
  const int heads = model.shape().n_heads;
  std::vector<ScoreRanges> out(static_cast<std::size_t>(model.shape().n_layers));
  for (ScoreRanges& layer : out) layer.log_means.resize(static_cast<std::size_t>(heads));
  for (const Batch& batch : text)
    model.Forward(batch.inputs, {}, [&](const std::string& site, const Tensor& values) {
      if (!site.ends_with("attention / scores")) return;
      ScoreRanges& layer = out[static_cast<std::size_t>(std::stoi(site.substr(6)))];
      const Tensor z = values.to(torch::kFloat64);
      layer.scores.Add(z.min().item<double>());
      layer.scores.Add(z.max().item<double>());
      const Tensor seen = torch::ones({z.size(3), z.size(3)}, z.options()).tril();
      const Tensor means = ((z.exp() * seen).sum(-1) / seen.sum(-1)).log();
      for (int h = 0; h < heads; ++h)
        for (const Tensor& end : {means.select(1, h).min(), means.select(1, h).max()})
          layer.log_means[static_cast<std::size_t>(h)].Add(end.item<double>());
    });
  return out;
}

class Baseline {
 public:
  Baseline(const LoadedModel& softmax, const Dataset& data, const BaselineOptions& options)
      : softmax_(softmax), data_(data), options_(options) {}

  Result<BaselineResult> Run() {
    const Shape& shape = softmax_.config.shape;
    for (int layer = 0; layer < shape.n_layers; ++layer)
      if (softmax_.model->attention(layer) != AttentionForm::kSoftmax || shape.qk_norm)
        return MakeError(ErrorCode::kMismatch, "layer {} is not plain softmax", layer);
    const auto text = CalibrationBatches(softmax_.config, data_, options_.calibration_batches);
    const SiteRanges ranges = ObserveRanges(*softmax_.model, text);
    Transformer model = *softmax_.model;  // shares the weights
    PV_ASSIGN_OR_RETURN(const Conversion norms, ChoosePolynomials(model, ranges, options_.norms));
    model.polynomials = norms.polynomials;
    config_ = MakeModelConfig(model, ranges, options_.norms.margin);
    const auto scores = ObserveScores(*softmax_.model, text);
    for (std::size_t layer = 0; layer < scores.size(); ++layer)
      PV_RETURN_IF_ERROR(Layer(scores[layer], config_.layers[layer]));
    result_.model_json = model::FormatModelConfig(config_);
    result_.tensors = model::FormatSafetensors(FoldTensors(model), model::TensorType::kF32);
    PV_RETURN_IF_ERROR(Evaluate());
    return std::move(result_);
  }

 private:
  Status Layer(const ScoreRanges& seen, model::LayerConfig& layer) {
    const double stretch =
        (options_.norms.margin - 1) * std::max(std::abs(seen.scores.lo), std::abs(seen.scores.hi));
    const double lo = seen.scores.lo - stretch, hi = seen.scores.hi + stretch;
    layer.attention.kind = options_.kind;
    std::fill(layer.shift.begin(), layer.shift.end(), 0.0);
    return options_.kind == AttentionKind::kExponential ? Exponential(seen, lo, hi, layer)
                                                        : NormaliseSquare(lo, hi, layer);
  }

  Status Exponential(const ScoreRanges& seen, double lo, double hi, model::LayerConfig& layer) {
    PV_ASSIGN_OR_RETURN(const approx::ExponentialFit fit,
                        approx::FitExponential(lo, hi, options_.error));
    layer.attention.exponential = fit.series;
    layer.attention.squarings = fit.squarings;
    double spread = 0;  // half of the widest head's range, in logarithms
    for (std::size_t h = 0; h < seen.log_means.size(); ++h) {
      const approx::Range& range = seen.log_means[h];
      layer.kappa[h] = std::exp(0.5 * (range.lo + range.hi));
      spread = std::max(spread, 0.5 * (range.hi - range.lo));
    }
    const double b = std::exp(spread) * options_.norms.margin, a = 1 / b;
    const approx::Budget budget{options_.error, 40};
    const auto candidates =
        approx::Candidates(approx::Target::kInverse, a, b, config_.attention_eps, budget);
    PV_ASSIGN_OR_RETURN(approx::Candidate chosen, approx::Choose(candidates, a, b, budget));
    for (const approx::Candidate& c : candidates)
      if (c.method == "goldschmidt") chosen = c;
    layer.divisor_inverse = chosen.polynomial;
    result_.lines.push_back(fmt::format(
        "scores [{:.3g}, {:.3g}]: exp degree {}, {} squarings; divisor's ratio {:.3g}: {} degree "
        "{}, {} steps; depth {} + {}",
        lo, hi, fit.series.degree(), fit.squarings, b / a, chosen.method,
        chosen.polynomial.degree(), chosen.polynomial.steps, fit.depth + 1, chosen.depth));
    return {};
  }

  Status NormaliseSquare(double lo, double hi, model::LayerConfig& layer) {
    PV_ASSIGN_OR_RETURN(const approx::NormaliseSquareFit fit,
                        approx::FitNormaliseSquare(lo, hi, config_.context, options_.error));
    layer.attention.exponential = fit.exponential.series;
    for (const approx::Candidate& round : fit.rounds)
      layer.attention.rounds.push_back(round.polynomial);
    layer.divisor_inverse = {0, 1, {1}};
    result_.lines.push_back(
        fmt::format("scores [{:.3g}, {:.3g}]: exp degree {}, {} rounds; depth {}", lo, hi,
                    fit.exponential.series.degree(), fit.rounds.size(), fit.depth));
    return {};
  }

  // Windows of held-out text through the float64 reference, and the same through softmax.
  Status Evaluate() {
    PV_ASSIGN_OR_RETURN(const model::BodyBundle body,
                        model::ParseBodyBundle(result_.model_json, result_.tensors));
    PV_ASSIGN_OR_RETURN(const model::ClientBundle client,
                        model::ParseClientBundle(result_.model_json, result_.tensors));
    model::ReferenceLanguageModel reference(model::DecoderOfBundle(body), client);
    torch::NoGradGuard no_grad;
    int windows = 0;
    for (const Batch& batch : HeldoutBatches(data_, 1, config_.context)) {
      if (windows++ == options_.heldout_windows) break;
      reference.Reset();
      const Tensor exact =
          torch::log_softmax(softmax_.model->Logits(batch.inputs).to(torch::kFloat64), 2);
      for (int t = 0; t < config_.context; ++t) {
        const auto target = batch.targets[0][t].item<std::int64_t>();
        PV_ASSIGN_OR_RETURN(const std::vector<double> logits,
                            reference.Step(batch.inputs[0][t].item<int>(), t));
        if (target < 0) break;
        const Tensor actual = torch::log_softmax(torch::tensor(logits, torch::kFloat64), 0);
        result_.polynomial_nats -= actual[target].item<double>();
        result_.softmax_nats -= exact[0][t][target].item<double>();
        ++result_.positions;
      }
    }
    for (double* nats : {&result_.polynomial_nats, &result_.softmax_nats})
      *nats /= static_cast<double>(std::max<std::uint64_t>(1, result_.positions));
    for (const auto& [site, count] : reference.body().escapes()) {
      result_.evaluations += count.evaluations;
      result_.escapes += count.escapes;
      result_.worst_ratio = std::max(result_.worst_ratio, count.worst_ratio);
    }
    return {};
  }

  const LoadedModel& softmax_;
  const Dataset& data_;
  const BaselineOptions& options_;
  model::ModelConfig config_;
  BaselineResult result_;
};

}  // namespace

Result<BaselineResult> MakeSoftmaxBaseline(const LoadedModel& softmax, const Dataset& data,
                                           const BaselineOptions& options) {
  return Baseline(softmax, data, options).Run();
}

}  // namespace polyveil::train
