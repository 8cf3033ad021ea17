#include <algorithm>
#include <set>

#include "train/study.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;
constexpr std::uint64_t kPolynomialSeed = 1000;  // another order of the text than the parent's

// A misspelt field must not pass for a default.
Status CheckFields(const std::string& where, const Json& json, const std::set<std::string>& known) {
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: no JSON object", where);
  for (const auto& [key, value] : json.items())
    if (!known.count(key))
      return MakeError(ErrorCode::kInvalidArgument, "{}: unknown field \"{}\"", where, key);
  return {};
}

const std::set<std::string> kStudyFields = {
    "name",       "baseline",       "base",  "variants", "budgets",      "margin", "seeds",
    "task_share", "task_sequences", "pairs", "symbols",  "first_symbol", "quick",  "polynomial"};
const std::set<std::string> kVariantFields = {"name",   "group", "patch",     "convert",
                                              "behind", "seeds", "polynomial"};

Result<StudyVariant> ReadVariant(const Json& json, const std::vector<std::uint64_t>& seeds) {
  PV_RETURN_IF_ERROR(CheckFields(json.is_object()
                                     ? "study: variant " + json.value("name", Json()).dump()
                                     : std::string("study: a variant"),
                                 json, kVariantFields));
  StudyVariant v{json.at("name"),
                 json.value("group", std::string("twins")),
                 json.value("patch", Json::object()),
                 json.value("convert", false),
                 seeds,
                 json.value("polynomial", Json()),
                 json.value("behind", std::string())};
  if (json.contains("seeds")) v.seeds = json.at("seeds").get<std::vector<std::uint64_t>>();
  return v;
}

const StudyVariant* Find(const StudyConfig& study, const std::string& name) {
  for (const StudyVariant& variant : study.variants)
    if (variant.name == name) return &variant;
  return nullptr;
}

Status CheckBehind(const StudyConfig& study, const StudyVariant& variant) {
  if (variant.behind.empty()) return {};
  const StudyVariant* parent = Find(study, variant.behind);
  if (parent && parent->behind.empty() && !variant.polynomial.is_null() && variant.patch.empty())
    return {};
  return MakeError(ErrorCode::kInvalidArgument,
                   "variant {}: behind \"{}\", which must be a variant with runs of its own; a "
                   "stage alone has a field \"polynomial\" and no \"patch\"",
                   variant.name, variant.behind);
}

std::string RunName(const StudyVariant& variant, std::uint64_t seed) {
  return fmt::format("{}-s{}", variant.name, seed);
}

}  // namespace

Result<StudyConfig> ParseStudyConfig(const std::string& text, bool quick) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "study: no JSON object");
  try {
    if (json.contains("quick"))
      PV_RETURN_IF_ERROR(CheckFields("study.quick", json.at("quick"), kStudyFields));
    if (quick) json.merge_patch(Json(json.value("quick", Json::object())));
    PV_RETURN_IF_ERROR(CheckFields("study", json, kStudyFields));
    StudyConfig study;
    study.name = json.value("name", study.name);
    study.base = json.at("base");
    study.polynomial = json.value("polynomial", study.polynomial);
    study.budgets = json.value("budgets", study.budgets);
    study.margin = json.value("margin", study.margin);
    study.task_share = json.value("task_share", study.task_share);
    study.task_sequences = json.value("task_sequences", study.task_sequences);
    study.pairs = json.value("pairs", study.pairs);
    study.alphabet.first_symbol = json.value("first_symbol", study.alphabet.first_symbol);
    study.alphabet.symbols = json.value("symbols", study.alphabet.symbols);
    const auto seeds = json.value("seeds", std::vector<std::uint64_t>{1, 2, 3});
    for (const Json& entry : json.at("variants")) {
      PV_ASSIGN_OR_RETURN(StudyVariant variant, ReadVariant(entry, seeds));
      study.variants.push_back(std::move(variant));
    }
    if (study.variants.empty()) return MakeError(ErrorCode::kInvalidArgument, "study: no variants");
    study.baseline = json.value("baseline", study.variants.front().name);
    if (study.alphabet.symbols < 32 || !(study.margin >= 1))
      return MakeError(ErrorCode::kOutOfRange, "study: {} symbols < 32, or margin {} < 1",
                       study.alphabet.symbols, study.margin);
    for (const StudyVariant& variant : study.variants) {
      PV_RETURN_IF_ERROR(CheckBehind(study, variant));
      PV_RETURN_IF_ERROR([&]() -> Status {
        auto config = RunConfigOf(study, variant, 1);
        if (config.ok() && !variant.polynomial.is_null())
          config = PolynomialConfigOf(study, variant, 1);
        if (config.ok()) return {};
        return MakeError(config.error().code, "variant {}: {}", variant.name,
                         config.error().message);
      }());
    }
    return study;
  } catch (const Json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "study: {}", error.what());
  }
}

const StudyVariant& ParentOf(const StudyConfig& study, const StudyVariant& variant) {
  return variant.behind.empty() ? variant : *Find(study, variant.behind);
}

Result<StudyConfig> OnlyRun(StudyConfig study, const std::string& run) {
  std::string names;
  for (StudyVariant& variant : study.variants) {
    std::erase_if(variant.seeds, [&](std::uint64_t seed) {
      const std::string name = RunName(variant, seed);
      names += (names.empty() ? "" : ", ") + name;
      return name != run;
    });
  }
  const auto kept =
      std::find_if(study.variants.begin(), study.variants.end(),
                   [](const StudyVariant& variant) { return !variant.seeds.empty(); });
  if (kept != study.variants.end()) {
    const std::string parent = kept->behind;
    std::erase_if(study.variants, [&](const StudyVariant& variant) {
      return variant.seeds.empty() && variant.name != parent;
    });
    return study;
  }
  return MakeError(ErrorCode::kInvalidArgument, "no run \"{}\" among {}", run, names);
}

Result<TrainConfig> RunConfigOf(const StudyConfig& study, const StudyVariant& variant,
                                std::uint64_t seed) {
  Json json = study.base;
  json.merge_patch(variant.patch);
  json["name"] = RunName(variant, seed);
  json["seed"] = seed;
  return ParseTrainConfig(json.dump());
}

Result<TrainConfig> PolynomialConfigOf(const StudyConfig& study, const StudyVariant& variant,
                                       std::uint64_t seed) {
  const StudyVariant& parent = ParentOf(study, variant);
  Json json = study.base;
  json.merge_patch(parent.patch);
  json.merge_patch(study.polynomial);
  json.merge_patch(variant.polynomial);
  json["name"] = RunName(variant, seed) + "-polynomial";
  json["init_from"] = RunName(parent, seed) + "/last.pt";
  json["seed"] = seed + kPolynomialSeed;
  PV_ASSIGN_OR_RETURN(TrainConfig config, ParseTrainConfig(json.dump()));
  if (config.polynomial) return config;
  return MakeError(ErrorCode::kInvalidArgument, "its polynomial stage has no field \"polynomial\"");
}

}  // namespace polyveil::train
