#include "compile/approximant_lowering.h"
#include "compile/attention_forms.h"
#include "compile/block_context.h"
#include "compile/known_caches.h"
#include "compile/known_keys.h"
#include "compile/real_map.h"
#include "compile/token_attention.h"
#include "compile/token_matrices.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

// Whether the divisor is the imaginary part of the sum of values.
bool DividesBeside(const BlockContext& c) {
  return c.forms.attention.divides() && !c.l.divisor_apart;
}

// Whether two chunks of the cache meet a query as one complex vector: one product and one sum for
// both, and their values' sum is the real part of one product. Sums are halves then, as are
// queries.
bool PairsChunks(const BlockContext& c) { return c.l.chunks > 1 && !DividesBeside(c); }

double QueryUnit(const BlockContext& c, int head) {
  return ScoreUnit(c, head) * (PairsChunks(c) ? 0.5 : 1);
}

// Queries, keys and values of this token, and the caches that they meet: those of known tokens
// (KnownCaches) are in the caches before the first step.
class QkvLowering {
 public:
  QkvLowering(BlockContext& c, NodeId root, const BlockUnits& units, const Biases& biases)
      : c_(c), b_(c.b), root_(root), units_(units), biases_(biases), half_(c.l.keys()) {}

  void Run(NodeId x) {
    c_.Enter(Component::kQkv, "attention");
    NodeId products = b_.Linear("qkv products", x,
                                QkvMap(c_.l, units_, c_.place.index, c_.place.position), false);
    NodeId qkv =
        b_.RotateSum("qkv sums", products, DoublingRotations(1, Log2(c_.l.attention.window)));
    NodeId conjugate = b_.Conjugate("qkv conjugate", qkv);
    kv_sums_ = b_.Add("kv sums", qkv, conjugate);
    q_sums_ = b_.Sub("query sums", qkv, conjugate);
    const bool normalises = c_.forms.attention.qk_norm.has_value();
    UpdateCaches(normalises ? NormalisedKeyValue() : KeyValue());
    // From the last slot of its half to all of it: the same query for every chunk.
    query_ = b_.RotateSum("query", normalises ? NormalisedQuery() : Query(),
                          DoublingRotations(1, Log2(half_)));
  }

  NodeId query() const { return query_; }  // at every key's slot
  // By chunk, this token's key and value included.
  const std::vector<NodeId>& caches() const { return caches_; }

 private:
  // Part of the sums by mask, times the root, with `bias`.
  NodeId Scaled(const std::string& name, NodeId sums, Vector mask, Vector bias) {
    return MaskedByRoot(c_, name, sums, std::move(mask), root_, std::move(bias));
  }

  // factor(head) times a bias by element and head at `slot`; nothing without biases.
  template <typename F>
  void AddBiasAt(int slot, const std::vector<double>& bias, bool shared, F&& factor, Vector& out) {
    if (!c_.shape.biases) return;
    const auto at = [&](int e, int h) {
      const int head = shared ? c_.shape.KvHead(h) : h;
      return bias[static_cast<size_t>(head) * c_.shape.d_head + e] * factor(h);
    };
    FillAttentionSlot(c_.l, c_.shape.n_heads, slot, at, out);
  }

  NodeId KeyValue() {
    const int slot = c_.slot();
    Vector mask = HeadMask(c_, slot, slot, [](int) { return 0.5; });
    const Vector values = HeadMask(c_, slot + half_, slot + half_, [](int) { return 0.5; });
    for (size_t s = 0; s < mask.size(); ++s) mask[s] += values[s];
    Vector bias;
    AddBiasAt(
        slot, biases_.k, true, [&](int) { return 1 / units_.key; }, bias);
    AddBiasAt(
        slot + half_, biases_.v, true, [&](int) { return 1 / units_.value; }, bias);
    return Scaled("key and value", kv_sums_, std::move(mask), std::move(bias));
  }

  NodeId Query() {
    return QueryTimes("query", [&](int h) { return QueryUnit(c_, h); });
  }

  template <typename F>
  NodeId QueryTimes(const std::string& name, F&& factor) {
    Vector bias;
    AddBiasAt(
        half_ - 1, biases_.q, false, [&](int h) { return factor(h) * units_.key; }, bias);
    return Scaled(
        name, q_sums_,
        HeadMask(c_, half_ - 1, half_ - 1, [&](int h) { return Complex(0, -0.5 * factor(h)); }),
        std::move(bias));
  }

  NodeId KeyTimes(const std::string& name, double factor) {
    Vector bias;
    AddBiasAt(
        c_.slot(), biases_.k, true, [&](int) { return factor / units_.key; }, bias);
    return Scaled(name, kv_sums_,
                  HeadMask(c_, c_.slot(), c_.slot(), [&](int) { return 0.5 * factor; }),
                  std::move(bias));
  }

  // QK-norm divides a unit out again: the raw vectors' one is undone beside the norm, where gain
  // and score unit enter too.
  NodeId NormalisedKeyValue() {
    const approx::Approximant& root = c_.forms.attention.qk_norm->key_root;
    const int slot = c_.slot() + half_;
    Vector bias;
    AddBiasAt(
        slot, biases_.v, true, [&](int) { return 1 / units_.value; }, bias);
    NodeId value = Scaled("value", kv_sums_, HeadMask(c_, slot, slot, [](int) { return 0.5; }),
                          std::move(bias));
    NodeId raw = KeyTimes("key in its unit", RootUnit(c_, root) * units_.key);
    NodeId key = LowerHeadNorm(c_, "key", raw, KeyTimes("key", 1), c_.slot(), root);
    return b_.Add("key and value", key, value);
  }

  NodeId NormalisedQuery() {
    const model::QkNorm& norm = *c_.forms.attention.qk_norm;
    const double unit = RootUnit(c_, norm.query_root) / units_.key;
    NodeId raw = QueryTimes("query in its unit", [&](int) { return unit; });
    NodeId scaled = QueryTimes("query with gain", [&](int h) {
      return norm.gain[static_cast<size_t>(h)] * QueryUnit(c_, h);
    });
    return LowerHeadNorm(c_, "query", raw, scaled, half_ - 1, norm.query_root);
  }

  void UpdateCaches(NodeId key_value) {
    for (int chunk = 0; chunk < c_.l.chunks; ++chunk) {
      const int state = c_.place.index * c_.l.chunks + chunk;
      NodeId cache = b_.State(c_.Named("cache before", chunk), state, Log2(c_.l.slots));
      b_.SetMostLevel(cache, c_.place.most_cache_level);
      if (chunk == c_.chunk()) cache = b_.Add(c_.Named("cache", chunk), cache, key_value);
      b_.graph().updates.push_back({state, cache});
      caches_.push_back(cache);
    }
  }

  BlockContext& c_;
  GraphBuilder& b_;
  const NodeId root_;
  const BlockUnits& units_;
  const Biases& biases_;
  const int half_;
  NodeId kv_sums_ = -1, q_sums_ = -1, query_ = -1;
  std::vector<NodeId> caches_;
};

// Chunk + i the next one, of as many as have a next one; nothing where chunks are not paired.
std::vector<NodeId> PairedCaches(BlockContext& c, const std::vector<NodeId>& caches) {
  std::vector<NodeId> pairs;
  for (size_t part = 0; PairsChunks(c) && part + 1 < caches.size(); part += 2) {
    const int at = static_cast<int>(part);
    pairs.push_back(c.b.Add(c.Named("caches paired", at), caches[part],
                            c.b.MulByI(c.Named("cache times i", at + 1), caches[part + 1])));
    c.b.SetReal(pairs.back(), false);
  }
  return pairs;
}

// q . k of every key of a part, or of a pair of them, in the query's unit.
NodeId LowerScoreSums(BlockContext& c, const QkvLowering& qkv, const BlockUnits& units, int part,
                      NodeId cache) {
  GraphBuilder& b = c.b;
  const std::string name = c.Named("score products", part);
  const int groups = c.IsKnown(part) ? c.l.known_groups : 1;
  NodeId products = c.IsKnown(part) ? b.Linear(name, qkv.query(), KnownKeysMap(c, units), true)
                                    : b.Mul(name, qkv.query(), cache);
  const int stride = c.l.element_stride() * groups;
  NodeId sums = b.RotateSum(c.Named("score sums", part), products,
                            DoublingRotations(stride, Log2(c.l.d_head / groups)));
  b.SetPeriod(sums, Log2(stride));
  return sums;
}

// The two parts' own, whole, of the sums of a pair.
void SplitPair(BlockContext& c, NodeId sums, int part, std::vector<NodeId>& out) {
  GraphBuilder& b = c.b;
  NodeId conjugate = b.Conjugate(c.Named("score sums conjugate", part), sums);
  out.push_back(b.Add(c.Named("score sums apart", part), sums, conjugate));
  out.push_back(b.MulByI(c.Named("score sums apart", part + 1),
                         b.Sub(c.Named("score sums times -i", part + 1), conjugate, sums)));
  for (const NodeId each : {out.end()[-2], out.end()[-1]}) b.SetReal(each, true);
}

// By part, in the scores' unit.
std::vector<NodeId> LowerAllScoreSums(BlockContext& c, const QkvLowering& qkv,
                                      const std::vector<NodeId>& pairs, const BlockUnits& units) {
  std::vector<NodeId> all;
  for (int part = 0; part < c.parts(); part = static_cast<int>(all.size())) {
    const auto at = static_cast<size_t>(part);
    if (at / 2 < pairs.size()) {
      SplitPair(c, LowerScoreSums(c, qkv, units, part, pairs[at / 2]), part, all);
      continue;
    }
    NodeId sums = LowerScoreSums(c, qkv, units, part, c.IsKnown(part) ? -1 : qkv.caches()[at]);
    all.push_back(pairs.empty() ? sums : c.b.Add(c.Named("score sums whole", part), sums, sums));
  }
  return all;
}

// q . k + c in the scores' unit at the keys up to this position, zero elsewhere, by part.
std::vector<NodeId> LowerScores(BlockContext& c, const QkvLowering& qkv,
                                const std::vector<NodeId>& pairs, const BlockUnits& units) {
  c.Enter(Component::kScores, "attention");
  GraphBuilder& b = c.b;
  const std::vector<NodeId> sums = LowerAllScoreSums(c, qkv, pairs, units);
  const auto shift = [&](int h) { return c.forms.shift[static_cast<size_t>(h)] * ScoreUnit(c, h); };
  std::vector<NodeId> scores;
  for (int part = 0; part < c.parts(); ++part)
    scores.push_back(b.AddPlain(c.Named("scores", part), sums[static_cast<size_t>(part)],
                                SeenMask(c, part, shift)));
  b.SetMark(scores.front(), Mark::kScores);
  return scores;
}

// A part's summands times its values; with a divisor beside them i / b at each value, so that one
// product and one sum give numerator + i y / b.
NodeId LowerValueProducts(BlockContext& c, NodeId aligned, const std::vector<NodeId>& caches,
                          const BlockUnits& units, int part) {
  GraphBuilder& b = c.b;
  const bool divides = DividesBeside(c);
  const std::string name = c.Named("value products", part);
  const Complex beside = divides ? Complex(0, 1 / c.forms.divisor_inverse.b) : Complex();
  if (c.IsKnown(part)) return b.Linear(name, aligned, KnownValuesMap(c, units, beside), !divides);
  NodeId values = caches[static_cast<size_t>(part)];
  if (divides) {
    Vector ones(static_cast<size_t>(c.l.attention.size));
    for (int k = 0; k < c.Seen(part); ++k) ones[static_cast<size_t>(c.l.keys() + k)] = beside;
    values = b.AddPlain(c.Named("values and ones", part), values, std::move(ones));
  }
  return b.Mul(name, aligned, values);
}

// The sum of all parts' summands times their values: of pairs its real part.
NodeId LowerAllValueProducts(BlockContext& c, const std::vector<NodeId>& summands,
                             const std::vector<NodeId>& caches, const std::vector<NodeId>& pairs,
                             const BlockUnits& units) {
  GraphBuilder& b = c.b;
  NodeId sum = -1;
  for (int part = 0; part < c.parts(); ++part) {
    const auto at = static_cast<size_t>(part);
    const bool paired = at / 2 < pairs.size();
    NodeId weights = summands[at];
    if (paired) {
      weights = b.Sub(c.Named("powers paired", part), weights,
                      b.MulByI(c.Named("powers times i", part + 1), summands[at + 1]));
      b.SetReal(weights, false);
      ++part;
    }
    NodeId aligned =
        b.Rotate(c.Named("powers beside values", static_cast<int>(at)), weights, -c.l.keys());
    NodeId products =
        paired ? b.Mul(c.Named("value products", static_cast<int>(at)), aligned, pairs[at / 2])
               : LowerValueProducts(c, aligned, caches, units, part);
    sum = sum < 0 ? products : b.Add("value products of the chunks", sum, products);
  }
  return sum;
}

// That sum at every slot of its row; with a divisor beside it i times the sum of the summands / b,
// both halved. Depth: 2.
NodeId LowerWeightedValues(BlockContext& c, const std::vector<NodeId>& summands,
                           const std::vector<NodeId>& caches, const std::vector<NodeId>& pairs,
                           const BlockUnits& units) {
  c.Enter(Component::kValues, "attention");
  GraphBuilder& b = c.b;
  const int half = c.l.keys();
  const bool divides = DividesBeside(c);
  NodeId sum = LowerAllValueProducts(c, summands, caches, pairs, units);
  NodeId sums = b.RotateSum("value sums", sum, DoublingRotations(1, Log2(half)));
  Vector mask(static_cast<size_t>(c.l.attention.size));
  mask[static_cast<size_t>(half)] = divides || !pairs.empty() ? 0.5 : 1;
  NodeId masked = b.MulPlain("value sums masked", sums, std::move(mask));
  std::vector<int> spread = DoublingRotations(-1, Log2(half));
  spread.push_back(half);
  NodeId values =
      b.RotateSum(divides ? "numerator and divisor" : "weighted values", masked, std::move(spread));
  return pairs.empty() ? values : WholeOfReal(b, "weighted values whole", values);
}

// The sum of the summands / b at every slot of its row, from the summands themselves: a level less
// than beside the values, and 2 log2(keys()) + 1 rotations more. Depth: 1.
NodeId LowerDivisor(BlockContext& c, const std::vector<NodeId>& summands) {
  c.Enter(Component::kDivision, "attention");
  GraphBuilder& b = c.b;
  const int half = c.l.keys();
  NodeId sum = -1;
  for (int part = 0; part < c.parts(); ++part) {
    NodeId each = summands[static_cast<size_t>(part)];
    if (c.IsKnown(part))
      each = b.RotateSum("summands of the groups", each,
                         DoublingRotations(c.l.element_stride(), Log2(c.l.known_groups)));
    sum = sum < 0 ? each : b.Add("summands of the chunks", sum, each);
  }
  NodeId sums = b.RotateSum("divisor sums", sum, DoublingRotations(1, Log2(half)));
  Vector mask(static_cast<size_t>(c.l.attention.size));
  mask[0] = 1 / c.forms.divisor_inverse.b;
  std::vector<int> spread = DoublingRotations(-1, Log2(half));
  spread.push_back(-half);
  return b.RotateSum("divisor", b.MulPlain("divisor masked", sums, std::move(mask)),
                     std::move(spread));
}

// numerator times the inverse of the divisor, which is given / b.
NodeId LowerQuotient(BlockContext& c, NodeId numerator, NodeId divisor) {
  c.Enter(Component::kDivision, "attention");
  GraphBuilder& b = c.b;
  b.SetPeriod(divisor, Log2(c.l.element_stride()));
  b.SetReal(divisor, true);
  const approx::Approximant& inverse = c.forms.divisor_inverse;
  // Rows without a head and slots without values: what comes out meets zeros.
  const int slots = c.many() ? c.most() : c.l.attention.size;
  if (c.l.heads != c.shape.n_heads || c.many())
    divisor = b.AddPlain("divisor filled", divisor,
                         HeadFill(c, 0, slots - 1, 0.5 * (inverse.a + inverse.b) / inverse.b));
  b.SetMagnitude(divisor, 1);
  b.MarkCut(divisor);
  return b.Mul("head outputs", numerator,
               LowerApproximant(b, "divisor inverse", divisor, inverse.b, inverse));
}

// The real part over the imaginary one. both: halves of the numerator and i times the divisor / b.
NodeId LowerDivision(BlockContext& c, NodeId both) {
  GraphBuilder& b = c.b;
  NodeId conjugate = b.Conjugate("numerator and divisor conjugate", both);
  NodeId numerator = b.Add("numerator", both, conjugate);
  b.SetReal(numerator, true);
  return LowerQuotient(c, numerator,
                       b.MulByI("divisor", b.Sub("divisor times -i", conjugate, both)));
}

// The heads' outputs for this token, over the caches.
NodeId LowerCachedHeads(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units,
                        const Biases& biases) {
  QkvLowering qkv(c, root, units, biases);
  qkv.Run(x);
  const std::vector<NodeId> pairs = PairedCaches(c, qkv.caches());
  const std::vector<NodeId> summands = LowerSummands(c, LowerScores(c, qkv, pairs, units));
  NodeId values = LowerWeightedValues(c, summands, qkv.caches(), pairs, units);
  if (!c.forms.attention.divides()) return values;
  if (DividesBeside(c)) return LowerDivision(c, values);
  c.b.SetReal(values, true);
  return LowerQuotient(c, values, LowerDivisor(c, summands));
}

// The same for tokens at once, in rows.
NodeId LowerTokenHeads(BlockContext& c, NodeId x, NodeId root, const BlockUnits& units,
                       const Biases& biases) {
  const TokenValues values = LowerTokenValues(c, x, root, units, biases);
  if (!c.forms.attention.divides()) return values.sum;
  return values.divisor < 0 ? LowerDivision(c, values.sum)
                            : LowerQuotient(c, values.sum, values.divisor);
}

}  // namespace

NodeId LowerBlockAttention(BlockContext& c, NodeId x, NodeId root, const ResidualUnit& unit,
                           const ResidualUnit& after) {
  const BlockUnits units = MakeBlockUnits(c.forms, unit, after);
  const Biases biases = PositionBiases(c);
  NodeId heads = c.many() ? LowerTokenHeads(c, x, root, units, biases)
                          : LowerCachedHeads(c, x, root, units, biases);
  c.b.SetMark(heads, Mark::kHeadOutputs);
  c.Enter(Component::kProjection, "attention");
  GraphBuilder& b = c.b;
  const int layer = c.place.index;
  LinearMap map = c.many() ? TokenMap(c.l, units, MatrixKind::kProjection, layer)
                           : ProjectionMap(c.l, units, layer);
  NodeId products = LowerRealMap(b, "projection products", heads, std::move(map));
  // Of tokens at once: what the first halves hold, in both.
  NodeId sums =
      b.RotateSum("projection sums", products,
                  c.many() ? std::vector<int>{-c.l.keys()} : FeatureSum(c.l, c.l.attention));
  b.SetPeriod(sums, c.LogFeaturePeriod());
  NodeId output = WholeOfReal(b, "projection", sums);
  return AddFeatureBias(c, "projection biased", output, biases.o, after);
}

}  // namespace polyveil::compile
