#include "compile/token_attention.h"

#include <algorithm>
#include <map>

#include "compile/attention_forms.h"
#include "compile/token_matrices.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

class TokenAttention {
 public:
  TokenAttention(BlockContext& c, NodeId root, const BlockUnits& units, const Biases& biases)
      : c_(c), b_(c.b), root_(root), units_(units), biases_(biases), half_(c.l.keys()) {}

  NodeId Run(NodeId x) {
    LowerQkv(x);
    c_.Enter(Component::kScores, "attention");
    const std::vector<NodeId> keys = Skewed("keys", key_, 1);
    const double halved = divides() ? 0.5 : 1;  // numerator and divisor: of their conjugates' sums
    // In the first halves too: what moves right must not reach another row.
    const std::vector<NodeId> values =
        Skewed("values", b_.Rotate("values beside keys", ValuesAndOnes(), half_), halved);
    std::vector<NodeId> weighted;
    for (int group = 0; group < c_.place.groups; ++group)
      weighted.push_back(
          WeightedValues(LowerSummands(c_, {Scores(keys, group)}).front(), values, group));
    c_.Enter(Component::kValues, "attention");
    NodeId sum = weighted.back();
    for (size_t group = weighted.size() - 1; group-- > 0;)
      sum = b_.Add("value sums of the groups", weighted[group],
                   b_.Rotate("value sums in place", sum, -c_.l.d_head));
    return sum;
  }

 private:
  bool divides() const { return c_.forms.attention.divides(); }
  // Tokens that a query at t sees: those behind the prompt's last are its copies.
  int Seen(int t) const { return std::min(t + 1, c_.place.tokens); }

  // value(e, h, t) at slots t of a half, t < tokens. elements: of one or all of a head.
  template <typename F>
  Vector InHalf(int half, int tokens, int elements, F&& value) const {
    Vector slots(static_cast<size_t>(c_.l.element_stride()) * static_cast<size_t>(elements));
    for (int e = 0; e < elements; ++e)
      for (int h = 0; h < c_.shape.n_heads; ++h)
        for (int t = 0; t < tokens; ++t)
          slots[static_cast<size_t>(c_.l.AttentionRow(e, h) * c_.l.attention.size + half * half_ +
                                    t)] = value(e, h, t);
    return slots;
  }

  // Which rows a matrix writes, and where: shared heads, turned by the token's position or not.
  struct Rows {
    int half, tokens;
    const std::vector<double>& bias;
    bool shared, turned;
  };

  // The token's turn of an element; none where nothing turns.
  model::Turn TurnAt(const Rows& rows, int e, int t) const {
    return rows.turned ? model::TurnOf(c_.shape, Seen(t) - 1, e) : model::Turn{1, 0, e};
  }

  // The sums by mask(h, t), turned, real: every element's own and its partner's beside it.
  template <typename F>
  NodeId Turned(const std::string& name, NodeId sums, const Rows& rows, F&& mask) {
    const bool turns = rows.turned && !c_.shape.rotary.empty();
    NodeId sum = b_.MulPlain(
        name + " masked", sums,
        InHalf(rows.half, rows.tokens, turns ? c_.l.d_head : 1,
               [&](int e, int h, int t) { return mask(h, t) * TurnAt(rows, e, t).own; }));
    std::map<int, Vector> others;  // by elements that the partner lies further on, cyclically
    for (int e = 0; turns && e < c_.l.d_head; ++e) {
      const int apart = (TurnAt(rows, e, 0).partner - e + c_.l.d_head) % c_.l.d_head;
      if (apart > 0) others[apart];
    }
    for (auto& other : others)
      other.second = InHalf(rows.half, rows.tokens, c_.l.d_head, [&](int e, int h, int t) {
        const model::Turn turn = TurnAt(rows, e, t);
        const bool here = (turn.partner - e + c_.l.d_head) % c_.l.d_head == other.first;
        return here ? mask(h, t) * turn.other : Complex();
      });
    for (auto& [apart, factors] : others)
      sum = b_.Add(name + " turned", sum,
                   b_.MulPlain(name + " partners masked",
                               b_.Rotate(name + " partners", sums, apart * c_.l.element_stride()),
                               std::move(factors)));
    return sum;
  }

  // The sums by mask(h, t), turned, times the root, with the bias times factor(h, t).
  template <typename F, typename G>
  NodeId Scaled(const std::string& name, NodeId sums, const Rows& rows, F&& mask, G&& factor) {
    Vector biases;
    if (c_.shape.biases)
      biases = InHalf(rows.half, rows.tokens, c_.l.d_head, [&](int e, int h, int t) {
        const auto first =
            static_cast<size_t>((rows.shared ? c_.shape.KvHead(h) : h) * c_.l.d_head);
        const model::Turn turn = TurnAt(rows, e, t);
        return factor(h, t) * (turn.own * rows.bias[first + static_cast<size_t>(e)] +
                               turn.other * rows.bias[first + static_cast<size_t>(turn.partner)]);
      });
    return ByRoot(c_, name, Turned(name, sums, rows, mask), root_, std::move(biases));
  }

  void LowerQkv(NodeId x) {
    c_.Enter(Component::kQkv, "attention");
    NodeId qkv =
        b_.Linear("qkv", x, TokenMap(c_.l, units_, MatrixKind::kQkv, c_.place.index), false);
    NodeId conjugate = b_.Conjugate("qkv conjugate", qkv);
    NodeId kv = b_.Add("key and value sums", qkv, conjugate);
    NodeId q = b_.Sub("query sums", qkv, conjugate);
    const auto of_half = [](int, int) { return Complex(0.5); };
    key_ = Scaled("keys", kv, Rows{0, c_.place.tokens, biases_.k, true, true}, of_half,
                  [&](int, int) { return 1 / units_.key; });
    value_ = Scaled("values", kv, Rows{1, c_.place.tokens, biases_.v, true, false}, of_half,
                    [&](int, int) { return 1 / units_.value; });
    query_ = Scaled(
        "queries", q, Rows{0, c_.most(), biases_.q, false, true},
        [&](int h, int t) { return Complex(0, -0.5 * UnitAt(h, t)); },
        [&](int h, int t) { return UnitAt(h, t) * units_.key; });
    NodeId cache = b_.Add("cache", key_, value_);
    b_.SetLeastLevel(cache, c_.place.cache_levels.front());
    b_.graph().updates.push_back({c_.place.index, cache});
  }

  // The scores' unit of the query at t: the mean form counts the keys that it sees.
  double UnitAt(int head, int t) const {
    BlockPlace place = c_.place;
    place.position = Seen(t) - 1;
    return ScoreUnit(BlockContext{b_, place, c_.l, c_.shape, c_.forms}, head);
  }

  NodeId ValuesAndOnes() {
    if (!divides()) return value_;
    const Complex beside(0, 1 / c_.forms.divisor_inverse.b);
    Vector ones(static_cast<size_t>(c_.l.attention.size));
    std::fill_n(ones.begin() + half_, c_.place.tokens, beside);
    return b_.AddPlain("values and ones", value_, std::move(ones));
  }

  // `times` rotations by `by`: one key for all of them.
  NodeId Moved(const std::string& name, NodeId x, int by, int times) {
    for (int i = 0; i < times; ++i) x = b_.Rotate(name, x, by);
    return x;
  }

  // M_d of x times `factor`, by d: rows from element d on are those of M_0 moved d tokens to the
  // left, rows before it the same of M_0 moved d_head tokens to the right.
  std::vector<NodeId> Skewed(const std::string& what, NodeId x, double factor) {
    const int elements = c_.l.d_head;
    NodeId above = b_.Linear(what + " 0", x, SkewMap(c_.l, factor), true);
    std::vector<NodeId> moved = {above};
    if (elements == 1) return moved;
    NodeId below = b_.Rotate(what + " a head further", above, -elements);
    for (int d = 1; d < elements; ++d) {
      above = b_.Rotate(fmt::format("{} {} left", what, d), above, 1);
      below = b_.Rotate(fmt::format("{} {} left, a head further", what, d), below, 1);
      moved.push_back(b_.Add(fmt::format("{} {}", what, d),
                             b_.MulPlain("rows above", above, Elements(d, elements)),
                             b_.MulPlain("rows below", below, Elements(0, d))));
    }
    return moved;
  }

  // 1 in the first halves of the rows of elements first .. last - 1: the last row's second half has
  // what moves left out of the first row.
  Vector Elements(int first, int last) const {
    return InHalf(0, half_, c_.l.d_head,
                  [&](int e, int, int) { return Complex(e >= first && e < last ? 1 : 0); });
  }

  // q . k + c at a group's offsets, in the scores' unit; zero where a query sees no key.
  NodeId Scores(const std::vector<NodeId>& keys, int group) {
    c_.Enter(Component::kScores, "attention");
    const int elements = c_.l.d_head, tokens = group * elements;
    if (group > 0) query_ = b_.Rotate("queries of the next group", query_, elements);
    NodeId sum = -1;
    for (int d = elements - 1; d >= 0; --d) {
      NodeId part = b_.Mul("score products", query_, keys[static_cast<size_t>(d)]);
      sum = sum < 0 ? part
                    : b_.Add("score sums", part,
                             b_.Rotate("score sums in place", sum, c_.l.element_stride()));
    }
    sum = Moved("score sums in place", sum, -elements, group);
    NodeId scores =
        b_.AddPlain("scores", sum, InHalf(0, c_.most(), elements, [&](int x, int h, int t) {
                      const int key = t - tokens - x;
                      return key >= 0 && key < c_.place.tokens
                                 ? Complex(c_.forms.shift[static_cast<size_t>(h)] * UnitAt(h, t))
                                 : Complex();
                    }));
    b_.SetMark(scores, Mark::kScores);
    return scores;
  }

  NodeId WeightedValues(NodeId summands, const std::vector<NodeId>& values, int group) {
    c_.Enter(Component::kValues, "attention");
    const int elements = c_.l.d_head;
    NodeId weights = Moved("powers in place", summands, elements, group);
    NodeId sum = -1;
    for (int d = 0; d < elements; ++d) {
      if (d > 0) weights = b_.Rotate("powers in place", weights, -c_.l.element_stride());
      NodeId product = b_.Mul("value products", weights, values[static_cast<size_t>(d)]);
      sum = sum < 0 ? product : b_.Add("value sums", sum, product);
    }
    return sum;
  }

  BlockContext& c_;
  GraphBuilder& b_;
  const NodeId root_;
  const BlockUnits& units_;
  const Biases& biases_;
  const int half_;
  NodeId key_ = -1, value_ = -1, query_ = -1;
};

}  // namespace

NodeId LowerTokenValues(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units,
                        const Biases& biases) {
  return TokenAttention(c, root, units, biases).Run(x);
}

}  // namespace polyveil::compile
