// Polynomials for every layer of a released model without training: attention swapped, fits on what
// a text shows, one layer's weights in memory at a time. The result computes another function than
// its softmax parent; docs/formats/converted-model.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "model/block_calibration.h"
#include "model/formats/forms.h"

namespace polyveil::model {

struct Checkpoint;

// What a layer reads.
struct LayerInputs {
  BlockTexts calibration;                   // fits and bounds cover them
  BlockTexts heldout;                       // tries the polynomials; may be empty
  std::vector<std::vector<double>> prefix;  // the constant tokens before every text
};

// Fits layers one behind the other: each reads what the polynomials before it leave.
class LayerFitter {
 public:
  LayerFitter(LayerInputs inputs, const BlockFit& fit);

  // Gives the block its prefix, forms and bounds; the inputs become the next layer's. Errors: those
  // of CalibrateBlock.
  Status Fit(Block& block);

  // Held-out positions so far, those out of range in some layer, and the least margin.
  const Certificate& certificate() const { return certificate_; }
  // What the next layer would read.
  const BlockTexts& calibration() const { return inputs_.calibration; }
  double largest_residual() const { return largest_residual_; }  // without margin

 private:
  Status TryHeldout(const Block& block);
  Status TryWholeTexts(const Block& block, BlockReference& reference);
  void MarkOut(std::size_t text, std::size_t position);

  LayerInputs inputs_;
  const BlockFit fit_;
  Certificate certificate_;
  std::vector<std::vector<bool>> out_of_range_;  // held-out positions
  double largest_residual_ = 0;
};

using TokenLists = std::vector<std::vector<std::int32_t>>;

struct FitTexts {
  TokenLists calibration, heldout;  // without the prefix
  // Constant tokens before every text; nothing: the model's begin token.
  std::optional<std::vector<int>> prefix = {};
};

// The forms of stage polynomial, with those of a classifier's head. Of a classifier that has forms
// of this stage without a head's: with these added. on_layer: before each, its number and how many
// there are. Errors: those of MakeBlock and EmbedTokens, kInvalidArgument for a model that has
// forms otherwise, kOutOfRange for more layers or tokens of a prefix than forms.json holds and
// where a fit is not possible (layer named).
Result<ConvertedForms> FitForms(std::shared_ptr<const Checkpoint> checkpoint, const FitTexts& texts,
                                const BlockFit& fit,
                                const std::function<void(int, int)>& on_layer = {});

}  // namespace polyveil::model
