// The caches that a prompt in blocks leaves: keys and values change their layout before the root
// joins them, beside the norm's polynomial, so that no level is spent on it. The root takes a mask
// to the layout of decoding where decoding has a level to spare (BlockLayout::roots_moved), else it
// is evaluated there once more for every chunk.
#include <algorithm>

#include "compile/approximant_lowering.h"
#include "compile/block_maps.h"
#include "compile/token_block_attention.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

class BlockCaches {
 public:
  BlockCaches(BlockContext& c, TokenParts& t, const TokenNorm& norm, const BlockUnits& units,
              const Biases& biases)
      : c_(c), b_(c.b), t_(t), norm_(norm), units_(units), biases_(biases) {}

  void Run(const HeadHalves& keys, const HeadHalves& values) {
    norms_ = c_.l.roots_moved ? norm_.roots : t_.Split("variance sums", norm_.sums);
    int chunk = 0;
    while (HasTokens(chunk)) {
      const bool two = HasTokens(chunk + 1);
      LowerChunks(chunk, two, keys, values);
      chunk += two ? 2 : 1;
    }
    for (; chunk < c_.l.chunks; ++chunk)
      Update(chunk, b_.State(c_.Named("cache before", chunk), State(chunk), Log2(c_.l.slots)));
  }

 private:
  struct Range {
    int first, last;  // slots of a chunk's half
  };

  int prefix() const { return c_.place.block.prefix(); }
  int State(int chunk) const { return c_.place.index * c_.l.chunks + chunk; }
  // The token of slot u of a chunk's halves; negative: of the prefix.
  int Token(int chunk, int u) const { return chunk * c_.l.keys() + u - prefix(); }
  // Slots that hold tokens of a half.
  Range Of(int chunk, int half) const {
    const int begin = half * c_.l.blocks() - Token(chunk, 0);
    return {std::clamp(begin, 0, c_.l.keys()), std::clamp(begin + c_.l.blocks(), 0, c_.l.keys())};
  }
  bool HasTokens(int chunk) const {
    return chunk < c_.l.chunks && Token(chunk, 0) < c_.halves() * c_.l.blocks();
  }

  NodeId MovedBy(const std::string& name, NodeId x, int slots) {
    slots &= c_.l.slots - 1;
    return slots == 0 ? x : b_.Rotate(name, x, slots);
  }

  // factor(token, e) of these heads at the blocks of a range's tokens, `first` further on.
  template <typename F>
  Vector InBlocks(int chunk, const Range& range, int first, const std::vector<int>& heads,
                  F&& factor) const {
    Vector mask(static_cast<size_t>(c_.l.slots));
    for (int u = range.first; u < range.last; ++u) {
      const int token = Token(chunk, u);
      if (token >= c_.place.tokens) continue;
      for (int e = 0; e < c_.l.d_head; ++e)
        for (const int h : heads)
          mask[static_cast<size_t>((u + first) * c_.l.block() + c_.l.AttentionRow(e, h))] =
              factor(token, e);
    }
    return mask;
  }

  // Block u of the result is what slot u of the chunk's first half will hold, block keys() + u the
  // second's. Keys turn on the way.
  NodeId Gathered(int chunk, const HeadHalves& keys, const HeadHalves& values, double factor) {
    const int half = c_.l.keys(), by = Token(chunk, 0) * c_.l.block();
    NodeId sum = -1;
    const auto add = [&](const char* name, NodeId x, int slots, Vector mask) {
      NodeId part = b_.MulPlain(c_.Named(name, chunk), MovedBy(name, x, slots), std::move(mask));
      sum = sum < 0 ? part : b_.Add(c_.Named("cache blocks", chunk), sum, part);
    };
    const auto turn = [&](int token, int e) {
      return model::TurnOf(c_.shape, prefix() + token, e);
    };
    for (size_t i = 0; i < keys.halves.size(); ++i) {
      const Range range = Of(chunk, static_cast<int>(i));
      if (range.first == range.last) continue;
      for (const auto& [apart, heads] : values.groups)
        add("cache values", values.halves[i], by + apart - half * c_.l.block(),
            InBlocks(chunk, range, half, heads, [&](int, int) { return factor; }));
      for (const auto& [apart, heads] : keys.groups) {
        add("cache keys", keys.halves[i], by + apart,
            InBlocks(chunk, range, 0, heads,
                     [&](int token, int e) { return factor * turn(token, e).own; }));
        for (const int partner : PartnerDistances(c_))
          add("cache keys' partners", keys.halves[i], by + apart + partner * c_.l.heads,
              InBlocks(chunk, range, 0, heads, [&](int token, int e) {
                const model::Turn at = turn(token, e);
                return at.partner - e == partner ? factor * at.other : 0;
              }));
      }
    }
    return sum;
  }

  NodeId Transposed(NodeId x) {
    const Transposition digits = TokensToRows(c_.l);
    const bool real = b_.graph()[x].real;
    for (const auto& [low, high] : digits.swaps)
      x = b_.Linear("cache digits exchanged", x, DigitSwapMap(digits.base, low, high), real);
    return x;
  }

  // Of a chunk's tokens: their roots, each in the block that it comes from, at the slots of its key
  // and its value in every row; or their sums of squares / 8 at the first slots.
  NodeId Norms(int chunk, double factor) {
    NodeId sum = -1;
    for (size_t i = 0; i < norms_.size(); ++i) {
      const Range range = Of(chunk, static_cast<int>(i));
      if (range.first == range.last) continue;
      const NodeId part =
          c_.l.roots_moved
              ? b_.MulPlain(c_.Named("cache roots", chunk), norms_[i],
                            AtTheirSlots(chunk, static_cast<int>(i), range, factor))
              : b_.Linear(c_.Named("cache variances", chunk),
                          MovedBy("variances moved", norms_[i], Token(chunk, 0) * c_.l.block()),
                          TokenGatherMap(c_.l, range.first, range.last, factor / 8), true);
      sum = sum < 0 ? part : b_.Add(c_.Named("cache norms", chunk), sum, part);
    }
    return sum;
  }

  Vector AtTheirSlots(int chunk, int half, const Range& range, double factor) const {
    Vector mask(static_cast<size_t>(c_.l.slots));
    for (int u = range.first; u < range.last; ++u) {
      const int block = Token(chunk, u) - half * c_.l.blocks();
      for (int s = u; s < c_.l.block(); s += c_.l.keys())
        mask[static_cast<size_t>(block * c_.l.block() + s)] = factor;
    }
    return mask;
  }

  // To both halves of all rows: from their blocks, or from the first slots.
  NodeId Spread(NodeId x) {
    std::vector<int> rotations = DoublingRotations(c_.l.block(), Log2(c_.l.blocks()));
    if (!c_.l.roots_moved) {
      rotations = DoublingRotations(c_.l.blocks(), Log2(c_.l.block()));
      rotations.insert(rotations.begin(), -c_.l.keys());
    }
    const NodeId spread = b_.RotateSum("cache norms spread", x, std::move(rotations));
    b_.SetPeriod(spread, Log2(c_.l.blocks()));
    return spread;
  }

  NodeId Root(int chunk, NodeId variances) {
    const approx::Approximant& p = c_.forms.norm1;
    Vector fill(static_cast<size_t>(c_.l.blocks()));
    for (int s = 0; s < c_.l.blocks(); ++s) {
      const int token = Token(chunk, s % c_.l.keys());
      if (token < 0 || token >= c_.halves() * c_.l.blocks())
        fill[static_cast<size_t>(s)] = 0.5 * (p.a + p.b) / norm_.of_sum;
    }
    NodeId filled =
        b_.AddPlain(c_.Named("cache variances filled", chunk), variances, std::move(fill));
    return LowerApproximant(b_, c_.Named("cache inverse root", chunk), filled, norm_.of_sum, p);
  }

  void LowerChunks(int chunk, bool two, const HeadHalves& keys, const HeadHalves& values) {
    const double part = two ? 0.5 : 1;  // both are taken apart again
    NodeId blocks = Gathered(chunk, keys, values, part), of_norm = Norms(chunk, part);
    if (two) {
      blocks = t_.Pack("cache blocks", {blocks, Gathered(chunk + 1, keys, values, part)}).front();
      of_norm = t_.Pack("cache norms", {of_norm, Norms(chunk + 1, part)}).front();
    }
    blocks = WithCopies(b_, "cache copies", Transposed(blocks), keys.readers, c_.l.blocks());
    of_norm = Spread(of_norm);
    if (!two) return Finish(chunk, blocks, of_norm);
    const Halves rows = t_.Split("cache", {blocks}), norms = t_.Split("cache norms", {of_norm});
    for (int i = 0; i < 2; ++i)
      Finish(chunk + i, rows[static_cast<size_t>(i)], norms[static_cast<size_t>(i)]);
  }

  void Finish(int chunk, NodeId rows, NodeId norms) {
    const NodeId roots = c_.l.roots_moved ? norms : Root(chunk, norms);
    NodeId cache = b_.Mul(c_.Named("cache scaled", chunk), rows, roots);
    if (c_.shape.biases || (prefix() > 0 && Token(chunk, 0) < 0))
      cache = b_.AddPlain(c_.Named("cache", chunk), cache, Constants(chunk));
    Update(chunk, cache);
  }

  // What biases and constant tokens leave in a chunk.
  Vector Constants(int chunk) const {
    Vector slots(static_cast<size_t>(c_.l.slots));
    for (int u = 0; u < c_.l.keys(); ++u)
      for (int e = 0; e < c_.l.d_head; ++e)
        for (int h = 0; h < c_.shape.n_heads; ++h)
          for (const bool value : {false, true})
            slots[static_cast<size_t>(c_.l.AttentionRow(e, h) * c_.l.blocks() +
                                      (value ? c_.l.keys() : 0) + u)] =
                ConstantAt(value, Token(chunk, u), e, h);
    return slots;
  }

  double ConstantAt(bool value, int token, int e, int h) const {
    const double unit = value ? units_.value : units_.key;
    const model::Block& block = c_.place.block;
    if (token < 0) {
      const int at =
          (token + prefix()) * c_.shape.kv_width() + c_.shape.KvHead(h) * c_.shape.d_head + e;
      return (value ? block.prefix_values : block.prefix_keys)[static_cast<size_t>(at)] / unit;
    }
    if (token >= c_.place.tokens || !c_.shape.biases) return 0;
    return TurnedBias(c_, value ? biases_.v : biases_.k, !value, token, e, h, true) / unit;
  }

  void Update(int chunk, NodeId cache) {
    b_.SetLeastLevel(cache, c_.place.cache_levels[static_cast<size_t>(chunk)]);
    b_.graph().updates.push_back({State(chunk), cache});
  }

  BlockContext& c_;
  GraphBuilder& b_;
  TokenParts& t_;
  const TokenNorm& norm_;
  const BlockUnits& units_;
  const Biases& biases_;
  Halves norms_;
};

}  // namespace

void LowerBlockCaches(BlockContext& c, TokenParts& t, const HeadHalves& keys,
                      const HeadHalves& values, const TokenNorm& norm, const BlockUnits& units,
                      const Biases& biases) {
  BlockCaches(c, t, norm, units, biases).Run(keys, values);
}

}  // namespace polyveil::compile
