#include "train/study_estimate.h"

#include <algorithm>

#include "base/system.h"
#include "train/cross_entropy.h"
#include "train/optimizer.h"
#include "train/throughput.h"

namespace polyveil::train {
namespace {

constexpr int kTimedSteps = 4;            // behind one that warms up
constexpr double kAssumedHeldout = 80e3;  // tokens, where no data is named
// Passes of an analysis over its probes and over the held-out text; see study_measure.cc.
constexpr double kProbePasses = 12, kProbeTokensPerContext = 6 * 16, kEscapePasses = 16;
constexpr double kRandomTokensPerContext = 64 * 16, kConvertBatches = 20;

// Seconds per unit of a training step's products and of a forward pass's.
struct Pace {
  double step = 0, forward = 0;
};

double Flops(const TrainConfig& config, double tokens) {
  return tokens * TrainingFlopsPerToken(config.shape);
}

Pace Measure(const TrainConfig& config) {
  torch::set_num_threads(config.threads);
  const auto type = config.float64 ? torch::kFloat64 : torch::kFloat32;
  Transformer model(config.shape, config.attention, type, config.seed);
  Optimizer optimizer(model.parameters(), config.optimizer, config.precision);
  model.precision = config.precision;
  const torch::Tensor tokens =
      torch::randint(config.shape.vocab_size, {config.batch, config.shape.context}, torch::kInt64);
  const auto loss = [&] {
    const ForwardResult forward = model.Forward(tokens, config.range);
    return HeadCrossEntropy(forward.hidden, model.HeadMatrix(), tokens.view(-1), config.precision) +
           forward.penalty;
  };
  const double flops = Flops(config, static_cast<double>(config.batch) * config.shape.context);
  double step = 1e9, forward = 1e9;
  for (int i = 0; i <= kTimedSteps; ++i) {
    Timer timer;
    loss().backward();
    optimizer.Step(0);
    if (i > 0) step = std::min(step, timer.Lap());
    const torch::NoGradGuard no_grad;
    timer.Reset();
    loss();
    if (i > 0) forward = std::min(forward, timer.Lap());
  }
  return {step / flops, forward / flops};
}

double TrainingTokens(const TrainConfig& config) {
  return static_cast<double>(config.steps) * config.accumulate * config.batch *
         config.shape.context;
}

// Tokens of all passes that an analysis makes.
double RunAnalysisTokens(const StudyConfig& study, const StudyVariant& variant,
                         const TrainConfig& config, double heldout) {
  const double context = config.shape.context;
  double tokens = heldout + kProbePasses * kProbeTokensPerContext * context +
                  static_cast<double>(std::size(kTasks)) * study.task_sequences * context;
  if (variant.convert)
    tokens += kConvertBatches * config.batch * context +
              2 * heldout * static_cast<double>(study.budgets.size());
  return tokens;
}

double StageAnalysisTokens(const StudyConfig& study, const TrainConfig& stage, double heldout) {
  const double context = stage.shape.context;
  return (3 + kEscapePasses) * heldout + kRandomTokensPerContext * context +
         static_cast<double>(std::size(kTasks)) * study.task_sequences * context +
         static_cast<double>(stage.polynomial->calibration_batches) * stage.batch * context;
}

}  // namespace

Result<StudyEstimate> EstimateStudy(const StudyConfig& study, std::uint64_t heldout_tokens) {
  const double heldout = heldout_tokens > 0 ? static_cast<double>(heldout_tokens) : kAssumedHeldout;
  StudyEstimate out;
  PV_ASSIGN_OR_RETURN(const TrainConfig first, RunConfigOf(study, study.variants.front(), 1));
  const Pace pace = Measure(first);
  const auto add = [&](const StudyVariant& variant, const TrainConfig& config, double analysis) {
    const double runs = static_cast<double>(variant.seeds.size()) / 3600;
    out.training_hours += runs * pace.step * Flops(config, TrainingTokens(config));
    out.analysis_hours += runs * pace.forward * Flops(config, analysis);
  };
  for (const StudyVariant& variant : study.variants) {
    PV_ASSIGN_OR_RETURN(const TrainConfig config, RunConfigOf(study, variant, 1));
    if (variant.behind.empty())
      add(variant, config, RunAnalysisTokens(study, variant, config, heldout));
    if (variant.polynomial.is_null()) continue;
    PV_ASSIGN_OR_RETURN(const TrainConfig stage, PolynomialConfigOf(study, variant, 1));
    add(variant, stage, StageAnalysisTokens(study, stage, heldout));
  }
  return out;
}

}  // namespace polyveil::train
