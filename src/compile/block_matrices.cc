#include "compile/block_matrices.h"

#include <algorithm>

#include "base/thread_pool.h"
#include "compile/block_maps.h"
#include "compile/known_keys.h"
#include "compile/texts.h"
#include "compile/token_matrices.h"

namespace polyveil::compile {
namespace {

using model::BlockShape;
using model::Matrix;

// Queries or keys as the token at `position` sees them.
Matrix Turned(const BlockShape& shape, const Matrix& w, int position) {
  Matrix turned = w;
  const size_t head = static_cast<size_t>(shape.d_head) * w.cols;
  ParallelFor(turned.values.size() / head, [&](size_t h) {
    model::RotateRows(shape, position, std::span(turned.values).subspan(h * head, head), w.cols);
  });
  return turned;
}

// Blocks of both matrices stay in cache.
Matrix Transposed(const Matrix& m) {
  constexpr int kBlock = 32;
  Matrix out{m.cols, m.rows, std::vector<double>(m.values.size())};
  ParallelFor(static_cast<size_t>((m.cols + kBlock - 1) / kBlock), [&](size_t block) {
    const int begin = static_cast<int>(block) * kBlock, end = std::min(m.cols, begin + kBlock);
    for (int first = 0; first < m.rows; first += kBlock)
      for (int c = begin; c < end; ++c)
        for (int r = first; r < std::min(m.rows, first + kBlock); ++r)
          out.values[static_cast<size_t>(c) * m.rows + r] = m.at(r, c);
  });
  return out;
}

// to[2 i] += factor from[i] channels[i].
void AddScaled(const double* from, const double* channels, double factor, int count, double* to) {
  if (channels == nullptr) {
    for (int i = 0; i < count; ++i) to[2 * i] += factor * from[i];
    return;
  }
  for (int i = 0; i < count; ++i) to[2 * i] += factor * from[i] * channels[i];
}

unsigned PartsOf(MatrixKind kind) {
  switch (kind) {
    case MatrixKind::kQkv:
      return model::kQkvWeights;
    case MatrixKind::kProjection:
      return model::kProjectionWeights;
    case MatrixKind::kHidden:
      return model::kHiddenWeights;
    case MatrixKind::kDown:
      return model::kDownWeights;
    default:
      break;
  }
  return model::kAllWeights;
}

LinearMap ToFeaturesMap(const BlockLayout& l, const RowLayout& rows, const BlockUnits& units,
                        MatrixKind kind, int layer) {
  const int terms = l.width > rows.size ? l.width / rows.size : 1;
  return {terms, rows.size, kind, layer, -1, false, units};
}

}  // namespace

LinearMap QkvMap(const BlockLayout& l, const BlockUnits& units, int layer, int position) {
  const int window = l.attention.window;
  return {l.width / window, window, MatrixKind::kQkv, layer, position, false, units};
}

LinearMap ProjectionMap(const BlockLayout& l, const BlockUnits& units, int layer) {
  return ToFeaturesMap(l, l.attention, units, MatrixKind::kProjection, layer);
}

LinearMap HiddenMap(const BlockLayout& l, const BlockUnits& units, int layer) {
  const int window = l.hidden.window;
  return {l.width / window, window, MatrixKind::kHidden, layer, -1, false, units};
}

LinearMap DownMap(const BlockLayout& l, const BlockUnits& units, int layer) {
  return ToFeaturesMap(l, l.hidden, units, MatrixKind::kDown, layer);
}

MapDiagonals::MapDiagonals(const LinearMap& map, const model::Block& block,
                           const BlockLayout& layout)
    : map_(map),
      block_(&block),
      shape_(block.shape),
      layout_(layout),
      rows_(map.kind == MatrixKind::kQkv || map.kind == MatrixKind::kProjection ? layout.attention
                                                                                : layout.hidden),
      prefix_(block.prefix()),
      weights_(map.reads_weights() ? block.weights->Load(PartsOf(map.kind)) : nullptr) {
  if (!map_.reads_weights() || map_.of_tokens || map_.of_blocks) return;
  const model::BlockWeights& w = *weights_;
  const BlockUnits& u = map_.units;
  const bool bilinear = shape_.bilinear();
  if (const ChannelUnits& units = reads_features() ? u.input_channels : u.output_channels) {
    channels_ = *units;
    if (!reads_features())
      for (double& unit : channels_) unit = 1 / unit;
  }
  switch (map_.kind) {
    case MatrixKind::kQkv: {
      const Matrix *wq = &w.wq, *wk = &w.wk;
      if (!shape_.rotary.empty()) {
        own_[0] = Turned(shape_, w.wq, map_.position);
        own_[1] = Turned(shape_, w.wk, map_.position);
        wq = &own_[0];
        wk = &own_[1];
      }
      const int keys = layout_.keys(), slot = map_.position % keys;
      parts_ = {{wk, slot, true, u.input / u.key, false},
                {&w.wv, slot + keys, true, u.input / u.value, false},
                {wq, keys - 1, false, u.input * u.key, true}};
      break;
    }
    case MatrixKind::kHidden:
      if (shape_.gated)
        parts_ = {{&w.gate, 0, false, u.input / (bilinear ? u.hidden : u.gate), false},
                  {&w.up, 0, false, u.input / u.hidden, true}};
      else
        parts_ = {{&w.up, 0, false, u.input / u.gate, false}};
      break;
    case MatrixKind::kProjection:
      own_[0] = Transposed(w.wo);
      parts_ = {{&own_[0], 0, false, u.value / u.output, false}};
      break;
    case MatrixKind::kDown:
      own_[0] = Transposed(w.down);
      parts_ = {{&own_[0], 0, false,
                 bilinear ? -u.hidden * u.hidden / (4 * u.output) : u.product / u.output,
                 bilinear}};
      break;
    default:
      break;
  }
}

// The matrix' row that stands in a row of the layout; null: padding.
const double* MapDiagonals::RowOf(const Part& part, const Matrix& m, int row) const {
  if (map_.kind == MatrixKind::kQkv || map_.kind == MatrixKind::kProjection) {
    const int head = row % layout_.heads, element = row / layout_.heads;
    if (head >= shape_.n_heads) return nullptr;
    row = (part.shared ? shape_.KvHead(head) : head) * shape_.d_head + element;
  }
  return row < m.rows ? m.values.data() + static_cast<size_t>(row) * m.cols : nullptr;
}

// Windows of a row: slots from `first` on hold columns (slot + term window) mod width.
void MapDiagonals::FromFeatures(int term, std::vector<Complex>& diagonal) const {
  for (const Part& part : parts_) {
    double* to = reinterpret_cast<double*>(diagonal.data()) + (part.imaginary ? 1 : 0);
    for (int r = 0; r < rows_.rows; ++r) {
      const double* row = RowOf(part, *part.matrix, r);
      if (row == nullptr) continue;
      for (int j = 0; j < rows_.window;) {
        const int slot = (r * rows_.size + part.first + j) & (layout_.slots - 1);
        const int column = (slot + term * map_.stride) & (layout_.width - 1);
        const int run = std::min({rows_.window - j, layout_.slots - slot, layout_.width - column});
        const int count = std::min(run, part.matrix->cols - column);
        if (count > 0) AddScaled(row + column, Channels(column), part.factor, count, to + 2 * slot);
        j += run;
      }
    }
  }
}

// Rows of the layout, `term` further on, at the features of their slots.
void MapDiagonals::ToFeatures(int term, std::vector<Complex>& diagonal) const {
  const Part& part = parts_.front();
  double* to = reinterpret_cast<double*>(diagonal.data()) + (part.imaginary ? 1 : 0);
  const int step = std::min(rows_.size, layout_.width);
  for (int slot = 0; slot < layout_.slots; slot += step) {
    const double* row = RowOf(part, *part.matrix, (slot / rows_.size + term) & (rows_.rows - 1));
    const int feature = slot & (layout_.width - 1);
    const int count = std::min(step, part.matrix->cols - feature);
    if (row != nullptr && count > 0)
      AddScaled(row + feature, Channels(feature), part.factor, count, to + 2 * slot);
  }
}

std::vector<Complex> MapDiagonals::Term(int k) const {
  return term_ ? term_(k) : Repeated(OfText(k), map_.texts);
}

std::vector<Complex> MapDiagonals::OfText(int k) const {
  if (map_.reads_known()) return KnownDiagonal(map_, shape_, layout_, prefix_, k);
  if (map_.of_blocks) return BlockDiagonal(map_, *block_, layout_, weights_.get(), k);
  if (map_.kind == MatrixKind::kSkew) return SkewDiagonal(map_, layout_, k);
  if (map_.of_tokens && !map_.packed) return TokenDiagonal(map_, shape_, layout_, *weights_, k);
  std::vector<Complex> diagonal(static_cast<size_t>(layout_.slots));
  const auto add = [&](int term, std::vector<Complex>& to) {
    if (map_.of_tokens)
      to = TokenDiagonal(map_, shape_, layout_, *weights_, term);
    else
      reads_features() ? FromFeatures(term, to) : ToFeatures(term, to);
  };
  add(k, diagonal);
  if (!map_.packed) return diagonal;
  std::vector<Complex> other(diagonal.size());
  add(k + map_.terms, other);
  for (size_t s = 0; s < diagonal.size(); ++s)
    diagonal[s] = {0.5 * (diagonal[s].real() + other[s].imag()),
                   0.5 * (diagonal[s].imag() - other[s].real())};
  return diagonal;
}

}  // namespace polyveil::compile
