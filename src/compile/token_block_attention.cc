#include "compile/token_block_attention.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "compile/approximant_lowering.h"
#include "compile/attention_forms.h"
#include "compile/block_maps.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

class BlockHeads {
 public:
  BlockHeads(BlockContext& c, TokenParts& t, const TokenNorm* norm, const BlockUnits& units,
             const Biases& biases)
      : c_(c), b_(c.b), t_(t), norm_(norm), units_(units), biases_(biases) {}

  Halves Run(const Wholes& x) {
    LowerQkv(x);
    c_.Enter(Component::kScores, "attention");
    LowerScores();
    powers_ = LowerSummands(c_, scores_);
    c_.Enter(Component::kValues, "attention");
    return causal() ? OfEarlierKeys() : OfAllKeys();
  }

 private:
  bool divides() const { return c_.forms.attention.divides(); }
  int prefix() const { return c_.place.block.prefix(); }
  bool causal() const { return c_.shape.causal; }
  size_t halves() const { return static_cast<size_t>(c_.halves()); }
  // What a block of scores is of: halves of the tokens, and the least distance between two.
  struct Pair {
    size_t query, key;
    int first;
  };
  // Keys that the token sees.
  int KeysOf(int token) const {
    if (causal()) return prefix() + token + 1;
    if (c_.place.texts.empty()) return c_.place.tokens;
    for (const int length : c_.place.texts) {
      if (token < length) return length;
      token -= length;
    }
    return c_.place.texts.back();
  }
  // The token that stands at block t of a half: those behind the last are its copies.
  int Token(size_t half, int t) const {
    return std::min(static_cast<int>(half) * c_.l.blocks() + t, c_.place.tokens - 1);
  }

  // value(token, e, h) of a half.
  template <typename F>
  Vector OfHalf(size_t half, F&& value) const {
    Vector slots(static_cast<size_t>(c_.l.slots));
    for (int t = 0; t < c_.l.blocks(); ++t)
      for (int e = 0; e < c_.l.d_head; ++e)
        for (int h = 0; h < c_.shape.n_heads; ++h)
          slots[static_cast<size_t>(t * c_.l.block() + c_.l.AttentionRow(e, h))] =
              value(Token(half, t), e, h);
    return slots;
  }

  // The scores' unit of every head at every token.
  std::vector<std::vector<double>> ScoreUnits() const {
    std::vector<std::vector<double>> units;
    for (int token = 0; token < c_.place.tokens; ++token) {
      BlockPlace place = c_.place;
      place.position = KeysOf(token) - 1;
      const BlockContext at{b_, place, c_.l, c_.shape, c_.forms};
      auto& of_token = units.emplace_back();
      for (int h = 0; h < c_.shape.n_heads; ++h) of_token.push_back(ScoreUnit(at, h));
    }
    return units;
  }

  // Where queries meet them: half of x times factor(token, h), turned by the tokens' positions.
  template <typename F>
  NodeId Turned(const std::string& name, const HeadHalves& x, size_t half, F&& factor) {
    const auto turn = [&](int token, int e) {
      return model::TurnOf(c_.shape, prefix() + token, e);
    };
    NodeId sum = Placed(name + " turned", name, x, half, 0, [&](int token, int e, int h) {
      return factor(token, h) * turn(token, e).own;
    });
    for (const int apart : PartnerDistances(c_)) {
      const NodeId partners =
          Placed(name + " partners turned", name + " partners", x, half, apart,
                 [&](int token, int e, int h) {
                   const model::Turn at = turn(token, e);
                   return at.partner - e == apart ? factor(token, h) * at.other : 0;
                 });
      sum = b_.Add(name + " turned", sum, partners);
    }
    return WithCopies(b_, name + " copies", sum, x.readers, 1);
  }

  // Heads where the first query that reads them meets them, elements `apart` further on: times
  // factor(token, e, h).
  template <typename F>
  NodeId Placed(const std::string& name, const std::string& moved, const HeadHalves& x, size_t half,
                int apart, F&& factor) {
    NodeId sum = -1;
    for (const HeadHalves::Group& group : x.groups) {
      Vector mask = OfHalf(half, [&](int token, int e, int h) {
        return std::ranges::find(group.heads, h) == group.heads.end() ? 0 : factor(token, e, h);
      });
      const int by = apart * c_.l.heads + group.apart;
      const NodeId there = by == 0 ? x.halves[half] : b_.Rotate(moved, x.halves[half], by);
      AddTo(sum, name.c_str(), b_.MulPlain(name, there, std::move(mask)));
    }
    return sum;
  }

  struct Qkv {
    HeadHalves queries, keys, values;
  };

  // Of heads in the places of the queries that read them; of heads in others.
  HeadHalves InPlace(Halves halves) const {
    std::vector<int> heads(static_cast<size_t>(c_.shape.n_heads));
    std::iota(heads.begin(), heads.end(), 0);
    return {std::move(halves), {{0, std::move(heads)}}, 1};
  }
  HeadHalves At(const std::vector<int>& places, const Halves& halves) const {
    HeadHalves result{halves, {}, c_.shape.n_heads / c_.shape.n_kv_heads};
    for (size_t k = 0; k < places.size(); ++k) {
      const int head = static_cast<int>(k) * result.readers, apart = places[k] - head;
      auto group = std::ranges::find(result.groups, apart, &HeadHalves::Group::apart);
      if (group == result.groups.end()) group = result.groups.insert(group, {apart, {}});
      group->heads.push_back(head);
    }
    return result;
  }

  Qkv RawQkv(const Wholes& x) {
    // Without a norm in front no root's level hides that of the mask.
    const auto joined = norm_ ? JoinHeads(c_.l, c_.shape) : std::nullopt;
    if (!joined)
      return {InPlace(Products("queries", x, 0)), InPlace(Products("keys", x, 1)),
              InPlace(Products("values", x, 2))};
    const Halves all = Products(
        joined->with_queries ? "queries, keys and values" : "keys and values", x, kJoinedHeads);
    return {InPlace(joined->with_queries ? all : Products("queries", x, 0)), At(joined->keys, all),
            At(joined->values, all)};
  }

  Halves Products(const char* name, const Wholes& x, int block) {
    return t_.Split(name, t_.Linear(std::string(name) + " products", x,
                                    BlockMap(c_.l, c_.shape, units_, MatrixKind::kQkv,
                                             c_.place.index, block, 0.5)));
  }

  // Times the root where a norm stands in front, with the bias times factor(token, h).
  template <typename F>
  NodeId Scaled(const char* name, NodeId x, size_t half, const std::vector<double>& bias,
                bool shared, bool turned, F&& factor) {
    NodeId scaled = norm_ ? b_.Mul(name, x, norm_->roots[half]) : x;
    if (!c_.shape.biases) return scaled;
    return b_.AddPlain(
        std::string(name) + " biased", scaled, OfHalf(half, [&](int token, int e, int h) {
          return factor(token, h) * TurnedBias(c_, bias, turned, token, e, h, shared);
        }));
  }

  void LowerQkv(const Wholes& x) {
    c_.Enter(Component::kQkv, "attention");
    const Qkv raw = RawQkv(x);
    score_units_ = ScoreUnits();
    const auto unit_at = [&](int token, int h) {
      return 0.5 * score_units_[static_cast<size_t>(token)][static_cast<size_t>(h)];
    };
    Halves keys, scaled_values;
    for (size_t half = 0; half < halves(); ++half) {
      // Half of them: the scores of both halves' keys are taken apart.
      queries_.push_back(Scaled("query", Turned("query", raw.queries, half, unit_at), half,
                                biases_.q, false, true,
                                [&](int token, int h) { return unit_at(token, h) * units_.key; }));
      const auto one = [](int, auto...) { return 1.0; };
      const NodeId turned = c_.shape.rotary.empty() && raw.keys.readers == 1
                                ? raw.keys.halves[half]
                                : Turned("key", raw.keys, half, one);
      const NodeId values =
          raw.values.readers == 1
              ? raw.values.halves[half]
              : WithCopies(b_, "values copies",
                           Placed("values placed", "values moved", raw.values, half, 0, one),
                           raw.values.readers, 1);
      keys.push_back(Scaled("key", turned, half, biases_.k, true, true,
                            [&](int, int) { return 1 / units_.key; }));
      scaled_values.push_back(Scaled("value", values, half, biases_.v, true, false,
                                     [&](int, int) { return 1 / units_.value; }));
    }
    skewed_keys_ = t_.Linear("keys skewed", t_.Pack("keys", keys), BlockSkewMap(c_.l, 1));
    const Wholes skewed = t_.Linear("values skewed", t_.Pack("values", scaled_values),
                                    BlockSkewMap(c_.l, causal() ? 0.5 : 1));
    if (causal())
      skewed_values_ = t_.Split("values skewed", skewed);
    else
      for (const NodeId each : skewed)
        conjugate_values_.push_back(b_.Conjugate("values skewed conjugate", each));
    if (causal()) LowerBlockCaches(c_, t_, raw.keys, raw.values, *norm_, units_, biases_);
  }

  // x moved by so many tokens to the right, cyclically.
  NodeId Later(const char* name, NodeId x, int tokens) {
    return tokens == 0 ? x : b_.Rotate(name, x, c_.l.slots - tokens * c_.l.block());
  }

  // Of each half's queries with the keys of both that they may see; with those of constant tokens
  // in the rows behind where both are of one half.
  void LowerScores() {
    LinearMap band = ScoreBand(c_.l);
    band.by_term = causal();  // keys, turned and scaled, come a level later than queries
    for (int first = 0; first < c_.l.blocks(); first += c_.l.distances())
      for (size_t i = 0; i < skewed_keys_.size(); ++i) {
        const NodeId keys = Later("keys further on", skewed_keys_[i], first);
        NodeId before = -1;
        for (size_t query = causal() ? 2 * i : 0; query < halves(); ++query) {
          before = b_.Band("score products", queries_[query], keys, band, before, 1);
          AddPairs(query, i, first, t_.Split("scores", {before}));
        }
      }
    if (prefix() > 0) AddConstantScores();
    for (size_t i = 0; i < pairs_.size(); ++i) AddShift(static_cast<int>(i));
    b_.SetMark(scores_.front(), Mark::kScores);
  }

  // Of the keys of ciphertext i.
  void AddPairs(size_t query, size_t i, int first, const Halves& scores) {
    for (size_t part = 0; part < 2; ++part) {
      const size_t key = 2 * i + part;
      if (causal() && key > query) continue;
      pairs_.push_back({query, key, first});
      scores_.push_back(scores[part]);
    }
  }

  void AddConstantScores() {
    const Halves constant =
        t_.Split("scores of constant tokens",
                 t_.Linear("scores of constant tokens", t_.Pack("queries", queries_),
                           PrefixKeysMap(c_.l, units_, c_.place.index, prefix(), 1)));
    for (size_t i = 0; i < pairs_.size(); ++i)
      if (pairs_[i].query == pairs_[i].key)
        scores_[i] = b_.Add("scores", scores_[i], constant[pairs_[i].query]);
  }

  void AddShift(int index) {
    const Pair& pair = pairs_[static_cast<size_t>(index)];
    const int rows = c_.l.distances() + (pair.query == pair.key ? prefix() : 0);
    NodeId& scores = scores_[static_cast<size_t>(index)];
    scores = b_.AddPlain(
        c_.Named("scores", index), scores, OfHalf(pair.query, [&](int token, int x, int h) {
          const double unit = score_units_[static_cast<size_t>(token)][static_cast<size_t>(h)];
          return x < rows ? c_.forms.shift[static_cast<size_t>(h)] * unit : 0;
        }));
  }

  // All halves' outputs; with a divisor i times the summands' sums / b beside the values' sums,
  // both halved.
  Halves OfEarlierKeys() {
    const double factor = divides() ? 0.5 : 1;
    const Complex beside = divides() ? Complex(0, 1 / c_.forms.divisor_inverse.b) : Complex();
    if (divides())
      for (NodeId& values : skewed_values_)
        values = b_.AddPlain("values and ones", values, {beside});
    Halves sums(halves(), -1);
    for (size_t key = 0; key < halves(); ++key) AddValues(key, factor, sums);
    if (prefix() > 0) AddConstantValues(factor, beside, sums);
    return divides() ? Divided(sums) : sums;
  }

  // Of a half's keys to all queries that see some of them.
  void AddValues(size_t key, double factor, Halves& sums) {
    NodeId before = -1;
    for (size_t i = 0; i < pairs_.size(); ++i) {
      if (pairs_[i].key != key) continue;
      const size_t query = pairs_[i].query;
      LinearMap band =
          ValueBand(c_.l, {static_cast<int>(query), static_cast<int>(key), 0, true, {}},
                    c_.place.tokens, factor);
      band.by_term = true;  // powers have no level to spare
      before =
          b_.Band("value products", skewed_values_[key], powers_[i], std::move(band), before, 0);
      AddTo(sums[query], "value sums", before);
    }
  }

  void AddTo(NodeId& sum, const char* name, NodeId part) {
    sum = sum < 0 ? part : b_.Add(name, sum, part);
  }

  void AddConstantValues(double factor, Complex beside, Halves& sums) {
    const LinearMap constant =
        PrefixValuesMap(c_.l, units_, c_.place.index, prefix(), factor, beside);
    for (size_t i = 0; i < pairs_.size(); ++i)
      if (pairs_[i].query == pairs_[i].key)
        AddTo(sums[pairs_[i].query], "value sums",
              b_.Linear("values of constant tokens", powers_[i], constant, !divides()));
  }

  // Where queries see keys of both halves: what a query does not see leaves its powers, so that one
  // product of complex numbers serves both halves, (v0 - i v1) (p0 + i p1), whose real part it is.
  Halves OfAllKeys() {
    const LinearMap band =
        ValueBand(c_.l, {0, 0, 0, false, {}}, 2 * c_.l.blocks(), divides() ? 0.5 : 1);
    Halves sums(halves(), -1), divisors(halves(), -1), numerators;
    for (size_t i = 0; i < pairs_.size(); i += 2 * halves()) {
      const NodeId values =
          Later("values further on", conjugate_values_[pairs_[i].key / 2], pairs_[i].first);
      NodeId before = -1;
      for (size_t query = 0; query < halves(); ++query) {
        const Halves seen = {SeenPowers(i + 2 * query), SeenPowers(i + 2 * query + 1)};
        for (const NodeId powers : seen) AddTo(divisors[query], "powers", powers);
        before =
            b_.Band("value products", values, t_.Pack("powers", seen).front(), band, before, 0);
        AddTo(sums[query], "value sums", before);
      }
    }
    for (const NodeId sum : sums) numerators.push_back(t_.Split("numerator", {sum}).front());
    return divides() ? Divided(numerators, SumOverKeys(t_.Pack("powers", divisors))) : numerators;
  }

  NodeId SeenPowers(size_t index) {
    const Pair& pair = pairs_[index];
    const KeysSeen seen{static_cast<int>(pair.query),
                        static_cast<int>(pair.key),
                        pair.first,
                        false,
                        {c_.place.texts.begin(), c_.place.texts.end()}};
    Vector mask(static_cast<size_t>(c_.l.slots));
    for (int t = 0; t < c_.l.blocks(); ++t)
      for (int x = 0; x < c_.l.distances(); ++x)
        if (IsSeen(c_.l, seen, c_.place.tokens, t, x))
          std::fill_n(mask.begin() + t * c_.l.block() + c_.l.AttentionRow(x, 0), c_.shape.n_heads,
                      Complex(1));
    return b_.MulPlain(c_.Named("powers seen", static_cast<int>(index)), powers_[index],
                       std::move(mask));
  }

  // Over the rows of every head, in all of them, divided by what the divisor's polynomial ends at.
  Wholes SumOverKeys(Wholes powers) {
    const int elements = Log2(c_.l.d_head);
    Vector first(static_cast<size_t>(c_.l.block()));
    std::fill_n(first.begin(), c_.shape.n_heads, 1 / c_.forms.divisor_inverse.b);
    for (NodeId& each : powers) {
      const NodeId sums =
          b_.RotateSum("divisor sums", each, DoublingRotations(c_.l.heads, elements));
      each = b_.RotateSum("divisors spread", b_.MulPlain("divisors", sums, first),
                          DoublingRotations(-c_.l.heads, elements));
    }
    return powers;
  }

  // What stands where no head is, for the divisor's polynomial.
  Vector HeadlessFill(Complex of) const {
    const approx::Approximant& inverse = c_.forms.divisor_inverse;
    Vector fill(static_cast<size_t>(c_.l.heads));
    std::fill(fill.begin() + c_.shape.n_heads, fill.end(),
              of * 0.5 * (inverse.a + inverse.b) / inverse.b);
    return fill;
  }

  // Of numerators with their divisors beside them.
  Halves Divided(const Halves& both) {
    c_.Enter(Component::kDivision, "attention");
    Halves numerators, divisors;
    for (const NodeId each : both) {
      const Halves parts = t_.Split("numerator and divisor", {each});
      numerators.push_back(parts[0]);
      divisors.push_back(parts[1]);
    }
    return Divided(numerators, t_.Pack("divisors", divisors));
  }

  // Numerators times the divisors' inverses.
  Halves Divided(const Halves& numerators, Wholes divisors) {
    c_.Enter(Component::kDivision, "attention");
    const approx::Approximant& inverse = c_.forms.divisor_inverse;
    for (NodeId& each : divisors) {
      each = b_.AddPlain("divisors filled", each, HeadlessFill({1, 1}));
      b_.SetMagnitude(each, 1);
      b_.MarkCut(each, divisors.front());
    }
    Halves results = t_.Split("divisor", divisors);
    for (size_t half = 0; half < halves(); ++half)
      results[half] =
          b_.Mul("head outputs", numerators[half],
                 LowerApproximant(b_, "divisor inverse", results[half], 0.5 * inverse.b, inverse));
    b_.SetMark(results[0], Mark::kHeadOutputs);
    return results;
  }

  BlockContext& c_;
  GraphBuilder& b_;
  TokenParts& t_;
  const TokenNorm* norm_;  // in front; null: what is read went through it
  const BlockUnits& units_;
  const Biases& biases_;
  std::vector<std::vector<double>> score_units_;
  Halves queries_, skewed_values_;
  Wholes skewed_keys_, conjugate_values_;
  std::vector<Pair> pairs_;
  std::vector<NodeId> scores_, powers_;  // by pair
};

}  // namespace

Halves TokenParts::Split(const std::string& name, const Wholes& x) {
  Halves halves;
  for (const NodeId whole : x) {
    const NodeId conjugate = b_.Conjugate(name + " conjugate", whole);
    halves.push_back(b_.Add(name + " of the first half", whole, conjugate));
    halves.push_back(
        b_.MulByI(name + " of the second half", b_.Sub(name + " times -2 i", conjugate, whole)));
  }
  for (const NodeId half : halves) b_.SetReal(half, true);
  return halves;
}

Wholes TokenParts::Pack(const std::string& name, const Halves& halves) {
  Wholes packed;
  for (size_t i = 0; i < halves.size(); i += 2) {
    packed.push_back(
        b_.Add(name + " of both halves", halves[i], b_.MulByI(name + " times i", halves[i + 1])));
    b_.SetReal(packed.back(), false);
  }
  return packed;
}

Wholes TokenParts::Linear(const std::string& name, const Wholes& x, const LinearMap& map) {
  Wholes results;
  for (const NodeId each : x) {
    const NodeId id = b_.Linear(name, each, map, false);
    if (!results.empty()) b_.ShareMap(results.back(), id);
    results.push_back(id);
  }
  return results;
}

NodeId WithCopies(GraphBuilder& b, const std::string& name, NodeId x, int count, int step) {
  if (count == 1) return x;
  const NodeId half = WithCopies(b, name, x, count / 2, step);
  const NodeId even = b.Add(name, half, b.Rotate(name, half, -(count / 2) * step));
  return count % 2 == 0 ? even : b.Add(name, even, b.Rotate(name, x, -(count - 1) * step));
}

std::set<int> PartnerDistances(const BlockContext& c) {
  std::set<int> distances;
  for (int e = 0; e < c.l.d_head; ++e) distances.insert(model::TurnOf(c.shape, 0, e).partner - e);
  distances.erase(0);
  return distances;
}

double TurnedBias(const BlockContext& c, const std::vector<double>& bias, bool turned, int token,
                  int e, int h, bool shared) {
  const auto first = static_cast<size_t>((shared ? c.shape.KvHead(h) : h) * c.l.d_head);
  if (!turned) return bias[first + static_cast<size_t>(e)];
  const model::Turn turn = model::TurnOf(c.shape, c.place.block.prefix() + token, e);
  return turn.own * bias[first + static_cast<size_t>(e)] +
         turn.other * bias[first + static_cast<size_t>(turn.partner)];
}

Halves LowerBlockHeads(BlockContext& c, TokenParts& t, const Wholes& x, const TokenNorm* norm,
                       const BlockUnits& units, const Biases& biases) {
  return BlockHeads(c, t, norm, units, biases).Run(x);
}

}  // namespace polyveil::compile
