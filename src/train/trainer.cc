#include "train/trainer.h"

#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "model/bundle.h"

namespace polyveil::train {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kEvaluationRows = 64;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::vector<Batch> CalibrationBatches(const TrainConfig& config, const Dataset& data, int count) {
  std::vector<Batch> batches;
  // Steps no training batch uses, so that calibration text is drawn independently of the order.
  for (int i = 0; i < count; ++i)
    batches.push_back(DrawBatch(data, config.source_weights, config.batch, config.shape.context,
                                config.seed + 7919, 1'000'000 + i));
  return batches;
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
        optimizer_(model_.parameters(), config.optimizer) {
    info_.config = FormatTrainConfig(config);
  }

  Result<TrainSummary> Execute() {
    std::filesystem::create_directories(folder_);
    PV_RETURN_IF_ERROR(Prepare());
    PV_RETURN_IF_ERROR(Loop());
    PV_RETURN_IF_ERROR(Save());
    TrainSummary summary{info_.step, info_.tokens, info_.seconds, Evaluate(model_, data_),
                         Checkpoint()};
    return WriteSummary(summary);
  }

 private:
  std::string Checkpoint() const { return folder_ + "/last.pt"; }

  Status Prepare() {
    if (options_.resume && std::filesystem::exists(Checkpoint())) {
      PV_ASSIGN_OR_RETURN(CheckpointInfo info, LoadCheckpoint(Checkpoint(), model_, &optimizer_));
      if (info.config != info_.config)
        return MakeError(ErrorCode::kMismatch, "{} belongs to another config", Checkpoint());
      info_ = std::move(info);
      return {};
    }
    std::ofstream(folder_ + "/config.json") << info_.config;
    std::ofstream(folder_ + "/curve.jsonl");  // a new run begins a new curve
    if (!config_.init_from.empty()) {
      PV_ASSIGN_OR_RETURN(const CheckpointInfo parent,
                          LoadCheckpoint(options_.out + "/" + config_.init_from, model_, nullptr));
      info_.tokens = parent.tokens;
    }
    return config_.polynomial && !model_.polynomials ? FitToRanges() : Status{};
  }

  Status FitToRanges() {
    const auto& options = *config_.polynomial;
    const SiteRanges ranges =
        ObserveRanges(model_, CalibrationBatches(config_, data_, options.calibration_batches));
    PV_ASSIGN_OR_RETURN(auto fits, FitPolynomials(config_.shape, ranges, options));
    model_.polynomials = std::move(fits);
    return {};
  }

  Status Loop() {
    const std::int64_t end =
        options_.stop_after > 0 ? std::min(config_.steps, options_.stop_after) : config_.steps;
    while (info_.step < end) {
      PV_RETURN_IF_ERROR(Step());
      if (config_.log_every > 0 && (info_.step % config_.log_every == 0 || info_.step == end))
        Report();
      if (config_.checkpoint_every > 0 && info_.step % config_.checkpoint_every == 0)
        PV_RETURN_IF_ERROR(Save());
      if (config_.eval_every > 0 && info_.step % config_.eval_every == 0)
        Curve("heldout", Evaluate(model_, data_).nats);
    }
    return {};
  }

  Status Step() {
    const auto start = Clock::now();
    const Batch batch = DrawBatch(data_, config_.source_weights, config_.batch,
                                  config_.shape.context, config_.seed, info_.step);
    const ForwardResult forward = model_.Forward(batch.inputs, config_.range);
    const torch::Tensor loss =
        HeadCrossEntropy(forward.hidden, model_.Get("embed"), batch.targets.view(-1));
    (loss + forward.penalty).backward();
    const double factor = ScheduleFactor(config_.optimizer, info_.step, config_.steps);
    const double norm = optimizer_.Step(factor), nats = loss.item<double>();
    if (!std::isfinite(nats) || !std::isfinite(norm))
      return MakeError(ErrorCode::kOutOfRange, "step {}: loss {}, gradient norm {}: diverged",
                       info_.step, nats, norm);
    Count(nats, forward.penalty.item<double>(), norm, SecondsSince(start));
    return {};
  }

  void Count(double nats, double penalty, double norm, double seconds) {
    ++info_.step;
    info_.tokens += static_cast<std::uint64_t>(config_.batch) * config_.shape.context;
    info_.seconds += seconds;
    ++window_.steps;
    window_.nats += nats;
    window_.penalty += penalty;
    window_.seconds += seconds;
    window_.norm = norm;
  }

  void Report() {
    const double steps = std::max(1, window_.steps);
    TrainProgress p{info_.step,
                    config_.steps,
                    window_.nats / steps,
                    window_.penalty / steps,
                    window_.norm,
                    steps * config_.batch * config_.shape.context / window_.seconds,
                    static_cast<double>(config_.steps - info_.step) * window_.seconds / steps,
                    info_.seconds};
    Curve("train", p.loss, p.penalty, p.tokens_per_second);
    if (options_.progress) options_.progress(p);
    window_ = {};
  }

  void Curve(const char* what, double nats, double penalty = 0, double rate = 0) {
    const nlohmann::ordered_json line = {{"step", info_.step},
                                         {"tokens", info_.tokens},
                                         {"what", what},
                                         {"nats", nats},
                                         {"penalty", penalty},
                                         {"tokens_per_second", rate},
                                         {"seconds", info_.seconds}};
    std::ofstream(folder_ + "/curve.jsonl", std::ios::app) << line.dump() << "\n";
  }

  Status Save() { return SaveCheckpoint(Checkpoint(), model_, &optimizer_, info_); }

  Result<TrainSummary> WriteSummary(const TrainSummary& summary) {
    const nlohmann::ordered_json json = {{"name", config_.name},
                                         {"steps", summary.steps},
                                         {"tokens", summary.tokens},
                                         {"seconds", summary.seconds},
                                         {"parameters", model_.ParameterCount()},
                                         {"heldout",
                                          {{"perplexity", summary.heldout.perplexity},
                                           {"nats", summary.heldout.nats},
                                           {"bits_per_byte", summary.heldout.bits_per_byte},
                                           {"tokens", summary.heldout.tokens},
                                           {"by_source", summary.heldout.perplexity_by_source}}}};
    std::ofstream out(folder_ + "/summary.json");
    out << json.dump(2) << "\n";
    out.close();
    if (!out) return MakeError(ErrorCode::kIo, "cannot write {}/summary.json", folder_);
    return summary;
  }

  struct Window {
    int steps = 0;
    double nats = 0, penalty = 0, seconds = 0, norm = 0;
  };

  const TrainConfig& config_;
  const RunOptions& options_;
  const Dataset& data_;
  std::string folder_;
  Transformer model_;
  Optimizer optimizer_;
  CheckpointInfo info_;
  Window window_;
};

}  // namespace

Result<TrainSummary> RunTrain(const TrainConfig& config, const RunOptions& options) {
  torch::set_num_threads(config.threads);
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(options.data));
  if (data.vocab_size > config.shape.vocab_size)
    return MakeError(ErrorCode::kMismatch, "data has a vocabulary of {} > the config's {}",
                     data.vocab_size, config.shape.vocab_size);
  return Run(config, options, data).Execute();
}

Evaluation Evaluate(const Transformer& model, const Dataset& data) {
  torch::NoGradGuard no_grad;
  Evaluation result;
  double nats = 0, bytes = 0;
  for (const auto& [source, stream] : data.heldout) {
    LossSum sum;
    for (const Batch& batch : SequentialBatches(stream, kEvaluationRows, model.shape().context)) {
      const LossSum part = HeadLossSum(model.Forward(batch.inputs, {}).hidden, model.Get("embed"),
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

Result<LoadedModel> LoadModel(const std::string& checkpoint, torch::ScalarType type) {
  PV_ASSIGN_OR_RETURN(const CheckpointInfo info, ReadCheckpointInfo(checkpoint));
  PV_ASSIGN_OR_RETURN(TrainConfig config, ParseTrainConfig(info.config));
  auto model = std::make_unique<Transformer>(config.shape, config.attention, type, config.seed);
  PV_RETURN_IF_ERROR(LoadCheckpoint(checkpoint, *model, nullptr));
  return LoadedModel{std::move(config), info, std::move(model)};
}

}  // namespace polyveil::train
