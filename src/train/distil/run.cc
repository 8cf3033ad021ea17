#include "train/distil/run.h"

#include <array>
#include <cmath>
#include <map>

#include "base/interrupt.h"
#include "base/output_file.h"
#include "base/system.h"
#include "train/archive.h"
#include "train/checkpoint.h"
#include "train/device.h"
#include "train/distil/adapter.h"
#include "train/distil/evaluate.h"
#include "train/distil/export.h"
#include "train/distil/load.h"
#include "train/distil/loss.h"
#include "train/distil/run_text.h"
#include "train/distil/start.h"
#include "train/export.h"
#include "train/optimizer.h"
#include "train/run_folder.h"
#include "train/run_loop.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kCalibrationSteps = 1'000'000, kStartSteps = 2'000'000;
constexpr int kSentences = 200;

// Where a conversion stands.
struct Position {
  std::size_t stage = 0;
  std::int64_t step = 0, total_steps = 0;  // of the stage, of all stages
  std::uint64_t tokens = 0;
  double seconds = 0;  // training alone
};

// The names that checkpoints of conversions have for a block's matrices and their biases.
std::string NameInCheckpoint(std::string name) {
  constexpr std::pair<const char*, const char*> kNames[] = {
      {".wqkv", ".qkv"}, {".bqkv", ".qkv_bias"}, {".wo", ".out"},     {".bo", ".out_bias"},
      {".w12", ".in"},   {".b12", ".in_bias"},   {".wdown", ".down"}, {".bdown", ".down_bias"}};
  for (const auto& [here, there] : kNames)
    if (const auto at = name.find(here); at != std::string::npos)
      return name.replace(at, std::string_view(here).size(), there);
  return name;
}

class Runner {
 public:
  Runner(const DistilConfig& config, const DistilRunOptions& options)
      : config_(config),
        options_(options),
        folder_(options.out),
        config_text_(FormatDistilConfig(config)) {}

  Status Execute() {
    PV_ASSIGN_OR_RETURN(const bool goes_on, folder_.Open(options_.resume, options_.replace));
    PV_RETURN_IF_ERROR(Prepare(goes_on));
    PV_RETURN_IF_ERROR(goes_on ? Restore() : Begin());
    while (at_.stage < config_.stages.size()) {
      PV_ASSIGN_OR_RETURN(const bool stopped, RunStage());
      if (stopped) return {};
    }
    return {};
  }

 private:
  std::string Path(const std::string& name) const { return folder_.Path(name); }
  const DistilStage& stage() const { return config_.stages[at_.stage]; }
  void Note(const std::string& line) const {
    if (options_.note) options_.note(line);
  }

  Status Prepare(bool goes_on) {
    torch::set_num_threads(config_.threads);
    PV_ASSIGN_OR_RETURN(source_, model::LoadCheckpoint(options_.model));
    if (!source_->architecture.causal && !config_.prefix.empty())
      return MakeError(ErrorCode::kMismatch, "config.prefix has {} tokens, an encoder takes 0",
                       config_.prefix.size());
    if (config_.context > source_->architecture.context)
      return MakeError(ErrorCode::kOutOfRange, "config.context = {} > the model's {}",
                       config_.context, source_->architecture.context);
    base_sha256_ = model::WeightsSha256(*source_);
    if (goes_on) PV_RETURN_IF_ERROR(FindPosition());  // before its text is sampled anew
    PV_RETURN_IF_ERROR(LoadRunText(config_, options_, folder_, source_, base_sha256_, read_));
    PV_RETURN_IF_ERROR(LoadModels());
    heldout_ = read_.AllHeldout();
    return {};
  }

  Status LoadModels() {
    std::optional<torch::ScalarType> matrices;
    if (config_.adapter && config_.precision == Precision::kBf16) matrices = torch::kBFloat16;
    PV_ASSIGN_OR_RETURN(teacher_, LoadReleased(*source_, static_cast<int>(config_.prefix.size()),
                                               torch::kFloat32, matrices));
    PV_ASSIGN_OR_RETURN(const torch::Device device, OpenDevice(options_.device));
    teacher_ = teacher_->On(device);
    Shape forms = teacher_->shape();
    forms.power = config_.power;
    forms.attention_eps = config_.attention_eps;
    student_ = config_.adapter ? AdaptedStudent(*teacher_, forms, *config_.adapter, config_.seed)
                               : teacher_->Clone(forms, AttentionForm::kPowerMean);
    return {};
  }

  // The original and the start of the power form, measured.
  Status Begin() {
    PV_RETURN_IF_ERROR(folder_.Start(config_text_));
    if (!options_.start.empty() && !config_.adapter)
      return MakeError(ErrorCode::kInvalidArgument, "--start {}: config.adapter is missing",
                       options_.start);
    report_ = {{"model", model::Describe(source_->architecture)}, {"stages", Json::array()}};
    PV_RETURN_IF_ERROR(Report("original", options_.model, *teacher_, Json::object()));
    std::vector<Tensor> batches;
    for (int i = 0; i < config_.start_batches; ++i)
      batches.push_back(
          DrawDistilBatch(read_.text, config_.batch, {}, config_.seed, kStartSteps + i).inputs);
    Json layers = Json::array();
    for (const auto& heads : StartPower(*teacher_, *student_, batches)) {
      Json& layer = layers.emplace_back(Json::array());
      for (const HeadStart& head : heads)
        layer.push_back(
            {{"shift", head.shift}, {"error", head.error}, {"divisor_ratio", head.divisor_ratio}});
    }
    PV_RETURN_IF_ERROR(folder_.Write("start.json", layers.dump(1)));
    if (!options_.start.empty())
      PV_RETURN_IF_ERROR(ReadAdapterFolder(options_.start, *source_, *student_));
    PV_RETURN_IF_ERROR(Export("start"));
    PV_RETURN_IF_ERROR(Report("start", Path("start"), *student_, Json::object()));
    return Save();
  }

  // Returns whether the run was asked to stop.
  Result<bool> RunStage() {
    MakeOptimizers();
    if (stage().exact) student_->polynomials.reset();
    if (restored_) {
      PV_RETURN_IF_ERROR(RestoreOptimizers());
    } else if (at_.step == 0 && stage().fit) {
      PV_RETURN_IF_ERROR(Fit());
    }
    restored_ = false;
    PV_ASSIGN_OR_RETURN(const bool stopped, Steps());
    if (stopped) return true;
    PV_RETURN_IF_ERROR(Export(stage().name));
    Json extra = {{"steps", stage().steps}};
    if (student_->polynomials)
      for (const auto& [source, batches] : read_.heldout)
        extra["effect"][source] = ToJson(MeasureEffect(*student_, batches));
    if (student_->polynomials && stage().search) {
      PV_ASSIGN_OR_RETURN(extra["search"], SearchStage(*student_, *stage().search, stage().name,
                                                       folder_, config_.threads, read_));
    }
    PV_RETURN_IF_ERROR(Report(stage().name, Path(stage().name), *student_, extra));
    ++at_.stage;
    at_.step = 0;
    optimizers_.clear();
    PV_RETURN_IF_ERROR(Save());
    return false;
  }

  // Returns whether it came to stop_after.
  Result<bool> Steps() {
    std::int64_t end = stage().steps;
    if (options_.stop_after > 0)
      end = std::min(end,
                     at_.step + std::max<std::int64_t>(0, options_.stop_after - at_.total_steps));
    PV_ASSIGN_OR_RETURN(const bool ended,
                        RunSteps(config_, at_.step, end,
                                 {[&] { return Step(); }, Interrupted, [&] { return Log(); },
                                  [&] { return LogHeldout(); }, [&] { return Save(); }}));
    if (!ended)
      return MakeError(ErrorCode::kCancelled, "interrupted: stage {}, step {} of {} is in {}",
                       stage().name, at_.step, stage().steps, folder_.Checkpoint());
    if (options_.stop_after == 0 || at_.total_steps < options_.stop_after) return false;
    PV_RETURN_IF_ERROR(Save());
    return true;
  }

  bool Trains(const std::string& name) const {
    const TensorRole role = RoleOf(name, config_.adapter.has_value());
    if (role == TensorRole::kForm || !stage().attention_only) return role != TensorRole::kFrozen;
    constexpr std::array kAttention{".wqkv",   ".bqkv",   ".wo",     ".bo",
                                    ".q.lora", ".k.lora", ".v.lora", ".o.lora"};
    return std::ranges::any_of(kAttention,
                               [&](const char* part) { return name.find(part) != name.npos; });
  }

  void MakeOptimizers() {
    std::map<TensorRole, std::vector<Transformer::Parameter>> groups;
    for (const auto& [name, tensor, matrix, parts, ngrams] : student_->parameters()) {
      tensor.set_requires_grad(Trains(name));
      if (Trains(name))
        groups[RoleOf(name, config_.adapter.has_value())].push_back({name, tensor, false, 1});
    }
    OptimizerOptions options;
    options.weight_decay = 0;
    for (const auto& [role, rate] : {std::pair{TensorRole::kWeight, stage().rate},
                                     std::pair{TensorRole::kGain, stage().gain_rate},
                                     std::pair{TensorRole::kForm, stage().form_rate}}) {
      options.adam_lr = rate;
      optimizers_.emplace_back(groups[role], options);
    }
  }

  double ClampAt() const {
    return stage().fit ? ClampRatio(stage().fit->clamp, at_.step, stage().steps) : 0;
  }

  Status Step() {
    const Timer timer;
    const Batch batch = DrawDistilBatch(read_.text, config_.batch, stage().source_weights,
                                        config_.seed, at_.total_steps);
    student_->clamp = ClampAt();
    student_->precision = teacher_->precision = config_.precision;
    const DistilLoss loss = stage().kind == DistilStageKind::kMatch
                                ? MatchAndBackward(*teacher_, *student_, batch, stage())
                                : DistilAndBackward(*teacher_, *student_, batch, stage());
    student_->clamp = 0;
    student_->precision = teacher_->precision = Precision::kFloat32;
    const double factor = ScheduleFactor(stage().schedule, at_.step, stage().steps);
    std::vector<double> norms;
    for (Optimizer& optimizer : optimizers_) norms.push_back(optimizer.Step(factor));
    const double norm = norms[0];
    if (!std::isfinite(loss.total) ||
        !std::ranges::all_of(norms, [](double each) { return std::isfinite(each); }))
      return MakeError(ErrorCode::kOutOfRange,
                       "stage {}, step {}: loss {}, gradient norms {}: diverged", stage().name,
                       at_.step, loss.total, fmt::join(norms, ", "));
    ++at_.step;
    ++at_.total_steps;
    at_.tokens += static_cast<std::uint64_t>(batch.inputs.numel());
    const double seconds = timer.Seconds();
    at_.seconds += seconds;
    window_.Add(loss, norm, static_cast<double>(batch.inputs.numel()), seconds);
    return {};
  }

  // Means since the last line of the curve.
  struct Window {
    double steps = 0, tokens = 0, seconds = 0, norm = 0;
    DistilLoss sum;
    void Add(const DistilLoss& loss, double gradient_norm, double count, double time) {
      ++steps;
      tokens += count;
      seconds += time;
      norm = gradient_norm;
      sum.Add(loss);
    }
  };

  Status Log() {
    const DistilLoss mean = window_.sum.Over(window_.steps);
    const double rate = window_.tokens / std::max(1e-9, window_.seconds);
    PV_RETURN_IF_ERROR(Curve("train", mean, rate));
    if (options_.progress)
      options_.progress({stage().name, at_.step, stage().steps, at_.tokens, mean.total, mean.kl,
                         mean.text, mean.pooled, mean.hidden, mean.penalty, window_.norm, rate});
    window_ = {};
    return {};
  }

  Status LogHeldout() { return Curve("heldout", HeldoutLoss(*teacher_, *student_, heldout_), 0); }

  Status Curve(const char* what, const DistilLoss& loss, double rate) const {
    return folder_.AppendToCurve({{"stage", stage().name},
                                  {"step", at_.step},
                                  {"total_steps", at_.total_steps},
                                  {"tokens", at_.tokens},
                                  {"what", what},
                                  {"loss", loss.total},
                                  {"kl", loss.kl},
                                  {"text_nats", loss.text},
                                  {"pooled", loss.pooled},
                                  {"hidden", loss.hidden},
                                  {"penalty", loss.penalty},
                                  {"tokens_per_second", rate},
                                  {"seconds", at_.seconds}});
  }

  // Errors: kOutOfRange where a value is no number although no input left its interval.
  Result<Observation> ObserveText(int count) const {
    std::vector<Batch> batches;
    for (int i = 0; i < count; ++i)
      batches.push_back(DrawDistilBatch(read_.text, config_.batch, stage().source_weights,
                                        config_.seed, kCalibrationSteps + i));
    Observation seen = Observe(*student_, batches);
    PV_RETURN_IF_ERROR(seen.CheckFinite());
    return seen;
  }

  Status Fit() {
    const DistilFit& fit = *stage().fit;
    student_->polynomials.reset();
    PV_ASSIGN_OR_RETURN(const Observation seen, ObserveText(fit.calibration_batches));
    Json written;
    if (fit.degrees) {
      PolynomialOptions options = *fit.degrees;
      options.margin = fit.options.margin;
      PV_ASSIGN_OR_RETURN(student_->polynomials,
                          FitPolynomials(student_->shape(), seen.ranges, options));
      written = PolynomialsToJson(student_->polynomials);
    } else {
      PV_ASSIGN_OR_RETURN(Conversion fits, ChoosePolynomials(*student_, seen.ranges, fit.options));
      student_->polynomials = std::move(fits.polynomials);
      written = ToJson(fits);
    }
    PV_RETURN_IF_ERROR(folder_.Write(stage().name + ".fit.json", written.dump(1)));
    const ConversionEffect effect = MeasureEffect(*student_, heldout_);
    Note(fmt::format("{}: fitted on {} tokens\n{}", stage().name, seen.first.positions,
                     ToText(effect)));
    return folder_.Write(stage().name + ".fit_effect.json", ToJson(effect).dump(1));
  }

  Status Export(const std::string& name) {
    DistilCalibration calibration;
    if (student_->polynomials) {
      const DistilFit& fit = stage().fit ? *stage().fit : last_fit_;
      PV_ASSIGN_OR_RETURN(const Observation seen, ObserveText(fit.calibration_batches));
      if (seen.left_out > 0)
        Note(fmt::format("{}: {} of {} calibration positions left out of the bounds: {}", name,
                         seen.left_out, seen.first.positions, seen.Sites()));
      PV_RETURN_IF_ERROR(CheckRanges(seen, {}, true));
      calibration = {seen.ranges, seen.first.positions - seen.left_out, fit.options.margin,
                     seen.left_out};
    }
    const auto write = config_.adapter ? WriteAdapterFolder : WriteReleasedFolder;
    return write(student_->On(torch::kCPU), *source_, config_.prefix, calibration, Path(name));
  }

  // Scores a folder and adds a line to the report.
  Status Report(const std::string& name, const std::string& folder, const Transformer& model,
                const Json& extra) {
    Json line = {{"stage", name}, {"tokens", at_.tokens}, {"seconds", at_.seconds}};
    for (const auto& [source, batches] : read_.heldout) {
      const DistilLoss loss = HeldoutLoss(*teacher_, model, batches);
      line["heldout"][source] = read_.text.causal
                                    ? Json{{"perplexity", std::exp(loss.text)}, {"kl", loss.kl}}
                                    : Json{{"hidden_error", loss.hidden}};
    }
    if (read_.text.causal) {
      PV_ASSIGN_OR_RETURN(line["scores"],
                          EvaluateDecoder(folder, options_.evaluation, config_.evaluation));
    } else {
      PV_ASSIGN_OR_RETURN(line["scores"],
                          EvaluateEncoder(options_.model, folder, Sentences(), config_.context));
    }
    torch::set_num_threads(config_.threads);  // the reference's products ran on threads of its own
    line.update(extra);
    line["peak_memory_bytes"] = PeakRssBytes();
    report_["stages"].push_back(line);
    Note(line.dump());
    return folder_.Write("report.json", report_.dump(1) + "\n");
  }

  std::vector<std::string> Sentences() const {
    std::vector<std::string> out;
    const std::size_t lines = read_.text.heldout_lines.size();
    const std::size_t count = std::min<std::size_t>(kSentences, lines);
    for (std::size_t i = 0; i < count; ++i)
      out.push_back(read_.text.heldout_lines[lines * i / count]);
    return out;
  }

  NamedTensors StudentTensors() const {
    NamedTensors out;
    Weights::Visit(student_->weights, [&](const std::string& name, const Tensor& tensor) {
      if (RoleOf(name, config_.adapter.has_value()) != TensorRole::kFrozen)
        out.emplace_back("model." + NameInCheckpoint(name), tensor.detach());
    });
    return out;
  }

  NamedTensors OptimizerTensors() const {
    NamedTensors out;
    for (const Optimizer& optimizer : optimizers_)
      for (const auto& [name, tensor] : optimizer.State())
        out.emplace_back("state." + NameInCheckpoint(name), tensor);
    return out;
  }

  Status Save() const {
    NamedTensors tensors = StudentTensors();
    if (!optimizers_.empty() && at_.step > 0)
      for (auto& each : OptimizerTensors()) tensors.push_back(std::move(each));
    const Json info = {{"config", config_text_},
                       {"stage", at_.stage},
                       {"step", at_.step},
                       {"total_steps", at_.total_steps},
                       {"tokens", at_.tokens},
                       {"seconds", at_.seconds},
                       {"base", base_sha256_},
                       {"report", report_},
                       {"polynomials", PolynomialsToJson(student_->polynomials)}};
    return SaveArchive(folder_.Checkpoint(), info, tensors);
  }

  // Where the checkpoint is, of this config and model.
  Status FindPosition() {
    PV_ASSIGN_OR_RETURN(const Json info, ReadArchiveInfo(folder_.Checkpoint()));
    try {
      at_ = {info.at("stage"), info.at("step"), info.at("total_steps"), info.at("tokens"),
             info.at("seconds")};
      PV_RETURN_IF_ERROR(CheckContinues(info.at("config").get<std::string>()));
      // Old checkpoints name the base of an adapter alone.
      if (const std::string base = info.value("base", ""); !base.empty() && base != base_sha256_)
        return MakeError(ErrorCode::kMismatch, "{}: base of SHA-256 \"{}\", the model's is \"{}\"",
                         folder_.Checkpoint(), base, base_sha256_);
    } catch (const Json::exception& error) {
      return MakeError(ErrorCode::kCorrupt, "{}: {}", folder_.Checkpoint(), error.what());
    }
    return {};
  }

  Status Restore() {
    torch::NoGradGuard no_grad;
    PV_ASSIGN_OR_RETURN(const Json info, LoadArchive(folder_.Checkpoint(), StudentTensors()));
    try {
      report_ = info.at("report");
      PV_ASSIGN_OR_RETURN(student_->polynomials, PolynomialsFromJson(info.at("polynomials")));
    } catch (const Json::exception& error) {
      return MakeError(ErrorCode::kCorrupt, "{}: {}", folder_.Checkpoint(), error.what());
    }
    for (std::size_t i = 0; i < std::min(at_.stage, config_.stages.size()); ++i) {
      if (config_.stages[i].fit) last_fit_ = *config_.stages[i].fit;
      if (config_.stages[i].search)
        PV_RETURN_IF_ERROR(LoadFound(config_.stages[i].name, folder_, read_));
    }
    restored_ = at_.step > 0;
    return folder_.TruncateCurve("total_steps", at_.total_steps);
  }

  // What is done must be what this config asks for; stages that are not, their text, and what is
  // reported may have changed.
  Status CheckContinues(const std::string& stored) const {
    PV_ASSIGN_OR_RETURN(DistilConfig before, ParseDistilConfig(stored));
    DistilConfig now = config_;
    before.threads = now.threads;
    static_cast<Intervals&>(before) = now;
    before.sampled_rows = now.sampled_rows;
    before.sources = now.sources;
    before.heldout = now.heldout;
    before.evaluation = now.evaluation;
    for (DistilConfig* config : {&before, &now})
      config->stages.resize(std::min(config->stages.size(), at_.stage));
    if (FormatDistilConfig(before) == FormatDistilConfig(now)) return {};
    return MakeError(ErrorCode::kMismatch, "{}: its {} finished stages belong to another config",
                     folder_.Checkpoint(), at_.stage);
  }

  Status RestoreOptimizers() {
    PV_ASSIGN_OR_RETURN(const Json info, LoadArchive(folder_.Checkpoint(), OptimizerTensors()));
    for (Optimizer& optimizer : optimizers_) optimizer.set_steps_done(at_.step);
    return {};
  }

  const DistilConfig& config_;
  const DistilRunOptions& options_;
  RunFolder folder_;
  std::string config_text_;
  std::string base_sha256_;  // of the original's weights
  std::shared_ptr<const model::Checkpoint> source_;
  RunText read_;
  std::optional<Transformer> teacher_, student_;
  std::vector<Batch> heldout_;
  std::vector<Optimizer> optimizers_;  // of weights, gains and forms
  Position at_;
  Window window_;
  DistilFit last_fit_;
  Json report_;
  bool restored_ = false;
};

}  // namespace

Status RunDistil(const DistilConfig& config, const DistilRunOptions& options) {
  return Runner(config, options).Execute();
}

}  // namespace polyveil::train
