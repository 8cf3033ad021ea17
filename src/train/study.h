// A study: variants of a training config with the same data, steps and seeds, trained, probed and
// converted; one JSON of results, one page that shows them.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "train/convert.h"
#include "train/study_tasks.h"
#include "train/train_config.h"

namespace polyveil::train {

struct StudyVariant {
  std::string name, group;
  nlohmann::ordered_json patch;  // merged into the base config (RFC 7396)
  bool convert = false;          // at each budget
  std::vector<std::uint64_t> seeds;
  // Patch of the run's config for a stage that goes on from it with polynomials in place, itself a
  // patch of the study's; null: none.
  nlohmann::ordered_json polynomial;
  // A variant whose runs stand for this one's own: nothing but the stage is trained. Empty: none.
  std::string behind;
};

struct StudyConfig {
  std::string name = "study";
  std::string baseline;         // the variant that others are compared with
  nlohmann::ordered_json base;  // a training config
  nlohmann::ordered_json polynomial = nlohmann::ordered_json::object();  // of all such stages
  std::vector<StudyVariant> variants;
  std::vector<double> budgets = {0.2, 0.05, 0.01};  // relative errors of conversions
  double margin = 1.3;
  double task_share = 0.25;  // of the training tokens: in-context tasks beside the text
  int task_sequences = 100;  // of each task, for accuracies
  int pairs = 50;            // of each set of minimal pairs
  TaskAlphabet alphabet;
};

// The variant that another's stage goes on from, or the variant itself.
const StudyVariant& ParentOf(const StudyConfig& study, const StudyVariant& variant);

// Field "quick" of the JSON is a patch of the whole for a run of minutes; unknown fields are
// refused. Errors: kCorrupt, kInvalidArgument (also for a stage behind a variant that is not there
// or itself behind another), and ParseTrainConfig's for every variant.
Result<StudyConfig> ParseStudyConfig(const std::string& text, bool quick);

// The study with this run alone ("<variant>-s<seed>"), its polynomial stage included. Errors:
// kInvalidArgument where no run has that name.
Result<StudyConfig> OnlyRun(StudyConfig study, const std::string& run);

// The training config of one run, named <variant>-s<seed>.
Result<TrainConfig> RunConfigOf(const StudyConfig& study, const StudyVariant& variant,
                                std::uint64_t seed);

// The stage of that run with polynomials in place, named <variant>-s<seed>-polynomial. Requires
// variant.polynomial. Errors: kInvalidArgument without a field "polynomial" in it.
Result<TrainConfig> PolynomialConfigOf(const StudyConfig& study, const StudyVariant& variant,
                                       std::uint64_t seed);

struct StudyOptions {
  std::string data;   // folder of `prepare`
  std::string out;    // runs, analyses, study.json
  std::string pairs;  // folder of minimal pairs (train/minimal_pairs.h); empty: not asked
  std::function<void(const std::string& line)> progress;
};

// Trains what is not trained yet (interrupted runs go on), analyses what is not analysed yet,
// writes out/study.json, run by run (scripts/study_page.py makes a page of it). Runs of an
// out/study.json that lies there, perhaps from another machine, are taken over where their configs
// agree. A run that diverges is a result, not an error. Errors: kMismatch for out/data made with
// other tasks.
Result<nlohmann::ordered_json> RunStudy(const StudyConfig& study, const StudyOptions& options);

}  // namespace polyveil::train
