// What a client asks of a decrypted result before it believes it: a value that left a fitted
// interval on the server shows in the slots, because they hold every number many times and some
// numbers not at all.
#pragma once

#include <span>
#include <vector>

#include "base/result.h"
#include "ckks/encoder.h"
#include "ckks/parameters.h"
#include "compile/layout.h"
#include "runtime/result_noise.h"

namespace polyveil::serve {

// The model as a result shows it: values, their unit, what the layers may make of them.
struct ResultShape {
  int width = 0;
  double unit = 1;
  runtime::ResultBounds bounds;
};

// In units of the slot. From the noise model and the model's bounds:
// docs/decisions/0015-results-checked.md.
struct ResultLimits {
  double magnitude = 0;    // of a value: the model's bound
  double mean_square = 0;  // of the values
  double copies = 0;       // of a slot's real part against the mean of its copies
  double imaginary = 0;    // of an imaginary part, and of slots that hold no value
};
ResultLimits MakeResultLimits(const ResultShape& shape, const ckks::Parameters& params);

class ResultGuard {
 public:
  ResultGuard(const ResultShape& shape, const ckks::Parameters& params);

  // slots: all of a result, or one period. The residual's d_model values, each the mean of its
  // copies. Errors: kUntrustedResult, "a value left its interval at token N" (counted from 1), with
  // what was seen and what is allowed.
  Result<std::vector<double>> Read(std::span<const ckks::Complex> slots, int token) const;
  // slots: of `count` texts decoded together, of `texts` that have room (compile::PackTexts). The
  // residuals by text. Errors: as Read's, of the first text that has one, which is named.
  Result<std::vector<std::vector<double>>> ReadTexts(std::span<const ckks::Complex> slots,
                                                     int texts, int count, int token) const;
  // slots: of a result of so many tokens at once (compile::PackTokens). The residuals by token.
  // Errors: as Read's, of the first token that has one; kMismatch for another number of
  // ciphertexts than the layout's.
  Result<std::vector<std::vector<double>>> ReadTokens(const compile::TokenSlots& slots,
                                                      const compile::TokenLayout& layout,
                                                      int tokens) const;
  const ResultLimits& limits() const { return limits_; }

 private:
  struct Seen;
  Seen Look(std::span<const ckks::Complex> slots) const;
  std::vector<ckks::Complex> CopiesOf(const compile::TokenSlots& slots,
                                      const compile::TokenLayout& layout, int tokens, int t) const;
  // text: of several, counted from 1; 0: there is one.
  Status Judge(const Seen& seen, int token, int text = 0) const;
  std::vector<double> InUnit(std::vector<double> means) const;

  size_t width_, period_;
  double unit_;
  ResultLimits limits_;
};

}  // namespace polyveil::serve
