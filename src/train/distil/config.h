// A conversion of a released model, complete: stages, text, rates.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "train/convert.h"
#include "train/train_config.h"
#include "train/transformer.h"

namespace polyveil::train {

enum class DistilStageKind {
  kMatch,   // every layer by itself, on the original's inputs: what its attention adds
  kDistil,  // end to end: the original's distribution and the residuals behind its blocks
};

// Fits polynomials before a stage's first step.
struct DistilFit {
  int calibration_batches = 16;
  ConvertOptions options;
  // Minimax series of these degrees in the place of the cheapest within the errors; of them only
  // what the field "degrees" names is read, and the margin is the options'.
  std::optional<PolynomialOptions> degrees;
  ClampOptions clamp;
};

// The original's weights stay as they are, mapped from its files and rounded once to the run's
// precision; beside them low-rank updates, gains and shifts of norms and the forms are trained.
struct AdapterOptions {
  int rank = 8;
  double alpha = 16;  // the update is alpha / rank times b a
  std::vector<AdapterSite> sites{AdapterSite::kQuery, AdapterSite::kKey,  AdapterSite::kValue,
                                 AdapterSite::kOut,   AdapterSite::kGate, AdapterSite::kUp,
                                 AdapterSite::kDown};
};

// A search for inputs that leave the intervals, at a stage's end. Later stages' hard rows have its
// finds.
struct DistilSearch {
  std::int64_t inputs = 2000;
  double swap_share = 0.25;
  std::uint64_t seed = 1;
  int rows = 8;  // at a time
};

struct DistilStage {
  std::string name;
  DistilStageKind kind = DistilStageKind::kDistil;
  std::int64_t steps = 100;
  double rate = 1e-4;       // Adam, of the weights, or of the adapters' updates
  double gain_rate = 1e-4;  // Adam, of the norms beside adapters
  double form_rate = 3e-3;  // Adam, of shift, kappa and the ranges' centres
  bool attention_only = false;
  bool exact = false;        // without the polynomials of the stages before
  double kl_weight = 1;      // decoders
  double pooled_weight = 0;  // encoders: of 1 - cosine of a row's mean state with the original's
  double hidden_weight = 0;  // of the mean over layers and tokens of |difference|^2 / |original|^2
  std::map<std::string, double> source_weights;  // in the place of the sources' own
  Schedule schedule{10, 0.5, 0.1};
  RangeOptions range;
  std::optional<DistilFit> fit;
  std::optional<DistilSearch> search;
};

enum class SourceKind {
  kStories,  // *.txt below a folder, cleaned as corpus.h cleans stories
  kText,     // the same as they are
  kSampled,  // what the original writes by itself
  kHard,     // rows of every kind of hard_inputs.h, and the finds of searches
};

// One source of rows.
struct DistilSource {
  std::string name = "stories";
  SourceKind kind = SourceKind::kStories;
  std::string path{};  // below the data's folder; empty: that folder
  double weight = 1;   // of a row's draw, beside the other sources'
  // Share of the rows that stand in the model's chat template: a user's text and its answer. Of
  // sampled text: a user's words come from the other sources.
  double chat = 0;
  std::int64_t sequences = 0;           // sampled ones
  std::vector<double> temperatures{1};  // in turn
  double top_p = 1;
};

struct DistilEvaluation {
  int window = 256, windows = 32;  // of the text file
  std::vector<std::string> tasks;
  int examples = 0;       // of a task; 0: none
  int heldout_rows = 16;  // of every held-out source
};

struct DistilConfig : Intervals {
  DistilConfig() : Intervals{5, 50, 20} {}

  std::string name = "conversion";
  std::uint64_t seed = 1;
  int threads = 2;
  Precision precision = Precision::kFloat32;  // of the products of a training step
  std::optional<AdapterOptions> adapter;      // nothing: every weight is trained
  int power = 4;
  double attention_eps = 1e-3;
  std::vector<int> prefix;  // decoders: tokens before every text
  int context = 256;        // tokens of a row, the prefix included
  int batch = 4;
  int start_batches = 2;  // of text that the shifts are chosen on
  std::vector<DistilSource> sources{DistilSource()};
  std::vector<DistilSource> heldout;  // whole sources that nothing is trained or fitted on
  int sampled_rows = 64;              // at a time
  DistilEvaluation evaluation;
  std::vector<DistilStage> stages;
};

// Unknown fields are refused. Errors: kCorrupt, kInvalidArgument, kOutOfRange; the field named.
Result<DistilConfig> ParseDistilConfig(std::string_view json);
std::string FormatDistilConfig(const DistilConfig& config);

}  // namespace polyveil::train
