// The classification head of an encoder as a server evaluates it on ciphertexts: a dense layer with
// a polynomial in its function's place and a linear one. This is the definition;
// compile/token_blocks.cc lowers it behind the last norm, whose polynomial is the last block's.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "model/bundle.h"
#include "model/config.h"

namespace polyveil::model {

// What is no weight, of forms.json.
struct HeadForms {
  Approximant pooler;  // in the place of the dense layer's function
  double bound = 1;    // of |logit|, with margin
};

struct EncoderHead {
  Matrix pooler, classifier;  // [d_model, d_model], [labels, d_model]
  std::vector<double> pooler_bias, classifier_bias;
  HeadForms forms;

  int labels() const { return classifier.rows; }
  // Of one token. normalised: what the last norm leaves, without its gain and bias, which stand in
  // the pooler.
  std::vector<double> Logits(std::span<const double> normalised) const;
};

// What the last norm leaves of a residual, without its gain and bias. norm: mean square to 1/root.
std::vector<double> Normalised(const Approximant& norm, std::span<const double> residual);

// A fit of tanh to what a text's first token shows. tokens: what the last norm leaves of each.
// Zeros are covered too, which stand where no text begins. Errors: kInvalidArgument for no
// tokens, kOutOfRange for values that are not finite.
Result<HeadForms> FitHead(const EncoderHead& head, std::span<const std::vector<double>> tokens,
                          double margin, int degree);

// Refuses a polynomial without an interval around zero or a bound that is no positive number.
// Errors: kOutOfRange.
Status ValidateHead(const HeadForms& forms, const std::string& where);

}  // namespace polyveil::model
