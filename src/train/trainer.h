// A training run from a config: data in, checkpoints and curves out.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "train/calibrate.h"
#include "train/checkpoint.h"
#include "train/dataset.h"
#include "train/processes.h"
#include "train/train_config.h"

namespace polyveil::train {

struct TrainProgress {
  std::int64_t step = 0, steps = 0;
  double loss = 0;     // nats per token, mean since the last report
  double penalty = 0;  // weighted hinges, likewise
  double gradient_norm = 0;
  double tokens_per_second = 0;
  double gemm_fraction = 0;  // the model's own products over what the machine's matrix product does
  double seconds_left = 0;
  double seconds = 0;
};

struct RunOptions {
  std::string data;  // folder written by SaveDataset
  std::string out;   // folder of runs; this one's files go to out/<name>/
  bool resume = false;
  std::int64_t stop_after = 0;  // stop (with a checkpoint) after so many steps; 0: at the end
  std::function<void(const TrainProgress&)> progress;
  // Those that share the batches of a step, or null. Rank 0 alone writes, reports and evaluates.
  const Processes* processes = nullptr;
  bool replace = false;  // a run of this name that is there is lost; else it is refused
};

struct Evaluation {
  double nats = 0;  // per token
  double perplexity = 0;
  double bits_per_byte = 0;
  std::uint64_t tokens = 0;
  std::map<std::string, double> perplexity_by_source;
};

struct TrainSummary {
  std::int64_t steps = 0;
  std::uint64_t tokens = 0;
  double seconds = 0;
  double tokens_per_second = 0, gemm_rate = 0, gemm_fraction = 0;  // of this process's steps
  Evaluation heldout;
  std::string checkpoint;
};

// Whether a program can serve what a run trains: the reason that `plan` would give for its shape.
// Runs with softmax, of which no program is made, pass. Asked before a run,
// not by it: studies train shapes for comparison alone.
Status CheckServable(const TrainConfig& config);

// Runs, or resumes, a config. Writes out/<name>/{config.json, last.pt, curve.jsonl, summary.json}.
// A resumed run ends with the same weights and curve as an uninterrupted one (same machine, same
// threads), wherever it was interrupted; the curve's times differ, and the first mean behind an
// interruption is that of the steps since. With P processes each takes
// every P-th of a step's `accumulate` batches: the weights are one process's, with P > 2 up to the
// order of sums. Other ranks return a summary without results. Errors: kInvalidArgument for an
// `accumulate` that P does not divide, and for a run of this name that is neither resumed nor
// replaced; kCancelled behind a signal, with a checkpoint of the last step.
Result<TrainSummary> RunTrain(const TrainConfig& config, const RunOptions& options);

// How far the polynomials' inputs are clamped at this step (Transformer::clamp).
double ClampRatio(const ClampOptions& options, std::int64_t step, std::int64_t steps);

// All held-out text, every token predicted once; part of it behind a signal.
Evaluation Evaluate(const Transformer& model, const Dataset& data);

// Copies the parameters of a model that has the same ones of the same sizes. Errors: kMismatch
// (name, both sizes or both counts).
Status CopyParameters(const Transformer& from, Transformer& to);
// Errors: kOutOfRange for a loss that is no number (site).
Status CheckEvaluation(const Evaluation& evaluation, const Transformer& model, const Dataset& data);

// The model of a checkpoint or of a bundle's folder, with its polynomials; `type` may differ from
// training's. A bundle's norm gains are folded into its matrices and stay there; how it was trained
// is not known: only the shape of its config means something.
struct LoadedModel {
  TrainConfig config;
  CheckpointInfo info;
  std::unique_ptr<Transformer> model;
  double residual_bound = 0;  // a bundle's: what its program is made for; 0: not known
};
Result<LoadedModel> LoadModel(const std::string& path, torch::ScalarType type = torch::kFloat32);

}  // namespace polyveil::train
