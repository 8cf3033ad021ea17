// A trained polynomial model as a bundle: gains folded, bounds calibrated, files written.
#pragma once

#include <string>

#include "base/result.h"
#include "model/bundle.h"
#include "train/calibrate.h"

namespace polyveil::train {

// Folds norm gains and 1/sqrt(d_head) into the matrices. Tensors as docs/formats/model-bundle.md.
model::TensorMap FoldTensors(const Transformer& model);

// The largest absolute value that a token's embedding can have, whatever stands before it.
double EmbeddingBound(const Transformer& model);

// One layer's config: form, shifts and kappas; of a model with polynomials these, their seen ranges
// and bounds, from the sites' ranges.
model::LayerConfig MakeLayer(const Transformer& model, const SiteRanges& ranges, int layer);
// The largest residual that the bounds allow, with a margin.
double ResidualBound(const model::LayerBounds& bounds, double margin);

// Config of a model with polynomials; bounds are the largest values in ranges, the residual's bound
// with `margin`. Requires model.polynomials; a softmax layer's form is left to the caller.
model::ModelConfig MakeModelConfig(const Transformer& model, const SiteRanges& ranges,
                                   double margin);

struct ExportOptions {
  bool leave_out = false;  // positions out of range: counted in the certificate, not refused
  double largest_error = model::kLargestLogitError;  // that may be predicted
  std::string parameters = "decode16";               // of the prediction
};

struct ExportSummary {
  std::uint64_t bytes = 0;  // of all files
  std::uint64_t calibration_tokens = 0;
  model::Certificate certificate;
};

// Whether bounds may be taken from what was seen. Errors: kOutOfRange for values that are no
// numbers, for positions out of range (counts, sites and ratios) unless leave_out, and when nothing
// else is left.
Status CheckRanges(const Observation& training, const Observation& heldout, bool leave_out);

// Writes model.json, model.safetensors (F32; with tables of n-grams I8 for these and F16) and
// tokenizer.json to folder `out`. Bounds come from training batches and the held-out text together,
// from values that no input outside its interval has touched. The error of the logits is predicted
// from the program that a server would run. Errors: those of LoadModel, CheckRanges and
// PredictLogitError, kMismatch for a model without polynomials, kOutOfRange for a larger predicted
// error, kIo. Nothing is written then.
Result<ExportSummary> ExportBundle(const std::string& checkpoint, const std::string& data,
                                   const std::string& out, const ExportOptions& options = {});

}  // namespace polyveil::train
