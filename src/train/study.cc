#include "train/study.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "model/bundle.h"
#include "model/client/language_model.h"
#include "train/files.h"
#include "train/minimal_pairs.h"
#include "train/study_page.h"
#include "train/study_probes.h"
#include "train/throughput.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;
constexpr int kProbeBatches = 6, kProbeRows = 16;
constexpr std::uint64_t kTaskSeed = 900'000'000;  // far from the training sequences' seeds
const std::vector<double> kScoreScales = {0.5, 0.7, 0.85, 1, 1.2, 1.4, 2};

Result<Json> ReadJson(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, 256 << 20));
  Json json = Json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (json.is_discarded()) return MakeError(ErrorCode::kCorrupt, "{}: no JSON", path);
  return json;
}

Status WriteText(const std::string& path, const std::string& text) {
  return WriteFile(path, text.data(), text.size());
}

StudyVariant ReadVariant(const Json& json, const std::vector<std::uint64_t>& seeds) {
  StudyVariant v{json.at("name"), json.value("group", std::string("twins")),
                 json.value("patch", Json::object()), json.value("convert", false), seeds};
  if (json.contains("seeds")) v.seeds = json.at("seeds").get<std::vector<std::uint64_t>>();
  return v;
}

Status CheckFields(const Json& json) {
  static const std::set<std::string> kKnown = {
      "name",       "baseline",       "base",  "variants", "budgets",      "margin", "seeds",
      "task_share", "task_sequences", "pairs", "symbols",  "first_symbol", "quick"};
  for (const auto& [key, value] : json.items())
    if (!kKnown.count(key))
      return MakeError(ErrorCode::kInvalidArgument, "study: unknown field \"{}\"", key);
  return {};
}

// The prepared data with one more source of training text: in-context tasks, a sequence a story.
Status AddTasks(const StudyConfig& study, const std::string& from, const std::string& to,
                int context) {
  if (std::filesystem::exists(to + "/dataset.json")) return {};
  std::filesystem::create_directories(to);
  PV_ASSIGN_OR_RETURN(Json info, ReadJson(from + "/dataset.json"));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(from));
  if (study.alphabet.first_symbol + study.alphabet.symbols > data.vocab_size)
    return MakeError(ErrorCode::kOutOfRange, "task symbols {} .. {} > vocabulary of {}",
                     study.alphabet.first_symbol,
                     study.alphabet.first_symbol + study.alphabet.symbols - 1, data.vocab_size);
  for (const auto& entry : std::filesystem::directory_iterator(from))
    if (entry.path().filename() != "dataset.json")
      std::filesystem::copy_file(entry.path(), std::filesystem::path(to) / entry.path().filename(),
                                 std::filesystem::copy_options::overwrite_existing);
  const double share = std::min(0.9, study.task_share);
  const auto wanted =
      static_cast<std::size_t>(share / (1 - share) * static_cast<double>(data.TrainTokens()));
  std::vector<std::int32_t> tokens;
  for (std::uint64_t seed = 0; tokens.size() < wanted; ++seed) {
    const TaskSequence sequence =
        MakeTask(kTasks[seed % std::size(kTasks)], context, study.alphabet, seed);
    tokens.insert(tokens.end(), sequence.tokens.begin(), sequence.tokens.end());
    tokens.push_back(model::Tokenizer::kEnd);
  }
  if (!tokens.empty()) {
    info["train"]["tasks"] = {{"tokens", tokens.size()}, {"bytes", 0}};
    PV_RETURN_IF_ERROR(WriteFile(to + "/train.tasks.bin", tokens.data(), tokens.size() * 4));
  }
  return WriteText(to + "/dataset.json", info.dump(1) + "\n");
}

// [[step, nats], ...] of one kind of line.
Json Curve(const std::string& path) {
  Json out = Json::array();
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_object() && json.value("what", "") == "train")
      out.push_back({json.at("step"), json.at("nats")});
  }
  return out;
}

std::vector<Batch> Probes(const Dataset& data, int context) {
  std::vector<Batch> all = HeldoutBatches(data, kProbeRows, context), out;
  // Spread over the sources, so that no one story speaks for all.
  const std::size_t stride = std::max<std::size_t>(1, all.size() / kProbeBatches);
  for (std::size_t i = 0; i < all.size() && out.size() < kProbeBatches; i += stride)
    out.push_back(all[i]);
  return out;
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
    int deepest = 0;
    for (int layer = 0; layer < config.shape.n_layers; ++layer)
      deepest =
          std::max(deepest, BlockLevels(config.shape, model.attention(layer), layer,
                                        conversion->polynomials[static_cast<std::size_t>(layer)]));
    model.polynomials = conversion->polynomials;
    const ConversionEffect effect =
        MeasureEffect(model, HeldoutBatches(data, kProbeRows, config.shape.context));
    model.polynomials.reset();
    out.push_back({{"budget", budget},
                   {"levels", deepest},
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

// Everything that is measured of one trained model.
Result<Json> Analyse(const StudyConfig& study, const StudyOptions& options,
                     const StudyVariant& variant, const TrainSummary& summary,
                     const Dataset& data) {
  PV_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(summary.checkpoint));
  Transformer& model = *loaded.model;
  const TrainConfig& config = loaded.config;
  const auto text = Probes(data, config.shape.context);
  Json tasks;
  for (const Task task : kTasks)
    tasks[TaskName(task)] =
        TaskAccuracy(model, task, study.alphabet, study.task_sequences, kTaskSeed);
  Json out = {{"parameters", model.ParameterCount()},
              {"tokens", summary.tokens},
              {"tokens_per_second", summary.tokens_per_second},
              {"gemm_fraction", summary.gemm_fraction},
              {"perplexity", summary.heldout.perplexity},
              {"nats", summary.heldout.nats},
              {"bits_per_byte", summary.heldout.bits_per_byte},
              {"attention", ToJson(MeasureAttention(model, text, study.alphabet))},
              {"tasks", tasks},
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

class Study {
 public:
  Study(const StudyConfig& study, const StudyOptions& options) : study_(study), options_(options) {}

  Result<Json> Run() {
    PV_ASSIGN_OR_RETURN(const TrainConfig base, RunConfigOf(study_, study_.variants.front(), 1));
    data_folder_ = options_.out + "/data";
    PV_RETURN_IF_ERROR(AddTasks(study_, options_.data, data_folder_, base.shape.context));
    Json report = {{"study", study_.name}, {"baseline", study_.baseline}, {"base", study_.base}};
    report["runs"] = Json::array();
    for (const StudyVariant& variant : study_.variants)
      for (const std::uint64_t seed : variant.seeds) {
        PV_ASSIGN_OR_RETURN(Json run, OneRun(variant, seed));
        report["runs"].push_back(std::move(run));
        PV_RETURN_IF_ERROR(Write(report));  // a page of what there is so far
      }
    return report;
  }

 private:
  Status Write(const Json& report) const {
    PV_RETURN_IF_ERROR(WriteText(options_.out + "/study.json", report.dump(1) + "\n"));
    return WriteText(options_.out + "/study.html", StudyPage(report));
  }

  void Tell(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  Result<Json> OneRun(const StudyVariant& variant, std::uint64_t seed) {
    PV_ASSIGN_OR_RETURN(const TrainConfig config, RunConfigOf(study_, variant, seed));
    const std::string folder = options_.out + "/" + config.name;
    const std::string path = folder + "/analysis.json";
    const std::string key = FormatTrainConfig(config) + Json(study_.budgets).dump() +
                            (options_.pairs.empty() ? "" : fmt::format("{}", study_.pairs));
    if (const auto cached = ReadJson(path); cached.ok() && cached->value("config", "") == key)
      return cached->at("result");
    Json run = {{"variant", variant.name}, {"group", variant.group}, {"seed", seed}};
    const auto summary = RunTrain(
        config, {data_folder_, options_.out, true, 0, [&](const TrainProgress& p) {
                   Tell(fmt::format("{}: step {}/{}  loss {:.4f}  {:.0f} tokens/s  {:.0f} s left",
                                    config.name, p.step, p.steps, p.loss, p.tokens_per_second,
                                    p.seconds_left));
                 }});
    run["curve"] = Curve(folder + "/curve.jsonl");
    if (summary.ok()) {
      PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(data_folder_));
      PV_ASSIGN_OR_RETURN(const Json analysis, Analyse(study_, options_, variant, *summary, data));
      run.update(analysis);
      Tell(fmt::format("{}: held-out perplexity {:.3f}", config.name, summary->heldout.perplexity));
    } else if (summary.error().code == ErrorCode::kOutOfRange) {
      run["diverged"] = summary.error().message;
      Tell(fmt::format("{}: {}", config.name, summary.error().message));
    } else {
      return summary.error();
    }
    PV_RETURN_IF_ERROR(WriteText(path, Json({{"config", key}, {"result", run}}).dump() + "\n"));
    return run;
  }

  const StudyConfig& study_;
  const StudyOptions& options_;
  std::string data_folder_;
};

}  // namespace

Result<StudyConfig> ParseStudyConfig(const std::string& text, bool quick) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "study: no JSON object");
  try {
    if (quick) json.merge_patch(Json(json.value("quick", Json::object())));
    PV_RETURN_IF_ERROR(CheckFields(json));
    StudyConfig study;
    study.name = json.value("name", study.name);
    study.base = json.at("base");
    study.budgets = json.value("budgets", study.budgets);
    study.margin = json.value("margin", study.margin);
    study.task_share = json.value("task_share", study.task_share);
    study.task_sequences = json.value("task_sequences", study.task_sequences);
    study.pairs = json.value("pairs", study.pairs);
    study.alphabet.first_symbol = json.value("first_symbol", study.alphabet.first_symbol);
    study.alphabet.symbols = json.value("symbols", study.alphabet.symbols);
    const auto seeds = json.value("seeds", std::vector<std::uint64_t>{1, 2, 3});
    for (const Json& variant : json.at("variants"))
      study.variants.push_back(ReadVariant(variant, seeds));
    if (study.variants.empty()) return MakeError(ErrorCode::kInvalidArgument, "study: no variants");
    study.baseline = json.value("baseline", study.variants.front().name);
    if (study.alphabet.symbols < 32 || !(study.margin >= 1))
      return MakeError(ErrorCode::kOutOfRange, "study: {} symbols < 32, or margin {} < 1",
                       study.alphabet.symbols, study.margin);
    for (const StudyVariant& variant : study.variants)
      PV_RETURN_IF_ERROR([&]() -> Status {
        const auto config = RunConfigOf(study, variant, 1);
        if (config.ok()) return {};
        return MakeError(config.error().code, "variant {}: {}", variant.name,
                         config.error().message);
      }());
    return study;
  } catch (const Json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "study: {}", error.what());
  }
}

Result<TrainConfig> RunConfigOf(const StudyConfig& study, const StudyVariant& variant,
                                std::uint64_t seed) {
  Json json = study.base;
  json.merge_patch(variant.patch);
  json["name"] = fmt::format("{}-s{}", variant.name, seed);
  json["seed"] = seed;
  return ParseTrainConfig(json.dump());
}

Result<double> EstimateHours(const StudyConfig& study, double flops_per_second) {
  double flops = 0;
  for (const StudyVariant& variant : study.variants) {
    PV_ASSIGN_OR_RETURN(const TrainConfig config, RunConfigOf(study, variant, 1));
    flops += static_cast<double>(variant.seeds.size()) * static_cast<double>(config.steps) *
             config.accumulate * config.batch * config.shape.context *
             TrainingFlopsPerToken(config.shape);
  }
  return flops / flops_per_second / 3600;
}

Result<Json> RunStudy(const StudyConfig& study, const StudyOptions& options) {
  std::filesystem::create_directories(options.out);
  return Study(study, options).Run();
}

}  // namespace polyveil::train
