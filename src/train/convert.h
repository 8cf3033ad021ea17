// A trained model becomes a polynomial: an approximation for every site, chosen by depth and error
// budget, and what the exchange does to held-out text.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "approx/choose.h"
#include "train/calibrate.h"
#include "train/trainer.h"

namespace polyveil::train {

struct ConvertOptions {
  double margin = 1.3;  // interval = seen range stretched by this ratio at both ends
  double norm_error = 0.02, divisor_error = 0.05;  // largest relative errors on the intervals
  double activation_error = 0.02;                  // absolute
  int max_depth = 12;                              // levels of one site
  // "remez", "chebyshev", "composite", "goldschmidt" or "newton" wherever it meets the budget;
  // otherwise, and when empty, the cheapest.
  std::string family;
};

struct SiteChoice {
  std::string site;
  approx::Range seen;
  double a = 0, b = 0;
  std::vector<approx::Candidate> candidates;  // one a family that meets the budget
  approx::Candidate chosen;
};

// One site: every family within the budget on the seen range times the margin, and the cheapest.
// Errors: kOutOfRange for a site that was never seen, a range that is not positive, no candidate.
Result<SiteChoice> ChooseInverse(const SiteRanges& ranges, const std::string& site,
                                 approx::Target target, double shift, double error,
                                 const ConvertOptions& options);
// Minimax series alone, by absolute error, on an interval around 0.
Result<SiteChoice> ChooseActivation(const SiteRanges& ranges, const std::string& site,
                                    const approx::Function& activation,
                                    const ConvertOptions& options);

struct Conversion {
  std::vector<LayerPolynomials> polynomials;
  std::vector<SiteChoice> choices;
};

// Errors: kOutOfRange for a site whose range is empty or not positive, or that no candidate fits.
Result<Conversion> ChoosePolynomials(const Transformer& model, const SiteRanges& ranges,
                                     const ConvertOptions& options);

// The same with new polynomials at the sites of `ranges` alone.
Result<Conversion> RenewPolynomials(const Transformer& model, const Conversion& conversion,
                                    const SiteRanges& ranges, const ConvertOptions& options);

// The polynomial model against its parent (the same weights with exact functions), position by
// position; positions at which some input left its interval are also counted apart. Of
// a model that predicts no text the escapes alone.
struct OutputChange {
  std::uint64_t positions = 0;
  double mean_kl = 0, worst_kl = 0;  // nats, parent to polynomial
  std::uint64_t other_argmax = 0;
};
// kl, differs [positions].
void AddChange(OutputChange& change, const torch::Tensor& kl, const torch::Tensor& differs);

struct ConversionEffect {
  double parent_nats = 0, polynomial_nats = 0;  // per token
  OutputChange all, at_escapes;
  EscapeReport escapes;
};
ConversionEffect MeasureEffect(const Transformer& model, const std::vector<Batch>& batches);
// The same against any parent.
ConversionEffect MeasureEffect(const Transformer& model, const Transformer& parent,
                               const std::vector<Batch>& batches);

nlohmann::ordered_json ToJson(const SiteChoice& choice);
nlohmann::ordered_json ToJson(const OutputChange& change);
nlohmann::ordered_json ToJson(const EscapeReport& report);
nlohmann::ordered_json ToJson(const ConversionEffect& effect);
nlohmann::ordered_json ToJson(const Conversion& conversion);
// Tables for people: one line a site; then what it did.
std::string ToText(const Conversion& conversion);
std::string ToText(const ConversionEffect& effect);

// Loads a checkpoint, calibrates on training text, chooses, and widens intervals (degrees follow)
// until calibration, export's training text and held-out text leave the margin at every site; then
// measures on held-out text and writes runs/<name>/last.pt with the polynomials (a checkpoint that
// a run can start from). Errors: kOutOfRange naming the site that no polynomial serves, whose range
// grows with its interval, or that shows NaN; nothing is written then.
struct ConvertRequest {
  std::string checkpoint, data, out, name = "polynomial";
  int calibration_batches = 40;
  ConvertOptions options = {};
  bool replace = false;  // a model of this name that is there is lost; else it is refused
};
struct ConvertResult {
  Conversion conversion;
  Observation seen;  // of the text that export calibrates on
  double least_margin = 1;
  ConversionEffect effect;
  std::string checkpoint;
};
Result<ConvertResult> ConvertCheckpoint(const ConvertRequest& request);

}  // namespace polyveil::train
