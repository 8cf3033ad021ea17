// Ranges of every intermediate over given text, and the polynomials fitted to them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "approx/range.h"
#include "base/result.h"
#include "train/dataset.h"
#include "train/transformer.h"

namespace polyveil::train {

// Site ("layer 2 / attention / divisor") -> smallest and largest value.
using SiteRanges = std::map<std::string, approx::Range>;

// "residual in" of the first layer (the embedding) included, as "layer 0 / attention / input".
SiteRanges ObserveRanges(const Transformer& model, const std::vector<Batch>& batches);

// Adds what a forward pass shows to ranges, which must outlive the recorder.
Recorder RangeObserver(SiteRanges& ranges);

// Minimax (relative error) fits on the seen ranges stretched by options.margin, or on to the
// options' ratios.
// Errors: kOutOfRange when a range is empty or not positive (site and both ends).
Result<std::vector<LayerPolynomials>> FitPolynomials(const Shape& shape, const SiteRanges& ranges,
                                                     const PolynomialOptions& options);

// Inputs of the polynomials outside [a, b].
struct SiteEscapes {
  std::uint64_t count = 0;
  double worst_ratio = 1;  // how far beyond the end that was passed
};
struct EscapeReport {
  std::uint64_t positions = 0;    // tokens evaluated
  std::uint64_t evaluations = 0;  // polynomial evaluations
  std::uint64_t escapes = 0;
  double worst_ratio = 1;
  std::map<std::string, SiteEscapes> by_site;
};
EscapeReport CountEscapes(const Transformer& model, const std::vector<Batch>& batches);

// Which values of a site lie outside (bool, the site's shape).
using EscapeMark = std::function<void(const std::string& site, const torch::Tensor& outside)>;
// Adds the escapes of a forward pass to report and tells mark of them; all must outlive it.
Recorder EscapeCounter(const std::vector<LayerPolynomials>& polynomials, EscapeReport& report,
                       EscapeMark mark = {});

// One batch: adds to report, tells `mark` which values of a site lie outside (bool, the site's
// shape), and returns Forward's hidden values. Requires model.polynomials.
torch::Tensor ForwardCountingEscapes(const Transformer& model, const Batch& batch,
                                     EscapeReport& report, const EscapeMark& mark = {});

// What a step of this run reads: text, and the polynomial stage's random rows.
Batch DrawTrainingBatch(const TrainConfig& config, const Dataset& data, std::uint64_t seed,
                        std::int64_t step);

// Text for calibration: `count` batches at steps that no training batch uses, so that it is drawn
// independently of the order.
std::vector<Batch> CalibrationBatches(const TrainConfig& config, const Dataset& data, int count);

// All held-out text, `rows` windows at a time; the first `skip` tokens of every source left out, so
// that windows begin elsewhere.
std::vector<Batch> HeldoutBatches(const Dataset& data, int rows, int context,
                                  std::int64_t skip = 0);

}  // namespace polyveil::train
