// The matrices of a block as linear maps for one position, and their diagonals.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "compile/layout.h"
#include "compile/linear_map.h"
#include "model/block.h"

namespace polyveil::compile {

// Keys in the first halves of the rows and values in the second, both at `slot` of their half, as
// the real part; the queries, turned for `position`, at the last slot of the first half as the
// imaginary one.
LinearMap QkvMap(const BlockLayout& layout, const BlockUnits& units, int layer, int position);
LinearMap ProjectionMap(const BlockLayout& layout, const BlockUnits& units, int layer);
// gate + i up, or up alone. DownMap of a bilinear feed-forward takes both factors' product from the
// imaginary part of their square.
LinearMap HiddenMap(const BlockLayout& layout, const BlockUnits& units, int layer);
LinearMap DownMap(const BlockLayout& layout, const BlockUnits& units, int layer);

// Makes the diagonals of one map: holds the weights that it reads, ready for all of its terms.
class MapDiagonals {
 public:
  // block: outlives it. Cost: decodes the map's part of the block; a copy of queries and keys that
  // are turned, or of a matrix that writes to the residual.
  MapDiagonals(const LinearMap& map, const model::Block& block, const BlockLayout& layout);

  // Of a map whose terms come from elsewhere. term: thread-safe.
  explicit MapDiagonals(std::function<std::vector<Complex>(int)> term) : term_(std::move(term)) {}

  MapDiagonals(const MapDiagonals&) = delete;

  // One value a slot, or of maps that repeat a period. Thread-safe.
  std::vector<Complex> Term(int k) const;

 private:
  std::vector<Complex> OfText(int k) const;

  // A matrix in the rows of the layout: what its entries are multiplied by, where they go.
  struct Part {
    const model::Matrix* matrix;
    int first;            // slot of a row
    bool shared = false;  // heads that share keys and values
    double factor = 1;
    bool imaginary = false;
  };

  void FromFeatures(int term, std::vector<Complex>& diagonal) const;
  void ToFeatures(int term, std::vector<Complex>& diagonal) const;
  const double* RowOf(const Part& part, const model::Matrix& m, int row) const;
  const double* Channels(int first) const {
    return channels_.empty() ? nullptr : channels_.data() + first;
  }
  bool reads_features() const {
    return map_.kind == MatrixKind::kQkv || map_.kind == MatrixKind::kHidden;
  }

  const std::function<std::vector<Complex>(int)> term_;  // or else of a block:
  const LinearMap map_{};
  const model::Block* const block_ = nullptr;
  const model::BlockShape shape_{};
  const BlockLayout layout_{};
  const RowLayout rows_{};
  const int prefix_ = 0;
  std::shared_ptr<const model::BlockWeights> weights_;
  model::Matrix own_[2];  // turned queries and keys; a transposed writer
  std::vector<double>
      channels_;  // what a column is multiplied by beside the part's factor; or empty
  std::vector<Part> parts_;
};

}  // namespace polyveil::compile
