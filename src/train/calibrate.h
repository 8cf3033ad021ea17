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

  void Add(const std::string& site, std::uint64_t count, double ratio);
  void Merge(const EscapeReport& other);
};

// What text shows of a model. A value is touched when an input outside of its polynomial's interval
// came before it: at the same position, or at one that this position attends to.
struct Observation {
  SiteRanges ranges;  // of untouched values inside: bounds come from nothing else
  SiteRanges inputs;  // of the polynomials' untouched inputs, those outside included
  // Untouched inputs outside: each is the first of its text. Sites and ratios name the cause, not
  // what followed from it.
  EscapeReport first;
  std::uint64_t out_of_range = 0;  // positions at which any polynomial reads outside
  std::uint64_t left_out = 0;      // positions with a touched value: `ranges` lack these
  // The first site with a value that is no number although nothing before it was outside.
  std::string not_finite;

  // The smallest ratio that an interval's end leaves to what was read; no polynomials: 1.
  double LeastMargin(const std::vector<LayerPolynomials>& polynomials) const;
  // Errors: kOutOfRange with the site.
  Status CheckFinite() const;
  // "layer 0 / attention / divisor (3, worst 1.24), ...": the sites of `first`; empty when none.
  std::string Sites() const;
  void Merge(const Observation& other);
};

// "residual in" of the first layer (the embedding) included, as "layer 0 / attention / input".
Observation Observe(const Transformer& model, const std::vector<Batch>& batches);

// Its ranges alone. Values that are no numbers stay in them.
SiteRanges ObserveRanges(const Transformer& model, const std::vector<Batch>& batches);

// Behind it: one recorder a batch, of `rows` texts of `positions` tokens.
class Observer {
 public:
  // polynomials: null for exact functions. In a causal model positions read earlier ones alone.
  Observer(const std::vector<LayerPolynomials>* polynomials, bool causal);
  // Valid until the next one; the observer must outlive it.
  Recorder NextBatch(std::int64_t rows, std::int64_t positions);
  Observation Take();  // what was seen since the last Take

 private:
  void Record(const std::string& site, const torch::Tensor& values);
  bool MarkOutside(const std::string& site, const torch::Tensor& values,
                   const approx::Approximant& p, const approx::Range& read);
  void DropOverflow(const std::string& site, const torch::Tensor& values);
  void FinishBatch();

  std::map<std::string, const approx::Approximant*> polynomials_;
  bool causal_;
  torch::Tensor touched_, outside_;  // [rows, positions]
  Observation seen_;
};

// Positions [rows, positions] at which a value of a site has the mark (bool, the site's shape).
torch::Tensor MarkedPositions(const std::string& site, const torch::Tensor& marked);

// The function whose place a site's polynomial takes: 1 / (x + shift)^order; order 0: the
// activation.
struct ExactSite {
  double order = 0, shift = 0;
};
ExactSite ExactSiteOf(const Shape& shape, const std::string& key);

// The polynomials that a layer of this shape has, each yet to be fitted; the divisor's is 1, for
// forms that divide by nothing.
LayerPolynomials UnfittedPolynomials(const Shape& shape);

// Minimax (relative error) fits on the seen ranges stretched by options.margin, or on to the
// options' ratios.
// Errors: kOutOfRange when a range is empty or not positive (site and both ends).
Result<std::vector<LayerPolynomials>> FitPolynomials(const Shape& shape, const SiteRanges& ranges,
                                                     const PolynomialOptions& options);

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

// The training text that bounds are taken from, beside the held-out text.
std::vector<Batch> ExportBatches(const TrainConfig& config, const Dataset& data);

// All held-out text, `rows` windows at a time; the first `skip` tokens of every source left out, so
// that windows begin elsewhere.
std::vector<Batch> HeldoutBatches(const Dataset& data, int rows, int context,
                                  std::int64_t skip = 0);

}  // namespace polyveil::train
