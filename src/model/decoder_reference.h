// A decoder in float64, one token at a time: what the encrypted program must compute.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/block_reference.h"
#include "model/decoder.h"

namespace polyveil::model {

class DecoderReference {
 public:
  // Keeps the blocks, not the decoder. Weights above a few gigabytes are loaded anew for every
  // token.
  explicit DecoderReference(const Decoder& decoder,
                            Evaluation evaluation = Evaluation::kPolynomial);

  // The residual after the last block of one more token. Errors: kOutOfRange beyond the context,
  // kMismatch for another width.
  Result<std::vector<double>> Step(std::span<const double> embedding);
  // A whole text: the residuals of all its tokens. Errors: as Step's.
  Result<std::vector<std::vector<double>>> Read(std::span<const std::vector<double>> embeddings);
  // Forgets the text; counts of out-of-range inputs stay.
  void Reset();
  int position() const { return position_; }  // tokens so far, the prefix not among them
  int context() const { return context_; }

  // Values are called "layer L / " and what Observer documents; so are the sites.
  void set_observer(const Observer& observer);
  std::map<std::string, EscapeCount> escapes() const;
  // The site where the first NaN or infinity was read, and at which position; empty when none was.
  const std::string& first_not_finite() const { return first_not_finite_; }

 private:
  std::vector<BlockReference> blocks_;
  int context_;
  bool keeps_weights_;
  int position_ = 0;
  std::string first_not_finite_;
};

}  // namespace polyveil::model
