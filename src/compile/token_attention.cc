#include "compile/token_attention.h"

#include <algorithm>
#include <map>
#include <utility>

#include "compile/attention_forms.h"
#include "compile/token_matrices.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

class TokenAttention {
 public:
  TokenAttention(BlockContext& c, NodeId root, const BlockUnits& units, const Biases& biases)
      : c_(c), b_(c.b), root_(root), units_(units), biases_(biases), half_(c.l.keys()) {}

  TokenValues Run(NodeId x) {
    LowerQkv(x);
    c_.Enter(Component::kScores, "attention");
    const std::vector<NodeId> keys = Skewed("keys", key_, 1, c_.l.element_stride());
    // Those of two groups, and numerator and divisor, are taken apart by their conjugates' sums.
    const double halved = paired() || divides() ? 0.5 : 1;
    // In the first halves too: what moves right must not reach another row.
    const std::vector<NodeId> values =
        Skewed("values", b_.Rotate("values beside keys", ValuesAndOnes(), half_), halved, 0);
    const std::vector<NodeId> summands = LowerSummands(c_, Scores(keys));
    c_.Enter(Component::kValues, "attention");
    const NodeId sum = WeightedValues(summands, values);
    return {sum, divides() && paired() ? Divisor(summands) : -1};
  }

 private:
  bool divides() const { return c_.forms.attention.divides(); }
  bool paired() const { return c_.place.room.groups > 1; }
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
        [&](int h, int t) { return Complex(0, -0.5 * QueryUnitAt(h, t)); },
        [&](int h, int t) { return QueryUnitAt(h, t) * units_.key; });
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

  double QueryUnitAt(int head, int t) const { return UnitAt(head, t) * (paired() ? 0.5 : 1); }

  NodeId ValuesAndOnes() {
    if (!divides() || paired()) return value_;
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

  // M_d of x times `factor`, rotated by d times `further`, by d: rows from element d on are those
  // of M_0 moved d tokens to the left, rows before it the same of M_0 moved d_head tokens to the
  // right. Second halves begin with what moves there out of the first ones, in fewer than d_head
  // slots: queries and powers of all groups are zero in those.
  std::vector<NodeId> Skewed(const std::string& what, NodeId x, double factor, int further) {
    const int elements = c_.l.d_head;
    NodeId above = b_.Linear(what + " 0", x, SkewMap(c_.l, factor), true);
    std::vector<NodeId> moved = {above};
    if (elements == 1) return moved;
    NodeId below = b_.Rotate(what + " a head further", above, -elements);
    for (int d = 1; d < elements; ++d) {
      above = b_.Rotate(fmt::format("{} {} left", what, d), above, 1 + further);
      below = b_.Rotate(fmt::format("{} {} left, a head further", what, d), below, 1 + further);
      Vector rows = further == 0 ? Elements(d, elements, d) : Elements(0, elements - d, d);
      NodeId apart = b_.Sub("rows apart", above, below);
      moved.push_back(b_.Add(fmt::format("{} {}", what, d),
                             b_.MulPlain("rows above", apart, std::move(rows)), below));
    }
    return moved;
  }

  // 1 in the rows of elements first .. last - 1, but for the last d slots: the next row's tokens
  // move there.
  Vector Elements(int first, int last, int d) const {
    return InHalf(0, std::max(half_, 2 * half_ - d), c_.l.d_head,
                  [&](int e, int, int) { return Complex(e >= first && e < last ? 1 : 0); });
  }

  // x and i y as one vector; and the two of it, doubled.
  NodeId Pair(const char* name, NodeId x, NodeId y) {
    NodeId pair = b_.Add(name, x, b_.MulByI(name, y));
    b_.SetReal(pair, false);
    return pair;
  }
  std::pair<NodeId, NodeId> Apart(const std::string& name, NodeId pair) {
    NodeId conjugate = b_.Conjugate(name + " conjugate", pair);
    std::pair<NodeId, NodeId> parts = {
        b_.Add(name + " of the group", pair, conjugate),
        b_.MulByI(name + " of the next group", b_.Sub(name + " times -i", conjugate, pair))};
    for (const NodeId part : {parts.first, parts.second}) b_.SetReal(part, true);
    return parts;
  }

  // q . k + c at every group's offsets, in the scores' unit; zero where a query sees no key.
  std::vector<NodeId> Scores(const std::vector<NodeId>& keys) {
    c_.Enter(Component::kScores, "attention");
    const int elements = c_.l.d_head;
    std::vector<NodeId> scores;
    NodeId query = query_;
    while (static_cast<int>(scores.size()) < c_.place.room.groups) {
      const int group = static_cast<int>(scores.size());
      if (group > 0) query = b_.Rotate("queries of the next group", query, elements);
      NodeId queries = query;
      if (paired()) {
        query = b_.Rotate("queries of the next group", query, elements);
        queries = Pair("queries of two groups", queries, query);
      }
      NodeId sum = Moved("score sums in place",
                         b_.MulSum("score products", queries, c_.l.element_stride(), keys),
                         -elements, group);
      if (!paired()) {
        scores.push_back(Shifted(sum, group));
        continue;
      }
      const auto [first, second] = Apart("scores", sum);
      scores.push_back(Shifted(first, group));
      scores.push_back(Shifted(b_.Rotate("score sums in place", second, -elements), group + 1));
    }
    b_.SetMark(scores.front(), Mark::kScores);
    return scores;
  }

  NodeId Shifted(NodeId sum, int group) {
    const int elements = c_.l.d_head, tokens = group * elements;
    return b_.AddPlain("scores", sum, InHalf(0, c_.most(), elements, [&](int x, int h, int t) {
                         const int key = t - tokens - x;
                         return key >= 0 && key < c_.place.tokens
                                    ? Complex(c_.forms.shift[static_cast<size_t>(h)] * UnitAt(h, t))
                                    : Complex();
                       }));
  }

  // Groups from the last to the first, each behind the one before.
  NodeId WeightedValues(const std::vector<NodeId>& summands, const std::vector<NodeId>& values) {
    const int elements = c_.l.d_head, together = paired() ? 2 : 1;
    NodeId sum = -1;
    for (int group = c_.place.room.groups - together; group >= 0; group -= together) {
      NodeId weights = summands[static_cast<size_t>(group)];
      if (paired())
        weights =
            Pair("powers of two groups", weights,
                 b_.Rotate("powers in place", summands[static_cast<size_t>(group) + 1], elements));
      NodeId part = b_.MulSum("value products", Moved("powers in place", weights, elements, group),
                              -c_.l.element_stride(), values);
      sum = sum < 0 ? part
                    : b_.Add("value sums of the groups", part,
                             Moved("value sums in place", sum, -elements, together));
    }
    if (!paired()) return sum;
    const auto [first, second] = Apart("value sums", sum);
    return b_.Add("value sums of the groups", first,
                  b_.Rotate("value sums in place", second, -elements));
  }

  // The sum of the summands / b: over the elements of a head, cyclically.
  NodeId Divisor(const std::vector<NodeId>& summands) {
    c_.Enter(Component::kDivision, "attention");
    NodeId sum = summands.front();
    for (size_t group = 1; group < summands.size(); ++group)
      sum = b_.Add("summands of the groups", sum, summands[group]);
    sum = b_.RotateSum("divisor sums", sum,
                       DoublingRotations(c_.l.element_stride(), Log2(c_.l.d_head)));
    return b_.ChangeUnit("divisor", sum, 1 / c_.forms.divisor_inverse.b);
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

TokenValues LowerTokenValues(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units,
                             const Biases& biases) {
  return TokenAttention(c, root, units, biases).Run(x);
}

}  // namespace polyveil::compile
