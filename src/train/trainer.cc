#include "train/trainer.h"

#include <malloc.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/interrupt.h"
#include "base/system.h"
#include "ckks/parameters.h"
#include "compile/layout.h"
#include "model/bundle.h"
#include "train/bundle_model.h"
#include "train/distillation.h"
#include "train/hard_rows.h"
#include "train/run_folder.h"
#include "train/run_loop.h"
#include "train/throughput.h"

namespace polyveil::train {
namespace {

constexpr int kEvaluationRows = 64;

// A step frees what the next one asks for again, megabytes at a time: pages that stay mapped need
// not be cleared anew.
void KeepFreedMemory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

class Run {
 public:
  Run(const TrainConfig& config, const RunOptions& options, const Dataset& data)
      : config_(config),
        options_(options),
        data_(data),
        folder_(options.out + "/" + config.name),
        model_(config.shape, config.attention, config.float64 ? torch::kFloat64 : torch::kFloat32,
               config.seed),
        optimizer_(model_.parameters(), config.optimizer, config.precision) {
    info_.config = FormatTrainConfig(config);
    if (config_.polynomial) config_.range.divisor.reach = config_.polynomial->divisor_reach;
  }

  Result<TrainSummary> Execute() {
    PV_RETURN_IF_ERROR(Prepare());
    PV_RETURN_IF_ERROR(LoadTeacher());
    PV_RETURN_IF_ERROR(LoadHardRows());
    gemm_rate_ = MeasureGemmRate(model_.type(), config_.precision);
    PV_RETURN_IF_ERROR(Loop());
    if (!IsFirst()) return TrainSummary{};
    PV_RETURN_IF_ERROR(Save());
    const double rate = total_.seconds > 0 ? total_.steps * TokensPerStep() / total_.seconds : 0;
    TrainSummary summary{info_.step, info_.tokens,   info_.seconds,           rate,
                         gemm_rate_, Fraction(rate), Evaluate(model_, data_), Checkpoint()};
    PV_RETURN_IF_ERROR(CheckEvaluation(summary.heldout, model_, data_));
    return WriteSummary(summary);
  }

 private:
  std::string Checkpoint() const { return folder_.Checkpoint(); }
  int ProcessCount() const { return options_.processes ? options_.processes->count() : 1; }
  int Rank() const { return options_.processes ? options_.processes->rank() : 0; }
  bool IsFirst() const { return Rank() == 0; }

  Status Prepare() {
    PV_ASSIGN_OR_RETURN(const bool goes_on, folder_.Open(options_.resume, options_.replace));
    if (goes_on) {
      PV_ASSIGN_OR_RETURN(CheckpointInfo info, LoadCheckpoint(Checkpoint(), model_, &optimizer_));
      if (info.config != info_.config)
        return MakeError(ErrorCode::kMismatch, "{} belongs to another config", Checkpoint());
      info_ = std::move(info);
      return IsFirst() ? folder_.TruncateCurve("step", info_.step) : Status{};
    }
    if (IsFirst()) PV_RETURN_IF_ERROR(folder_.Start(info_.config));
    if (!config_.init_from.empty()) {
      PV_ASSIGN_OR_RETURN(
          const LoadedModel parent,
          LoadModel(std::filesystem::path(options_.out) / config_.init_from, model_.type()));
      if (const Status copied = CopyParameters(*parent.model, model_); !copied.ok())
        return MakeError(copied.error().code, "config.init_from \"{}\": {}", config_.init_from,
                         copied.error().message);
      model_.polynomials = parent.model->polynomials;
      info_.tokens = parent.info.tokens;
    }
    return config_.polynomial && !model_.polynomials ? FitToRanges() : Status{};
  }

  Status LoadTeacher() {
    if (!config_.distillation) return {};
    PV_ASSIGN_OR_RETURN(
        teacher_, LoadModel(options_.out + "/" + config_.distillation->teacher, model_.type()));
    if (teacher_->config.shape.vocab_size == config_.shape.vocab_size &&
        teacher_->config.shape.context >= config_.shape.context)
      return {};
    return MakeError(ErrorCode::kMismatch,
                     "teacher {}: vocabulary {}, context {}; this run: vocabulary {}, context {}",
                     config_.distillation->teacher, teacher_->config.shape.vocab_size,
                     teacher_->config.shape.context, config_.shape.vocab_size,
                     config_.shape.context);
  }

  Status LoadHardRows() {
    if (!config_.polynomial || config_.polynomial->hard_rows == 0) return {};
    PV_ASSIGN_OR_RETURN(hard_rows_, HardRows::Load(config_, data_, options_.data, options_.out));
    return {};
  }

  Status FitToRanges() {
    const auto& options = *config_.polynomial;
    const SiteRanges ranges =
        ObserveRanges(model_, CalibrationBatches(config_, data_, options.calibration_batches));
    PV_ASSIGN_OR_RETURN(auto fits, FitPolynomials(config_.shape, ranges, options));
    model_.polynomials = std::move(fits);
    return {};
  }

  // A run that resumes here fits again, to the same weights.
  bool IsRefit(std::int64_t step) const {
    return config_.polynomial && step > 0 &&
           step == std::llround(config_.polynomial->refit_fraction *
                                static_cast<double>(config_.steps));
  }

  Status Loop() {
    const std::int64_t end =
        options_.stop_after > 0 ? std::min(config_.steps, options_.stop_after) : config_.steps;
    const auto by_first = [this](Status (Run::*work)()) {
      return [this, work] { return IsFirst() ? (this->*work)() : Status{}; };
    };
    PV_ASSIGN_OR_RETURN(
        const bool ended,
        RunSteps(config_, info_.step, end,
                 {[&] { return RefitAndStep(); }, [&] { return stopped_; }, by_first(&Run::Report),
                  by_first(&Run::EvaluateNow), by_first(&Run::Save)}));
    if (ended || !IsFirst()) return {};
    // Any process has seen a signal: all stop at the same step.
    return MakeError(ErrorCode::kCancelled,
                     "interrupted: step {} of {} is in {} (--resume goes on)", info_.step,
                     config_.steps, Checkpoint());
  }

  Status RefitAndStep() {
    if (IsRefit(info_.step)) PV_RETURN_IF_ERROR(FitToRanges());
    PV_RETURN_IF_ERROR(Step());
    if (hard_rows_ && IsDue(config_.checkpoint_every, info_.step)) hard_rows_->Forget();
    return {};
  }

  Status EvaluateNow() {
    const double nats = Evaluate(model_, data_).nats;
    return Interrupted() ? Status{} : Curve("heldout", nats);
  }

  Status Step() {
    const Timer timer;
    model_.clamp = ClampAt(info_.step);
    model_.precision = config_.precision;
    double nats = 0, penalty = 0;
    for (int i = Rank(); i < config_.accumulate; i += ProcessCount()) Accumulate(i, nats, penalty);
    PV_RETURN_IF_ERROR(SumOverProcesses(nats, penalty));
    model_.clamp = 0;  // and in full for whatever looks at the model between steps
    model_.precision = Precision::kFloat32;
    if (!std::isfinite(nats)) return Diverged(nats);
    const double factor = ScheduleFactor(config_.optimizer, info_.step, config_.steps);
    const double norm = optimizer_.Step(factor);
    if (!std::isfinite(norm))
      return MakeError(ErrorCode::kOutOfRange, "step {}: loss {}, gradient norm {} ({}): diverged",
                       info_.step, nats, norm, FirstBadGradient());
    Count(nats, penalty, norm, timer.Seconds());
    return {};
  }

  // The step's weights still stand: its own first batch shows where.
  Status Diverged(double nats) const {
    const Batch batch =
        DrawTrainingBatch(config_, data_, config_.seed, info_.step * config_.accumulate + Rank());
    const Observation seen = Observe(model_, {batch});
    const std::string& site = seen.not_finite.empty() ? seen.Sites() : seen.not_finite;
    return MakeError(ErrorCode::kOutOfRange, "step {}: loss {}: diverged{}{}", info_.step, nats,
                     site.empty() ? "" : " at ", site);
  }

  std::string FirstBadGradient() const {
    for (const Transformer::Parameter& parameter : model_.parameters()) {
      const torch::Tensor gradient = parameter.value.grad();
      if (gradient.defined() && !gradient.isfinite().all().item<bool>()) return parameter.name;
    }
    return "their sum";
  }

  Status SumOverProcesses(double& nats, double& penalty) {
    stopped_ = Interrupted();
    if (ProcessCount() == 1) return {};
    std::vector<torch::Tensor> gradients;
    for (const Transformer::Parameter& parameter : model_.parameters())
      if (parameter.value.grad().defined()) gradients.push_back(parameter.value.grad());
    PV_RETURN_IF_ERROR(options_.processes->Sum(gradients));
    const torch::Tensor losses =
        torch::tensor({nats, penalty, stopped_ ? 1.0 : 0.0}, torch::kFloat64);
    PV_RETURN_IF_ERROR(options_.processes->Sum({losses}));
    nats = losses[0].item<double>();
    penalty = losses[1].item<double>();
    stopped_ = losses[2].item<double>() > 0;
    return {};
  }

  // Adds 1 / accumulate of one batch's gradients.
  void Accumulate(int part, double& nats, double& penalty) {
    const std::int64_t index = info_.step * config_.accumulate + part;
    Batch batch = DrawTrainingBatch(config_, data_, config_.seed, index);
    if (hard_rows_) hard_rows_->Replace(model_, batch, config_.seed, index, part);
    DropNgrams(part);
    const ForwardResult forward = model_.Forward(batch.inputs, config_.range);
    model_.ngram_keep.reset();
    torch::Tensor text;
    const torch::Tensor loss = Loss(forward.hidden, batch, &text);
    const double share = 1.0 / config_.accumulate;
    ((loss + forward.penalty) * share).backward();
    nats += share * text.item<double>();
    penalty += share * forward.penalty.item<double>();
  }

  // Draws the positions that go without n-grams, from (seed, batch), and scales the others up.
  void DropNgrams(int part) {
    if (config_.ngram_dropout == 0) return;
    const auto batch = static_cast<std::uint64_t>(info_.step * config_.accumulate + part);
    torch::Generator random =
        at::make_generator<at::CPUGeneratorImpl>(config_.seed * 1'000'003 + batch);
    const double keep = 1 - config_.ngram_dropout;
    model_.ngram_keep =
        torch::empty({config_.batch, config_.shape.context, 1}, torch::TensorOptions(model_.type()))
            .bernoulli_(keep, random)
            .div_(keep);
  }

  // What is minimised; *text: the cross entropy of the text alone, for the curve.
  torch::Tensor Loss(const torch::Tensor& hidden, const Batch& batch, torch::Tensor* text) const {
    const torch::Tensor head = model_.HeadMatrix(), targets = batch.targets.view(-1);
    if (!teacher_) return *text = HeadCrossEntropy(hidden, head, targets, config_.precision);
    torch::Tensor wanted;
    {
      torch::NoGradGuard no_grad;
      wanted = teacher_->model->Forward(batch.inputs, {}).hidden;
    }
    return HeadDistillation(hidden, head, wanted, teacher_->model->HeadMatrix(), targets,
                            config_.distillation->weight, text, config_.precision);
  }

  double ClampAt(std::int64_t step) const {
    if (hard_rows_) return 1;
    return config_.polynomial ? ClampRatio(config_.polynomial->clamp, step, config_.steps) : 0;
  }

  double TokensPerStep() const {
    return static_cast<double>(config_.batch) * config_.accumulate * config_.shape.context;
  }
  double Fraction(double tokens_per_second) const {
    return tokens_per_second * TrainingFlopsPerToken(config_.shape) / gemm_rate_;
  }

  void Count(double nats, double penalty, double norm, double seconds) {
    ++info_.step;
    info_.tokens += static_cast<std::uint64_t>(TokensPerStep());
    ++total_.steps;
    total_.seconds += seconds;
    info_.seconds += seconds;
    ++window_.steps;
    window_.nats += nats;
    window_.penalty += penalty;
    window_.seconds += seconds;
    window_.norm = norm;
  }

  Status Report() {
    const double steps = std::max(1, window_.steps);
    TrainProgress p{info_.step,
                    config_.steps,
                    window_.nats / steps,
                    window_.penalty / steps,
                    window_.norm,
                    steps * TokensPerStep() / window_.seconds,
                    Fraction(steps * TokensPerStep() / window_.seconds),
                    static_cast<double>(config_.steps - info_.step) * window_.seconds / steps,
                    info_.seconds};
    PV_RETURN_IF_ERROR(Curve("train", p.loss, p.penalty, p.tokens_per_second));
    if (options_.progress) options_.progress(p);
    window_ = {};
    return {};
  }

  Status Curve(const char* what, double nats, double penalty = 0, double rate = 0) {
    return folder_.AppendToCurve({{"step", info_.step},
                                  {"tokens", info_.tokens},
                                  {"what", what},
                                  {"nats", nats},
                                  {"penalty", penalty},
                                  {"tokens_per_second", rate},
                                  {"seconds", info_.seconds}});
  }

  Status Save() { return SaveCheckpoint(Checkpoint(), model_, &optimizer_, info_); }

  Result<TrainSummary> WriteSummary(const TrainSummary& summary) {
    const nlohmann::ordered_json json = {{"name", config_.name},
                                         {"steps", summary.steps},
                                         {"tokens", summary.tokens},
                                         {"seconds", summary.seconds},
                                         {"tokens_per_second", summary.tokens_per_second},
                                         {"gemm_flops_per_second", summary.gemm_rate},
                                         {"gemm_fraction", summary.gemm_fraction},
                                         {"parameters", model_.ParameterCount()},
                                         {"heldout",
                                          {{"perplexity", summary.heldout.perplexity},
                                           {"nats", summary.heldout.nats},
                                           {"bits_per_byte", summary.heldout.bits_per_byte},
                                           {"tokens", summary.heldout.tokens},
                                           {"by_source", summary.heldout.perplexity_by_source}}}};
    PV_RETURN_IF_ERROR(folder_.Write("summary.json", json.dump(2) + "\n"));
    return summary;
  }

  struct Window {
    int steps = 0;
    double nats = 0, penalty = 0, seconds = 0, norm = 0;
  };

  TrainConfig config_;
  const RunOptions& options_;
  const Dataset& data_;
  RunFolder folder_;
  Transformer model_;
  Optimizer optimizer_;
  CheckpointInfo info_;
  Window window_, total_;
  double gemm_rate_ = 1;
  bool stopped_ = false;
  std::optional<LoadedModel> teacher_;
  std::optional<HardRows> hard_rows_;
};

// Both have the same ones: a deeper parent is not cut, a shallower one not filled up.
Status CheckSameParameters(const Transformer& from, const Transformer& to) {
  const auto theirs = from.parameters(), ours = to.parameters();
  const auto missing = [](const auto& all, const auto& in) {
    return std::ranges::find_if(all, [&](const Transformer::Parameter& each) {
      return std::ranges::find(in, each.name, &Transformer::Parameter::name) == in.end();
    });
  };
  const auto lacking = missing(ours, theirs), more = missing(theirs, ours);
  if (lacking == ours.end() && more == theirs.end()) return {};
  const bool lacks = lacking != ours.end();
  return MakeError(ErrorCode::kMismatch,
                   "{}: a parameter of {} alone: the parent has {} parameters, this model {}",
                   lacks ? lacking->name : more->name, lacks ? "this model" : "the parent",
                   theirs.size(), ours.size());
}

}  // namespace

double ClampRatio(const ClampOptions& options, std::int64_t step, std::int64_t steps) {
  if (options.fraction == 0) return 0;
  const double clamped = options.fraction * static_cast<double>(steps);
  const double progress = static_cast<double>(step) / clamped;
  if (progress >= 1) return 0;
  return std::pow(options.widening, std::max(0.0, 2 * progress - 1));
}

Status CheckServable(const TrainConfig& config) {
  constexpr const char* kParameters = "decode16";  // what programs serve unless told otherwise
  const Shape& shape = config.shape;
  const auto softmax = [](AttentionForm form) { return form == AttentionForm::kSoftmax; };
  if (shape.layer_attention.empty() ? softmax(config.attention)
                                    : std::ranges::any_of(shape.layer_attention, softmax))
    return {};  // a teacher or a twin: no program is made of it
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(kParameters));
  model::BlockShape sizes;
  sizes.d_model = shape.d_model;
  sizes.n_heads = sizes.n_kv_heads = shape.n_heads;
  sizes.d_head = shape.d_head();
  sizes.d_ff = shape.d_ff;
  const auto layout = compile::BlockLayout::Create(sizes, shape.context, spec.log_n - 1);
  if (layout.ok()) return {};
  return MakeError(layout.error().code,
                   "config.shape: no program can serve it: {} (--any-shape trains it all the same)",
                   layout.error().message);
}

Result<TrainSummary> RunTrain(const TrainConfig& config, const RunOptions& options) {
  torch::set_num_threads(config.threads);
  KeepFreedMemory();
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(options.data));
  if (data.vocab_size > config.shape.vocab_size)
    return MakeError(ErrorCode::kMismatch, "data has a vocabulary of {} > the config's {}",
                     data.vocab_size, config.shape.vocab_size);
  std::map<std::string, double> sources;
  for (const auto& [source, stream] : data.train) sources[source] = 1;
  PV_RETURN_IF_ERROR(CheckSourceWeights("config.source_weights", config.source_weights, sources));
  const int processes = options.processes ? options.processes->count() : 1;
  if (config.accumulate % processes != 0)
    return MakeError(ErrorCode::kInvalidArgument,
                     "accumulate {} is no multiple of {} processes, which share a step's batches",
                     config.accumulate, processes);
  return Run(config, options, data).Execute();
}

Status CopyParameters(const Transformer& from, Transformer& to) {
  torch::NoGradGuard no_grad;
  PV_RETURN_IF_ERROR(CheckSameParameters(from, to));
  for (const Transformer::Parameter& parameter : to.parameters()) {
    const torch::Tensor value = from.Get(parameter.name);
    if (value.sizes() != parameter.value.sizes())
      return MakeError(ErrorCode::kMismatch, "{}: {} values for {}", parameter.name, value.numel(),
                       parameter.value.numel());
    torch::Tensor target = parameter.value;
    target.copy_(value);
  }
  return {};
}

Evaluation Evaluate(const Transformer& model, const Dataset& data) {
  torch::NoGradGuard no_grad;
  Evaluation result;
  double nats = 0, bytes = 0;
  for (const auto& [source, stream] : data.heldout) {
    LossSum sum;
    for (const Batch& batch : SequentialBatches(stream, kEvaluationRows, model.shape().context)) {
      if (Interrupted()) break;
      const LossSum part = HeadLossSum(model.Forward(batch.inputs, {}).hidden, model.HeadMatrix(),
                                       batch.targets.view(-1));
      sum.nats += part.nats;
      sum.count += part.count;
    }
    if (sum.count == 0) continue;
    result.perplexity_by_source[source] = std::exp(sum.nats / static_cast<double>(sum.count));
    result.tokens += static_cast<std::uint64_t>(sum.count);
    nats += sum.nats;
    bytes += static_cast<double>(stream.bytes);
  }
  if (result.tokens == 0) return result;
  result.nats = nats / static_cast<double>(result.tokens);
  result.perplexity = std::exp(result.nats);
  result.bits_per_byte = nats / std::log(2.0) / bytes;
  return result;
}

Status CheckEvaluation(const Evaluation& evaluation, const Transformer& model,
                       const Dataset& data) {
  if (std::isfinite(evaluation.nats)) return {};
  const Observation seen =
      Observe(model, HeldoutBatches(data, kEvaluationRows, model.shape().context));
  const std::string site = seen.not_finite.empty() ? seen.Sites() : seen.not_finite;
  return MakeError(ErrorCode::kOutOfRange, "the held-out loss is {}: {}", evaluation.nats,
                   site.empty() ? "logits beyond what a loss can hold" : site);
}

Result<LoadedModel> LoadModel(const std::string& path, torch::ScalarType type) {
  if (std::filesystem::is_directory(path)) return LoadBundleModel(path, type);
  PV_ASSIGN_OR_RETURN(const CheckpointInfo info, ReadCheckpointInfo(path));
  PV_ASSIGN_OR_RETURN(TrainConfig config, ParseTrainConfig(info.config));
  auto model = std::make_unique<Transformer>(config.shape, config.attention, type, config.seed);
  PV_RETURN_IF_ERROR(LoadCheckpoint(path, *model, nullptr));
  return LoadedModel{std::move(config), info, std::move(model)};
}

}  // namespace polyveil::train
