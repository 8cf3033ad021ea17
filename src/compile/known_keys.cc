#include "compile/known_keys.h"

namespace polyveil::compile {
namespace {

// A diagonal with value(group, key, element, head) at slot first + key of row (at, head): `entry`
// names the group and the element of a key or value for each of the matrix' rows `at`.
struct KnownMap {
  BlockLayout l;
  model::BlockShape shape;
  KnownKeyValues known;
  int tokens, prefix;

  template <typename Entry, typename Value>
  std::vector<Complex> Diagonal(int first, Entry&& entry, Value&& value) const {
    std::vector<Complex> diagonal(static_cast<size_t>(l.slots));
    if (!known) return diagonal;
    for (int at = 0; at < l.d_head; ++at) {
      const auto [group, element] = entry(at);
      for (int k = 0; k < l.keys() && group * l.keys() + k < tokens; ++k)
        for (int h = 0; h < shape.n_heads; ++h)
          diagonal[static_cast<size_t>(l.AttentionRow(at, h) * l.attention.size + first + k)] =
              value(Index(group * l.keys() + k, element, h));
    }
    return diagonal;
  }

  size_t Index(int token, int element, int head) const {
    return static_cast<size_t>(prefix + token) * static_cast<size_t>(shape.kv_width()) +
           static_cast<size_t>(shape.KvHead(head) * shape.d_head + element);
  }
};

KnownMap MapOf(const BlockContext& c) {
  return {c.l, c.shape, c.place.known, c.place.in_matrices, c.place.block.prefix()};
}

}  // namespace

LinearMap KnownKeysMap(const BlockContext& c, const BlockUnits& units) {
  const KnownMap map = MapOf(c);
  const double unit = units.key;
  return {c.l.known_groups, c.l.element_stride(), [=](int term) {
            const int groups = map.l.known_groups, elements = map.l.d_head;
            const auto entry = [=](int at) {
              return std::pair(at % groups, (at + term) % elements);
            };
            return map.Diagonal(0, entry,
                                [&](size_t at) { return Complex(map.known->keys[at] / unit); });
          }};
}

LinearMap KnownValuesMap(const BlockContext& c, const BlockUnits& units, Complex beside) {
  const KnownMap map = MapOf(c);
  const double unit = units.value;
  return {c.l.known_groups, c.l.element_stride(), [=](int term) {
            const int groups = map.l.known_groups;
            const auto entry = [=](int at) { return std::pair((at + term) % groups, at); };
            return map.Diagonal(map.l.keys(), entry,
                                [&](size_t at) { return map.known->values[at] / unit + beside; });
          }};
}

}  // namespace polyveil::compile
