#include "compile/block_maps.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "base/check.h"

namespace polyveil::compile {
namespace {

using model::BlockShape;
using model::BlockWeights;
using model::Matrix;

// What stands in the rows or columns of a map: elements of the matrix' heads, by place among the
// padded ones (-1: none), or numbers from `first` on.
struct Axis {
  std::vector<int> heads;
  int first = 0;
  int count = 0;  // of the matrix
};

Axis Features(const BlockShape& shape) { return {{}, 0, shape.d_model}; }

// shared: that of the keys and values a head reads.
Axis Heads(const BlockLayout& l, const BlockShape& shape, bool shared) {
  Axis axis{std::vector<int>(static_cast<size_t>(l.heads), -1)};
  for (int h = 0; h < shape.n_heads; ++h)
    axis.heads[static_cast<size_t>(h)] = shared ? shape.KvHead(h) : h;
  return axis;
}

Axis HeadsAt(const BlockLayout& l, const std::vector<int>& places) {
  Axis axis{std::vector<int>(static_cast<size_t>(l.heads), -1)};
  for (size_t h = 0; h < places.size(); ++h)
    axis.heads[static_cast<size_t>(places[h])] = static_cast<int>(h);
  return axis;
}

// The matrix' index at a row of a block; nothing: padding.
std::optional<int> IndexAt(const BlockLayout& l, const BlockShape& shape, const Axis& axis,
                           int row) {
  if (row < 0 || row >= l.block()) return {};
  if (axis.heads.empty()) {
    const int index = axis.first + row;
    return index < axis.count ? std::optional(index) : std::nullopt;
  }
  const int head = axis.heads[static_cast<size_t>(row % l.heads)];
  if (head < 0) return {};
  return head * shape.d_head + row / l.heads;
}

int RowsUsed(const BlockLayout& l, const Axis& axis) {
  if (axis.heads.empty()) return std::min(axis.count - axis.first, l.block());
  const auto last = std::ranges::find_if(axis.heads.rbegin(), axis.heads.rend(),
                                         [](int head) { return head >= 0; });
  return (l.d_head - 1) * l.heads + static_cast<int>(axis.heads.rend() - last);
}

struct Part {
  Axis to, from;
  const Matrix* matrix = nullptr;  // null without weights
  double factor = 1;
};

// Of queries, keys, values or what JoinHeads puts together.
std::vector<Part> QkvParts(const LinearMap& map, const BlockLayout& l, const BlockShape& shape,
                           const BlockWeights* w) {
  const BlockUnits& u = map.units;
  const Matrix* const matrices[] = {w ? &w->wq : nullptr, w ? &w->wk : nullptr,
                                    w ? &w->wv : nullptr};
  const double factors[] = {u.input * u.key, u.input / u.key, u.input / u.value};
  const auto part = [&](int which, Axis to) {
    return Part{std::move(to), Features(shape), matrices[which], factors[which]};
  };
  if (map.block != kJoinedHeads) return {part(map.block, Heads(l, shape, map.block > 0))};
  const JoinedHeads joined = *JoinHeads(l, shape);
  std::vector<Part> parts{part(1, HeadsAt(l, joined.keys)), part(2, HeadsAt(l, joined.values))};
  if (joined.with_queries) parts.push_back(part(0, Heads(l, shape, false)));
  return parts;
}

// One below another: no two have the same row.
std::vector<Part> PartsOf(const LinearMap& map, const BlockLayout& l, const BlockShape& shape,
                          const BlockWeights* w) {
  const BlockUnits& u = map.units;
  const Axis features = Features(shape);
  switch (map.kind) {
    case MatrixKind::kQkv:
      return QkvParts(map, l, shape, w);
    case MatrixKind::kProjection:
      return {{features, Heads(l, shape, false), w ? &w->wo : nullptr, u.value / u.output}};
    case MatrixKind::kHidden: {
      const int parts = shape.gated ? 2 : 1;
      const bool gate = map.block % parts == 0;
      const Axis hidden{{}, map.block / parts * l.block(), shape.d_ff};
      const Matrix* const matrix = !w ? nullptr : gate && shape.gated ? &w->gate : &w->up;
      return {{hidden, features, matrix, u.input / (gate ? u.gate : u.hidden)}};
    }
    default:
      break;
  }
  const Axis hidden{{}, map.block * l.block(), shape.d_ff};
  return {{features, hidden, w ? &w->down : nullptr, u.product / u.output}};
}

void AddDiagonal(const LinearMap& map, const BlockShape& shape, const BlockLayout& l,
                 const Part& part, int apart, std::vector<Complex>& diagonal) {
  const bool reads = map.kind == MatrixKind::kQkv || map.kind == MatrixKind::kHidden;
  const ChannelUnits& units = reads ? map.units.input_channels : map.units.output_channels;
  for (int r = 0; r < l.block(); ++r) {
    const auto i = IndexAt(l, shape, part.to, r), j = IndexAt(l, shape, part.from, r + apart);
    if (!i || !j) continue;
    double value = map.factor * part.factor * part.matrix->at(*i, *j);
    if (units) {
      const double unit = (*units)[static_cast<size_t>(reads ? *j : *i)];
      value = reads ? value * unit : value / unit;
    }
    diagonal[static_cast<size_t>(r)] = value;
  }
}

std::vector<Complex> WeightDiagonal(const LinearMap& map, const BlockShape& shape,
                                    const BlockLayout& l, const BlockWeights& weights, int apart) {
  std::vector<Complex> diagonal(static_cast<size_t>(l.block()));
  for (const Part& part : PartsOf(map, l, shape, &weights))
    AddDiagonal(map, shape, l, part, apart, diagonal);
  return diagonal;
}

// value(t, e, h) where all of these hold: a row of a head, of one block or of all.
template <typename F>
std::vector<Complex> OfRows(const BlockLayout& l, const BlockShape& shape, int period, F&& value) {
  std::vector<Complex> diagonal(static_cast<size_t>(period));
  for (int t = 0; t < period / l.block(); ++t)
    for (int e = 0; e < l.d_head; ++e)
      for (int h = 0; h < shape.n_heads; ++h)
        diagonal[static_cast<size_t>(t * l.block() + l.AttentionRow(e, h))] = value(t, e, h);
  return diagonal;
}

// The independent text that a token is of.
int TextOf(const KeysSeen& seen, int token) {
  int text = 0;
  for (const int length : seen.texts) {
    if (token < length) break;
    token -= length;
    ++text;
  }
  return text;
}

std::vector<Complex> PrefixDiagonal(const LinearMap& map, const model::Block& block,
                                    const BlockLayout& l, int apart) {
  const bool values = map.kind == MatrixKind::kPrefixValues;
  const std::vector<double>& from = values ? block.prefix_values : block.prefix_keys;
  const double unit = values ? map.units.value : map.units.key;
  return OfRows(l, block.shape, l.block(), [&](int, int e, int h) -> Complex {
    const int there = e + apart, token = (values ? there : e) - l.blocks();
    const int element = values ? e : there;
    if (token < 0 || token >= block.prefix() || there < 0 || there >= l.d_head) return 0;
    const int index =
        token * block.shape.kv_width() + block.shape.KvHead(h) * block.shape.d_head + element;
    return map.factor * (from[static_cast<size_t>(index)] / unit + map.beside);
  });
}

std::vector<Complex> SkewDiagonal(const LinearMap& map, const BlockLayout& l,
                                  const BlockShape& shape, int element) {
  std::vector<Complex> diagonal(static_cast<size_t>(map.period));
  std::fill_n(diagonal.begin() + l.AttentionRow(element, 0), shape.n_heads, map.factor);
  return diagonal;
}

std::vector<Complex> SwapDiagonal(const LinearMap& map, int apart) {
  const int base = (map.terms + 1) / 2;
  std::vector<Complex> diagonal(static_cast<size_t>(map.period));
  for (int s = 0; s < map.period; ++s)
    if (s / map.low % base - s / map.high % base == apart) diagonal[static_cast<size_t>(s)] = 1;
  return diagonal;
}

LinearMap Structure(MatrixKind kind, int first, int terms, int stride, int period) {
  LinearMap map{terms, stride, kind};
  map.of_blocks = true;
  map.first = first;
  map.period = period;
  return map;
}

LinearMap PrefixMap(const BlockLayout& l, const BlockUnits& units, MatrixKind kind, int layer,
                    int prefix, double factor) {
  const bool values = kind == MatrixKind::kPrefixValues;
  const int last = l.blocks() + prefix - 1;  // of the rows that the tokens take
  const int first = values ? l.blocks() - l.d_head + 1 : -last;
  LinearMap map = Structure(kind, first, l.d_head + prefix - 1, l.heads, l.block());
  map.layer = layer;
  map.units = units;
  map.factor = factor;
  return map;
}

// Places among the free ones for shared heads, head k of which `readers` queries from k readers on
// read: as many as can be at one distance from where they are read, then the others.
std::vector<int> TakePlaces(std::vector<bool>& free, int shared, int readers) {
  const int all = static_cast<int>(free.size());
  std::vector<int> places(static_cast<size_t>(shared), -1);
  const auto fitting = [&](int apart) {
    std::vector<int> heads;
    for (int k = 0; k < shared; ++k) {
      const int at = k * readers + apart;
      if (places[static_cast<size_t>(k)] < 0 && at >= 0 && at < all &&
          free[static_cast<size_t>(at)])
        heads.push_back(k);
    }
    return heads;
  };
  for (int left = shared; left > 0;) {
    int best = 0;
    for (int apart = -all; apart < all; ++apart)
      if (fitting(apart).size() > fitting(best).size()) best = apart;
    for (const int k : fitting(best)) {
      places[static_cast<size_t>(k)] = k * readers + best;
      free[static_cast<size_t>(k * readers + best)] = false;
      --left;
    }
  }
  return places;
}

}  // namespace

std::optional<JoinedHeads> JoinHeads(const BlockLayout& l, const BlockShape& shape) {
  if (shape.n_kv_heads == shape.n_heads) return {};
  JoinedHeads joined{shape.n_heads + 2 * shape.n_kv_heads <= l.heads, {}, {}};
  std::vector<bool> free(static_cast<size_t>(l.heads), true);
  if (joined.with_queries) std::fill_n(free.begin(), shape.n_heads, false);
  const int readers = shape.n_heads / shape.n_kv_heads;
  joined.keys = TakePlaces(free, shape.n_kv_heads, readers);
  joined.values = TakePlaces(free, shape.n_kv_heads, readers);
  return joined;
}

LinearMap BlockMap(const BlockLayout& l, const BlockShape& shape, const BlockUnits& units,
                   MatrixKind kind, int layer, int block, double factor) {
  LinearMap map{1, 1, kind, layer};
  map.units = units;
  map.block = block;
  map.factor = factor;
  int rows = 0, columns = 0;
  for (const Part& part : PartsOf(map, l, shape, nullptr)) {
    rows = std::max(rows, RowsUsed(l, part.to));
    columns = RowsUsed(l, part.from);
  }
  map.of_blocks = true;
  map.first = 1 - rows;
  map.terms = rows + columns - 1;
  map.period = l.block();
  map.position = 0;  // read once a prompt: not worth keeping
  map.baby_steps = 64;
  return map;
}

namespace {

const Matrix& MatrixOf(const model::EncoderHead& head, MatrixKind kind) {
  return kind == MatrixKind::kPooler ? head.pooler : head.classifier;
}

}  // namespace

LinearMap HeadMap(const BlockLayout& l, const model::EncoderHead& head, MatrixKind kind, int layer,
                  double factor) {
  const Matrix& matrix = MatrixOf(head, kind);
  LinearMap map = Structure(kind, 1 - matrix.rows, matrix.rows + matrix.cols - 1, 1, l.block());
  map.layer = layer;
  map.factor = factor;
  map.position = 0;  // read once a text
  map.baby_steps = 64;
  return map;
}

std::vector<Complex> HeadDiagonal(const LinearMap& map, const model::EncoderHead& head,
                                  const BlockLayout& l, int term) {
  const Matrix& matrix = MatrixOf(head, map.kind);
  std::vector<Complex> diagonal(static_cast<size_t>(l.block()));
  for (int r = 0; r < matrix.rows; ++r)
    if (const int c = r + map.first + term; c >= 0 && c < matrix.cols)
      diagonal[static_cast<size_t>(r)] = map.factor * matrix.at(r, c);
  return diagonal;
}

LinearMap BlockSkewMap(const BlockLayout& l, double factor) {
  LinearMap map =
      Structure(MatrixKind::kBlockSkew, 0, l.distances(), -l.block(), l.distances() * l.heads);
  map.factor = factor;
  return map;
}

LinearMap DigitSwapMap(int base, int low, int high) {
  LinearMap map =
      Structure(MatrixKind::kDigitSwap, 1 - base, 2 * base - 1, high - low, high * base);
  map.low = low;
  map.high = high;
  return map;
}

Transposition TokensToRows(const BlockLayout& l) {
  const int of_token = Log2(l.blocks()), of_row = Log2(l.block());
  const int bits = std::gcd(of_token, of_row), digits = (of_token + of_row) / bits;
  Transposition result{1 << bits, {}};
  // which[i]: the digit of (t, row) that stands at place i, from the least on.
  std::vector<int> which(static_cast<size_t>(digits));
  std::iota(which.begin(), which.end(), 0);
  // From the top: exchanges of low digits have short periods.
  for (int place = digits; place-- > 0;) {
    const int wanted = (place + of_row / bits) % digits;
    const auto at = std::ranges::find(which, wanted) - which.begin();
    if (at == place) continue;
    std::swap(which[static_cast<size_t>(at)], which[static_cast<size_t>(place)]);
    result.swaps.emplace_back(1 << (static_cast<int>(at) * bits), 1 << (place * bits));
  }
  return result;
}

LinearMap TokenGatherMap(const BlockLayout& l, int first, int last, double factor) {
  LinearMap map = Structure(MatrixKind::kTokenGather, first, last - first, l.block() - 1, l.slots);
  map.factor = factor;
  return map;
}

// Queries behind the last token are its copies.
bool IsSeen(const BlockLayout& l, const KeysSeen& seen, int tokens, int t, int x) {
  if (x < 0 || x >= l.distances()) return false;
  const int there = ((t - seen.first - x) % l.blocks() + l.blocks()) % l.blocks();
  const int key = seen.key_half * l.blocks() + there, query = seen.query_half * l.blocks() + t;
  if (key >= tokens || (seen.causal && key > query)) return false;
  return TextOf(seen, key) == TextOf(seen, std::min(query, tokens - 1));
}

LinearMap ScoreBand(const BlockLayout& l) {
  LinearMap map = Structure(MatrixKind::kScoreBand, 1 - l.distances(), l.d_head + l.distances() - 1,
                            l.heads, l.block());
  map.other = l.block() + l.heads;
  return map;
}

LinearMap ValueBand(const BlockLayout& l, KeysSeen seen, int tokens, double factor) {
  const bool whole = seen.causal ? seen.key_half < seen.query_half : seen.texts.empty();
  const bool all = whole && tokens >= (seen.key_half + 1) * l.blocks();
  LinearMap map = Structure(MatrixKind::kValueBand, 1 - l.distances(), l.d_head + l.distances() - 1,
                            l.block(), all ? l.block() : l.slots);
  map.other = -l.heads;
  map.seen = std::move(seen);
  map.tokens = tokens;
  map.factor = factor;
  return map;
}

LinearMap PrefixKeysMap(const BlockLayout& l, const BlockUnits& units, int layer, int prefix,
                        double factor) {
  return PrefixMap(l, units, MatrixKind::kPrefixKeys, layer, prefix, factor);
}

LinearMap PrefixValuesMap(const BlockLayout& l, const BlockUnits& units, int layer, int prefix,
                          double factor, Complex beside) {
  LinearMap map = PrefixMap(l, units, MatrixKind::kPrefixValues, layer, prefix, factor);
  map.beside = beside;
  return map;
}

std::vector<Complex> BlockDiagonal(const LinearMap& map, const model::Block& block,
                                   const BlockLayout& l, const BlockWeights* weights, int term) {
  const int at = map.first + term;
  const BlockShape& shape = block.shape;
  switch (map.kind) {
    case MatrixKind::kBlockSkew:
      return SkewDiagonal(map, l, shape, term);
    case MatrixKind::kDigitSwap:
      return SwapDiagonal(map, at);
    case MatrixKind::kTokenGather: {
      std::vector<Complex> diagonal(static_cast<size_t>(l.slots));
      diagonal[static_cast<size_t>(at)] = map.factor;
      return diagonal;
    }
    case MatrixKind::kScoreBand:
      return OfRows(l, shape, l.block(), [&](int, int x, int) {
        return Complex(x < l.distances() && x + at >= 0 && x + at < l.d_head ? 1 : 0);
      });
    case MatrixKind::kValueBand:
      return OfRows(l, shape, map.period, [&](int t, int e, int) {
        return Complex(IsSeen(l, map.seen, map.tokens, t, e - at) ? map.factor : 0);
      });
    case MatrixKind::kPrefixKeys:
    case MatrixKind::kPrefixValues:
      return PrefixDiagonal(map, block, l, at);
    default:
      break;
  }
  PV_CHECK(weights != nullptr, "a matrix without weights");
  return WeightDiagonal(map, shape, l, *weights, at);
}

}  // namespace polyveil::compile
