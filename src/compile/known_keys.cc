#include "compile/known_keys.h"

namespace polyveil::compile {
namespace {

// A matrix of its own for every text, so that no store of weights keeps it: `position` says so.
LinearMap KnownMap(const BlockContext& c, const BlockUnits& units, MatrixKind kind) {
  LinearMap map{
      c.l.known_groups, c.l.element_stride(), kind, c.place.index, c.place.position, false, units};
  map.in_matrices = c.place.in_matrices;
  map.known = c.place.known;
  return map;
}

}  // namespace

LinearMap KnownKeysMap(const BlockContext& c, const BlockUnits& units) {
  return KnownMap(c, units, MatrixKind::kKnownKeys);
}

LinearMap KnownValuesMap(const BlockContext& c, const BlockUnits& units, Complex beside) {
  LinearMap map = KnownMap(c, units, MatrixKind::kKnownValues);
  map.beside = beside;
  return map;
}

std::vector<Complex> KnownDiagonal(const LinearMap& map, const model::BlockShape& shape,
                                   const BlockLayout& l, int prefix, int term) {
  std::vector<Complex> diagonal(static_cast<size_t>(l.slots));
  if (!map.known) return diagonal;
  const bool values = map.kind == MatrixKind::kKnownValues;
  const std::vector<double>& from = values ? map.known->values : map.known->keys;
  const double unit = values ? map.units.value : map.units.key;
  const int first = values ? l.keys() : 0;
  for (int at = 0; at < l.d_head; ++at) {
    const int group = (values ? at + term : at) % l.known_groups;
    const int element = values ? at : (at + term) % l.d_head;
    for (int k = 0; k < l.keys() && group * l.keys() + k < map.in_matrices; ++k) {
      const size_t token = static_cast<size_t>(prefix + group * l.keys() + k);
      for (int h = 0; h < shape.n_heads; ++h) {
        const size_t entry = token * static_cast<size_t>(shape.kv_width()) +
                             static_cast<size_t>(shape.KvHead(h) * shape.d_head + element);
        const int row = l.AttentionRow(at, h) * l.attention.size;
        diagonal[static_cast<size_t>(row + first + k)] = from[entry] / unit + map.beside;
      }
    }
  }
  return diagonal;
}

}  // namespace polyveil::compile
