// A released model in a form that CKKS can evaluate: what stands in the place of softmax and,
// later, of every function that is no polynomial. File forms.json beside config.json and the
// weights; docs/formats/converted-model.md describes every field.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"
#include "model/encoder_head.h"

namespace polyveil::model {

struct Architecture;

enum class FormStage {
  kPower,       // Power-Softmax; norms, activation and division exact
  kPolynomial,  // every layer's polynomials in their places
};

// The weights that the forms were made for.
struct FormWeights {
  // Its name, of a GGUF file in the folder (beside an adapter: or of a folder there); empty:
  // config.json and safetensors beside it.
  std::string file;
  std::string sha256;  // Checkpoint's WeightsSha256, lower-case hex
};

struct ConvertedForms {
  FormStage stage = FormStage::kPower;
  int power = 4;  // of heads whose layer has no own powers
  double attention_eps = 1e-3;
  // Tokens that stand before every text of a decoder. Being constant, their keys and values are
  // constants of the model: they are computed with the exact functions in every stage, and nothing
  // of them is ever encrypted. Positions count from the first of them.
  std::vector<int> prefix;
  Calibration calibration;  // kPolynomial
  // Tokens of the longest text behind the prefix that the polynomials were tried on; 0: not said.
  int context = 0;
  std::optional<FormWeights> weights;      // nothing: whatever stands in the folder
  std::optional<Certificate> certificate;  // kPolynomial
  // Calibration tokens out of range, or behind one that is: bounds do not cover them.
  std::uint64_t left_out = 0;
  double residual_bound = 0;  // largest |x| behind the prefix, with margin; kPolynomial
  // Polynomials, their ranges and bounds: kPolynomial only. kappa, shift, attention: always.
  // norm1: v -> 1/sqrt(v + eps) of the attention's norm, norm2 of the feed-forward's (post-norm
  // models: of the norms behind them); v is the mean of squares, for LayerNorm around the mean.
  // activation: of the gate's (ungated: the hidden) values. Norms outside of the blocks stay exact.
  std::vector<LayerConfig> layers;
  // kPolynomial, of a classifier whose head a server may evaluate; nothing: clients do.
  std::optional<HeadForms> head;

  int prefix_length() const { return static_cast<int>(prefix.size()); }
};

// Nothing where the folder has no forms.json: the model is as released. Errors: kIo, kCorrupt,
// kMismatch, kOutOfRange; the field named.
Result<std::optional<ConvertedForms>> LoadForms(const std::string& folder);

// That the forms name no weights, or these. Errors: kMismatch, both digests.
Status CheckWeightsDigest(const ConvertedForms& forms, const std::string& sha256);

Result<ConvertedForms> ParseForms(std::string_view json);
std::string FormatForms(const ConvertedForms& forms);

// That the forms belong to the architecture: layers, heads, an activation and token ids inside the
// vocabulary, a prefix for decoders only. Errors: kMismatch, kOutOfRange (field, both values).
Status CheckForms(const ConvertedForms& forms, const Architecture& architecture);

// That a file has room for so many. Errors: kOutOfRange (field, both values).
Status CheckFormsSize(std::size_t layers, std::size_t prefix);

// FormatForms for a file: what no reader would take is refused before it is written. Errors: those
// of ParseForms and CheckForms.
Result<std::string> FormatCheckedForms(const ConvertedForms& forms,
                                       const Architecture& architecture);

}  // namespace polyveil::model
