#include "compile/token_matrices.h"

#include <algorithm>
#include <optional>

namespace polyveil::compile {
namespace {

using model::BlockShape;
using model::BlockWeights;
using model::Matrix;

// A matrix' part in one half of the rows: its entry (i, j) joins row ToRow(i) to row ToRow(j).
struct HalfMap {
  const Matrix* matrix;
  int half;
  bool attention_rows = false, attention_columns = false;  // elements and heads in their places
  int first_row = 0, first_column = 0;                     // otherwise: of row 0
  bool shared = false;                                     // heads that share keys and values
  double factor = 1;
  bool imaginary = false;
  int next_row = 0;  // rows that the columns lie further on
};

std::vector<HalfMap> HiddenHalves(const BlockShape& shape, const BlockWeights& w,
                                  const BlockUnits& u, int rows) {
  std::vector<HalfMap> halves;
  for (int half = 0; half < 2; ++half) {
    HalfMap map{shape.gated ? &w.gate : &w.up, half};
    map.first_row = half * rows;
    map.factor = u.input / (shape.bilinear() ? u.hidden : u.gate);
    halves.push_back(map);
    if (!shape.gated) continue;
    map.matrix = &w.up;
    map.factor = u.input / u.hidden;
    map.imaginary = true;
    halves.push_back(map);
  }
  return halves;
}

// odd: of a term of the down matrix that rotates by half a row more.
std::vector<HalfMap> HalvesOf(const LinearMap& map, const BlockShape& shape, const BlockWeights& w,
                              int rows, bool odd) {
  const BlockUnits& u = map.units;
  const bool bilinear = shape.bilinear();
  switch (map.kind) {
    case MatrixKind::kQkv:
      return {{&w.wk, 0, true, false, 0, 0, true, u.input / u.key, false},
              {&w.wv, 1, true, false, 0, 0, true, u.input / u.value, false},
              {&w.wq, 0, true, false, 0, 0, false, u.input * u.key, true}};
    case MatrixKind::kProjection:
      return {{&w.wo, 0, false, true, 0, 0, false, u.value / u.output, false}};
    case MatrixKind::kHidden:
      return HiddenHalves(shape, w, u, rows);
    default:
      break;
  }
  const double factor = bilinear ? -u.hidden * u.hidden / (4 * u.output) : u.product / u.output;
  // A rotation by half a row brings the other half's hidden values: in the second half those of the
  // next row.
  HalfMap first{&w.down, 0}, second{&w.down, 1};
  first.factor = second.factor = factor;
  first.imaginary = second.imaginary = bilinear;
  (odd ? first : second).first_column = rows;
  second.next_row = odd ? 1 : 0;
  return {first, second};
}

// The matrix' index that stands in a row of the layout; nothing: padding.
std::optional<int> IndexAt(const BlockLayout& l, const BlockShape& shape, bool attention,
                           bool shared, int first, int row, int count) {
  int index = first + row;
  if (attention) {
    const int head = row % l.heads;
    if (head >= shape.n_heads) return {};
    index = (shared ? shape.KvHead(head) : head) * shape.d_head + row / l.heads;
  }
  return index < count ? std::optional(index) : std::nullopt;
}

}  // namespace

LinearMap TokenMap(const BlockLayout& l, const BlockUnits& units, MatrixKind kind, int layer,
                   double factor) {
  LinearMap map{l.attention.rows, l.attention.size, kind, layer, -1, false, units};
  if (kind == MatrixKind::kDown) {
    map.terms *= 2;
    map.stride /= 2;
  }
  map.of_tokens = true;
  map.factor = factor;
  return map;
}

std::vector<Complex> TokenDiagonal(const LinearMap& map, const BlockShape& shape,
                                   const BlockLayout& l, const BlockWeights& weights, int term) {
  const int rows = l.attention.rows, keys = l.keys();
  std::vector<Complex> diagonal(static_cast<size_t>(l.slots));
  const bool reads_features = map.kind == MatrixKind::kQkv || map.kind == MatrixKind::kHidden;
  const ChannelUnits& units = reads_features ? map.units.input_channels : map.units.output_channels;
  const bool down = map.kind == MatrixKind::kDown;
  const int rotated = down ? term / 2 : term;  // rows
  for (const HalfMap& part : HalvesOf(map, shape, weights, rows, down && term % 2 == 1)) {
    const Matrix& m = *part.matrix;
    for (int r = 0; r < rows; ++r) {
      const auto i = IndexAt(l, shape, part.attention_rows, part.shared, part.first_row, r, m.rows);
      const auto j = IndexAt(l, shape, part.attention_columns, false, part.first_column,
                             (r + rotated + part.next_row) % rows, m.cols);
      if (!i || !j) continue;
      double value = map.factor * part.factor * m.at(*i, *j);
      if (units) {
        const double unit = (*units)[static_cast<size_t>(reads_features ? *j : *i)];
        value = reads_features ? value * unit : value / unit;
      }
      const Complex entry = part.imaginary ? Complex(0, value) : Complex(value);
      const size_t first = static_cast<size_t>(r) * static_cast<size_t>(l.attention.size) +
                           static_cast<size_t>(part.half * keys);
      for (int t = 0; t < keys; ++t) diagonal[first + static_cast<size_t>(t)] += entry;
    }
  }
  return diagonal;
}

LinearMap SkewMap(const BlockLayout& l, double factor) {
  LinearMap map{l.d_head, -1, MatrixKind::kSkew};
  map.factor = factor;
  return map;
}

std::vector<Complex> SkewDiagonal(const LinearMap& map, const BlockLayout& l, int term) {
  std::vector<Complex> diagonal(static_cast<size_t>(l.slots));
  const auto stride = static_cast<size_t>(l.element_stride());
  std::fill_n(diagonal.begin() + static_cast<std::ptrdiff_t>(stride) * term, stride,
              Complex(map.factor));
  return diagonal;
}

}  // namespace polyveil::compile
