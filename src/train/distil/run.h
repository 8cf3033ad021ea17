// A conversion, from the released model to the polynomial one: stages, checkpoints, curve, report.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "train/distil/config.h"

namespace polyveil::train {

struct DistilProgress {
  std::string stage;
  std::int64_t step = 0, steps = 0;
  std::uint64_t tokens = 0;  // of all stages so far
  double loss = 0;           // what is minimised, without the penalty; mean since the last report
  double kl = 0, text = 0;   // nats a token, decoders
  double pooled = 0;         // 1 - cosine of a row's mean states, encoders
  double hidden = 0;         // mean |difference|^2 / |original|^2
  double penalty = 0, gradient_norm = 0, tokens_per_second = 0;
};

struct DistilRunOptions {
  std::string model;       // folder or *.gguf, see model/formats/checkpoint.h
  std::string stories;     // training and held-out text
  std::string evaluation;  // tasks and WikiText; empty: held-out text alone
  std::string start;       // an adapter's folder that a new run goes on from; empty: none
  std::string out;
  std::string device = "cpu";            // device.h
  bool resume = false, replace = false;  // a run that is there: continued, or lost; else refused
  // Stop, with a checkpoint, after so many steps of all stages; 0: never.
  std::int64_t stop_after = 0;
  std::function<void(const DistilProgress&)> progress;
  std::function<void(const std::string& line)> note;  // what a stage has come to
};

// Writes out/{config.json, last.pt, curve.jsonl, report.json} and a folder for the original (with
// the power form's start in its own) and for every stage. A resumed run ends with the same weights
// as an uninterrupted one (same machine, same threads); stages that it has not come to may be
// changed, longer, or more. Errors: those of the parts; kMismatch when finished stages differ;
// kCancelled behind a signal, with a checkpoint.
Status RunDistil(const DistilConfig& config, const DistilRunOptions& options);

}  // namespace polyveil::train
