#include "train/study_measure.h"

#include <cmath>

#include "model/client/language_model.h"
#include "train/minimal_pairs.h"
#include "train/study_probes.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kProbeBatches = 6, kProbeRows = 16;
constexpr int kShifts = 16, kRandomBatches = 64;
constexpr std::uint64_t kTaskSeed = 900'000'000;  // far from the training sequences' seeds
const std::vector<double> kScoreScales = {0.5, 0.7, 0.85, 1, 1.2, 1.4, 2};

std::vector<Batch> Probes(const Dataset& data, int context) {
  std::vector<Batch> all = HeldoutBatches(data, kProbeRows, context), out;
  // Spread over the sources, so that no one story speaks for all.
  const std::size_t stride = std::max<std::size_t>(1, all.size() / kProbeBatches);
  for (std::size_t i = 0; i < all.size() && out.size() < kProbeBatches; i += stride)
    out.push_back(all[i]);
  return out;
}

// Levels of the deepest block. Requires model.polynomials.
int DeepestBlock(const Transformer& model) {
  int levels = 0;
  for (int layer = 0; layer < model.shape().n_layers; ++layer)
    levels = std::max(levels, BlockLevels(model.shape(), model.attention(layer), layer,
                                          (*model.polynomials)[static_cast<std::size_t>(layer)]));
  return levels;
}

Json ConvertAtBudgets(const StudyConfig& study, const TrainConfig& config, const Dataset& data,
                      Transformer& model) {
  Json out = Json::array();
  const SiteRanges ranges = ObserveRanges(model, CalibrationBatches(config, data, 20));
  for (const double budget : study.budgets) {
    ConvertOptions options;
    options.margin = study.margin;
    options.norm_error = options.divisor_error = options.activation_error = budget;
    auto conversion = ChoosePolynomials(model, ranges, options);
    if (!conversion.ok()) {
      out.push_back({{"budget", budget}, {"refused", conversion.error().message}});
      continue;
    }
    model.polynomials = conversion->polynomials;
    const int levels = DeepestBlock(model);
    const ConversionEffect effect =
        MeasureEffect(model, HeldoutBatches(data, kProbeRows, config.shape.context));
    model.polynomials.reset();
    out.push_back({{"budget", budget},
                   {"levels", levels},
                   {"effect", ToJson(effect)},
                   {"sites", ToJson(*conversion)}});
  }
  return out;
}

// The mean over sets, and every set's share.
Result<Json> JudgePairs(const Transformer& model, const StudyConfig& study,
                        const StudyOptions& options) {
  PV_ASSIGN_OR_RETURN(const auto tokenizer, model::LoadTokenizer(options.data));
  PV_ASSIGN_OR_RETURN(const auto sets, LoadPairSets(options.pairs, study.pairs));
  Json by_set;
  double sum = 0;
  for (const PairSet& set : sets) {
    const double accuracy = PairAccuracy(model, tokenizer, set);
    by_set[set.name] = accuracy;
    sum += accuracy;
  }
  return Json{{"accuracy", sum / static_cast<double>(sets.size())}, {"by_set", by_set}};
}

// By task.
Json JudgeTasks(const Transformer& model, const StudyConfig& study) {
  Json tasks;
  for (const Task task : kTasks)
    tasks[TaskName(task)] =
        TaskAccuracy(model, task, study.alphabet, study.task_sequences, kTaskSeed);
  return tasks;
}

// Text that nobody wrote: every token behind the end mark as likely as any other.
std::vector<Batch> RandomBatches(const Shape& shape) {
  std::vector<Batch> out;
  for (int i = 0; i < kRandomBatches; ++i) {
    const torch::Tensor rows = torch::full({kProbeRows, shape.context}, model::Tokenizer::kEnd,
                                           torch::TensorOptions().dtype(torch::kInt64));
    out.push_back({rows, rows.clone()});
    ReplaceByRandomRows(out.back(), 1, shape.vocab_size, kTaskSeed, i);
  }
  return out;
}

// Held-out text cut into windows at kShifts offsets, so that every token is met at as many
// positions: what of it escapes, what that does, and how near the rest comes to the intervals.
Json MeasureEscapes(const Transformer& model, const Dataset& data) {
  const int context = model.shape().context;
  torch::NoGradGuard no_grad;
  EscapeReport report;
  Observer observer(&*model.polynomials, true);
  std::vector<Batch> hit;
  const Recorder count = EscapeCounter(*model.polynomials, report);
  for (int shift = 0; shift < kShifts; ++shift)
    for (const Batch& batch :
         HeldoutBatches(data, kProbeRows, context, shift * context / kShifts)) {
      const std::uint64_t before = report.escapes;
      report.positions += static_cast<std::uint64_t>(batch.inputs.numel());
      const Recorder observe = observer.NextBatch(batch.inputs.size(0), batch.inputs.size(1));
      model.Forward(batch.inputs, {}, [&](const std::string& site, const torch::Tensor& values) {
        count(site, values);
        observe(site, values);
      });
      if (report.escapes > before) hit.push_back(batch);
    }
  const SiteRanges ranges = observer.Take().inputs;
  Json sites = Json::array();
  for (std::size_t layer = 0; layer < model.polynomials->size(); ++layer)
    VisitPolynomials((*model.polynomials)[layer], [&](const char*, const char* rest,
                                                      const approx::Approximant& p) {
      const std::string site = fmt::format("layer {} / {}", layer, rest);
      const auto seen = ranges.find(site);
      if (seen == ranges.end()) return;
      const auto [lo, hi, n] = seen->second;
      sites.push_back({{"site", site},
                       {"degree", p.degree()},
                       {"interval", {p.a, p.b}},
                       {"seen", {lo, hi}},
                       {"margins", p.a > 0 ? Json{lo / p.a, p.b / hi} : Json{p.a / lo, p.b / hi}}});
    });
  Json out = ToJson(report);
  out["sites"] = sites;
  out["random_tokens"] = ToJson(CountEscapes(model, RandomBatches(model.shape())));
  if (!hit.empty()) out["batches_with_escapes"] = ToJson(MeasureEffect(model, hit));
  return out;
}

}  // namespace

Result<Json> AnalyseRun(const StudyConfig& study, const StudyOptions& options,
                        const StudyVariant& variant, const TrainSummary& summary,
                        const Dataset& data) {
  PV_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(summary.checkpoint));
  Transformer& model = *loaded.model;
  const TrainConfig& config = loaded.config;
  const auto text = Probes(data, config.shape.context);
  Json out = {{"parameters", model.ParameterCount()},
              {"tokens", summary.tokens},
              {"tokens_per_second", summary.tokens_per_second},
              {"gemm_fraction", summary.gemm_fraction},
              {"perplexity", summary.heldout.perplexity},
              {"nats", summary.heldout.nats},
              {"bits_per_byte", summary.heldout.bits_per_byte},
              {"attention", ToJson(MeasureAttention(model, text, study.alphabet))},
              {"tasks", JudgeTasks(model, study)},
              {"ranges", ToJson(MeasureRanges(model, text))},
              {"nats_by_position", NatsByPosition(model, text)},
              {"score_scales", kScoreScales},
              {"nats_by_score_scale", NatsByScoreScale(model, text, kScoreScales)}};
  if (!options.pairs.empty()) {
    PV_ASSIGN_OR_RETURN(const Json pairs, JudgePairs(model, study, options));
    out["pairs"] = pairs;
  }
  if (variant.convert) out["conversions"] = ConvertAtBudgets(study, config, data, model);
  return out;
}

Result<Json> AnalysePolynomial(const StudyConfig& study, const StudyOptions& options,
                               const TrainSummary& summary, const Dataset& data) {
  PV_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(summary.checkpoint));
  Transformer& model = *loaded.model;
  const Shape& shape = loaded.config.shape;
  Json out = {
      {"tokens", summary.tokens},
      {"perplexity", summary.heldout.perplexity},
      {"nats", summary.heldout.nats},
      {"levels", DeepestBlock(model)},
      {"tasks", JudgeTasks(model, study)},
      {"effect", ToJson(MeasureEffect(model, HeldoutBatches(data, kProbeRows, shape.context)))},
      {"escapes", MeasureEscapes(model, data)}};
  if (!options.pairs.empty()) {
    PV_ASSIGN_OR_RETURN(const Json pairs, JudgePairs(model, study, options));
    out["pairs"] = pairs;
  }
  return out;
}

}  // namespace polyveil::train
