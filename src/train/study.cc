#include "train/study.h"

#include <filesystem>
#include <fstream>

#include "base/output_file.h"
#include "model/bundle.h"
#include "model/client/language_model.h"
#include "train/study_measure.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;

Result<Json> ReadJson(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, 256 << 20));
  Json json = Json::parse(bytes.begin(), bytes.end(), nullptr, false);
  if (json.is_discarded()) return MakeError(ErrorCode::kCorrupt, "{}: no JSON", path);
  return json;
}

// The prepared data with one more source of training text: in-context tasks, a sequence a story.
Status AddTasks(const StudyConfig& study, const std::string& from, const std::string& to,
                int context) {
  const Json tasks = {{"share", study.task_share},
                      {"first_symbol", study.alphabet.first_symbol},
                      {"symbols", study.alphabet.symbols},
                      {"length", context}};
  if (std::filesystem::exists(to + "/dataset.json")) {
    PV_ASSIGN_OR_RETURN(const Json made, ReadJson(to + "/dataset.json"));
    const Json there = made.value("tasks", Json());
    if (there == tasks) return {};
    return MakeError(ErrorCode::kMismatch, "{}: made with tasks {}, the study wants {}", to,
                     there.dump(), tasks.dump());
  }
  std::filesystem::create_directories(to);
  PV_ASSIGN_OR_RETURN(Json info, ReadJson(from + "/dataset.json"));
  info["tasks"] = tasks;
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
    PV_RETURN_IF_ERROR(WriteFile(to + "/train.tasks.bin", BytesOf(tokens)));
  }
  return WriteFile(to + "/dataset.json", info.dump(1) + "\n");
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

class Study {
 public:
  Study(const StudyConfig& study, const StudyOptions& options) : study_(study), options_(options) {}

  Result<Json> Run() {
    PV_ASSIGN_OR_RETURN(const TrainConfig base, RunConfigOf(study_, study_.variants.front(), 1));
    data_folder_ = options_.out + "/data";
    PV_RETURN_IF_ERROR(AddTasks(study_, options_.data, data_folder_, base.shape.context));
    if (auto report = ReadJson(options_.out + "/study.json"); report.ok())
      earlier_ = report->value("runs", Json::array());
    Json report = {{"study", study_.name}, {"baseline", study_.baseline}, {"base", study_.base}};
    report["runs"] = Json::array();
    for (const StudyVariant& variant : study_.variants)
      for (const std::uint64_t seed : variant.seeds) {
        PV_ASSIGN_OR_RETURN(Json run, OneRun(variant, seed));
        report["runs"].push_back(std::move(run));
        PV_RETURN_IF_ERROR(Write(report));  // what there is so far
      }
    return report;
  }

 private:
  Status Write(const Json& report) const {
    return WriteFile(options_.out + "/study.json", report.dump(1) + "\n");
  }

  void Tell(const std::string& line) const {
    if (options_.progress) options_.progress(line);
  }

  // A run of the report that lay in the folder, perhaps from another machine; {} if it has none.
  Json Earlier(const StudyVariant& variant, std::uint64_t seed) const {
    for (const Json& run : earlier_)
      if (run.value("variant", "") == variant.name && run.value("seed", std::uint64_t{0}) == seed)
        return run;
    return Json::object();
  }

  Result<Json> OneRun(const StudyVariant& variant, std::uint64_t seed) {
    const StudyVariant& parent = ParentOf(study_, variant);
    PV_ASSIGN_OR_RETURN(const TrainConfig config, RunConfigOf(study_, parent, seed));
    PV_ASSIGN_OR_RETURN(Json run, Cached(config, Json(study_.budgets).dump(), Earlier(parent, seed),
                                         [&](const TrainSummary& summary, const Dataset& data) {
                                           return AnalyseRun(study_, options_, parent, summary,
                                                             data);
                                         }));
    Json named = {{"variant", variant.name}, {"group", variant.group}, {"seed", seed}};
    if (variant.behind.empty()) {
      named.update(run);
      named.erase("polynomial");
    } else {
      named.update({{"behind", parent.name}, {"perplexity", run.value("perplexity", Json())}});
    }
    if (variant.polynomial.is_null() || run.contains("diverged")) return named;
    PV_ASSIGN_OR_RETURN(const TrainConfig stage, PolynomialConfigOf(study_, variant, seed));
    PV_ASSIGN_OR_RETURN(named["polynomial"],
                        Cached(stage, FormatTrainConfig(config),
                               Earlier(variant, seed).value("polynomial", Json::object()),
                               [&](const TrainSummary& summary, const Dataset& data) {
                                 return AnalysePolynomial(study_, options_, summary, data);
                               }));
    return named;
  }

  // Trains and analyses, unless analysis.json or `earlier` holds what this config and `rest` gave.
  template <typename Analyse>
  Result<Json> Cached(const TrainConfig& config, const std::string& rest, const Json& earlier,
                      Analyse analyse) {
    const std::string folder = options_.out + "/" + config.name;
    const std::string path = folder + "/analysis.json";
    const std::string key = FormatTrainConfig(config) + rest +
                            (options_.pairs.empty() ? "" : fmt::format("{}", study_.pairs));
    if (const auto cached = ReadJson(path); cached.ok() && cached->value("config", "") == key)
      return Keyed(cached->at("result"), key);
    std::filesystem::create_directories(folder);
    if (earlier.value("config", "") == key) return Keep(earlier, key, path);
    const auto summary = RunTrain(
        config, {data_folder_, options_.out, true, 0, [&](const TrainProgress& p) {
                   Tell(fmt::format("{}: step {}/{}  loss {:.4f}  {:.0f} tokens/s  {:.0f} s left",
                                    config.name, p.step, p.steps, p.loss, p.tokens_per_second,
                                    p.seconds_left));
                 }});
    Json run = {{"curve", Curve(folder + "/curve.jsonl")}};
    if (summary.ok()) {
      PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(data_folder_));
      PV_ASSIGN_OR_RETURN(const Json analysis, analyse(*summary, data));
      run.update(analysis);
      Tell(fmt::format("{}: held-out perplexity {:.3f}", config.name, summary->heldout.perplexity));
    } else if (summary.error().code == ErrorCode::kOutOfRange) {
      run["diverged"] = summary.error().message;
      Tell(fmt::format("{}: {}", config.name, summary.error().message));
    } else {
      return summary.error();
    }
    return Keep(run, key, path);
  }

  static Json Keyed(Json run, const std::string& key) {
    run["config"] = key;
    return run;
  }
  static Result<Json> Keep(const Json& run, const std::string& key, const std::string& path) {
    PV_RETURN_IF_ERROR(WriteFile(path, Json({{"config", key}, {"result", run}}).dump() + "\n"));
    return Keyed(run, key);
  }

  const StudyConfig& study_;
  const StudyOptions& options_;
  std::string data_folder_;
  Json earlier_ = Json::array();
};

}  // namespace

Result<Json> RunStudy(const StudyConfig& study, const StudyOptions& options) {
  std::filesystem::create_directories(options.out);
  return Study(study, options).Run();
}

}  // namespace polyveil::train
