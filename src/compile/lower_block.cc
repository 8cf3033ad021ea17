#include "compile/lower_block.h"

#include "compile/approximant_lowering.h"
#include "compile/block_context.h"
#include "compile/token_blocks.h"

namespace polyveil::compile {

NodeId LowerSquares(BlockContext& c, NodeId x, const ChannelUnits& channels) {
  if (!channels) return c.b.Square("norm squares", x);
  const auto squared = [&](size_t i) { return (*channels)[i] * (*channels)[i]; };
  return c.b.Mul("norm squares", c.b.MulPlain("norm weights", x, ByFeature(c, squared)), x);
}

namespace {

// `value` at the slots of tokens at once that hold none: their zeros stay zeros, but a polynomial
// must not read them.
std::vector<Complex> EmptyFill(const BlockContext& c, double value) {
  std::vector<Complex> fill(static_cast<size_t>(c.l.attention.size));
  for (size_t s = 0; s < fill.size(); ++s)
    if (static_cast<int>(s) % c.l.keys() >= c.most()) fill[s] = value;
  return fill;
}

// ~ 1/sqrt(mean(x^2) + eps) in every slot.
NodeId LowerRoot(BlockContext& c, const char* part, NodeId x, const ResidualUnit& unit,
                 const approx::Approximant& p) {
  c.Enter(Component::kNorm, part);
  NodeId squares = LowerSquares(c, x, unit.channels);
  NodeId sum = c.b.RotateSum("variance", squares, c.FeatureRotations());
  c.b.SetPeriod(sum, c.LogSumPeriod());
  const double of_sum = unit.unit * unit.unit / c.shape.d_model;
  if (c.many() && c.most() < c.l.keys())
    sum = c.b.AddPlain("variance filled", sum, EmptyFill(c, 0.5 * (p.a + p.b) / of_sum));
  return LowerApproximant(c.b, "inverse root", sum, of_sum, p);
}

NodeId InUnit(BlockContext& c, NodeId x, const ResidualUnit& before, const ResidualUnit& after) {
  const std::string name = "residual in its unit";
  if (before.channels == after.channels) return c.b.ChangeUnit(name, x, before.unit / after.unit);
  return c.b.MulPlain(name, x, ByFeature(c, [&](size_t i) {
                        const double was = before.channels ? (*before.channels)[i] : 1;
                        return before.unit * was /
                               (after.unit * (after.channels ? (*after.channels)[i] : 1));
                      }));
}

}  // namespace

void MarkResidual(GraphBuilder& b, NodeId x, bool real, NodeId with) {
  b.SetMagnitude(x, 1);
  b.SetReal(x, real);
  b.MarkCut(x, with);
}

NodeId AddToResidual(BlockContext& c, NodeId x, const ResidualUnit& before,
                     const ResidualUnit& after, NodeId update, NodeId with) {
  NodeId sum = c.b.Add("residual", InUnit(c, x, before, after), update);
  MarkResidual(c.b, sum, !c.in_blocks(), with < 0 ? sum : with);
  return sum;
}

BlockUnits MakeBlockUnits(const model::LayerConfig& forms, const ResidualUnit& input,
                          const ResidualUnit& output) {
  const auto or_one = [](double bound) { return bound > 0 ? bound : 1; };
  BlockUnits units{input.unit, output.unit, input.channels, output.channels};
  units.key = or_one(forms.bounds.key);
  units.value = or_one(forms.bounds.value);
  units.product = or_one(forms.bounds.product);
  units.hidden = or_one(forms.bounds.hidden);
  // Arguments of polynomials stay near their scale.
  if (forms.activation)
    units.gate = std::max(std::abs(forms.activation->a), std::abs(forms.activation->b));
  return units;
}

std::vector<Complex> SeenMask(const BlockContext& c, int part,
                              const std::function<double(int)>& value) {
  if (!c.IsKnown(part)) return HeadMask(c, 0, c.Seen(part) - 1, value);
  const auto stride = static_cast<size_t>(c.l.element_stride());
  std::vector<Complex> mask(stride * static_cast<size_t>(c.l.known_groups));
  for (int k = 0; k < c.place.in_matrices; ++k)
    for (int h = 0; h < c.shape.n_heads; ++h)
      mask[static_cast<size_t>(k / c.l.keys()) * stride +
           static_cast<size_t>(h * c.l.attention.size + k % c.l.keys())] = value(h);
  return mask;
}

std::vector<Complex> SeenFill(const BlockContext& c, int part, double value) {
  std::vector<Complex> fill = SeenMask(c, part, [](int) { return 1; });
  for (Complex& slot : fill) slot = slot == 0.0 ? value : 0;
  return fill;
}

std::vector<Complex> HeadFill(const BlockContext& c, int first, int last, double value) {
  std::vector<Complex> fill(static_cast<size_t>(c.l.element_stride()), Complex(value));
  for (int h = 0; h < c.shape.n_heads; ++h)
    for (int k = first; k <= last; ++k) fill[static_cast<size_t>(h * c.l.attention.size + k)] = 0;
  return fill;
}

Biases PositionBiases(const BlockContext& c) {
  if (!c.shape.biases) return {};
  const auto w = c.place.block.weights->Biases();
  Biases biases{w->bq, w->bk, w->bv, w->bo, w->b_gate, w->b_up, w->b_down};
  if (c.place.tokens > 0) return biases;  // every token turns its own
  for (auto* bias : {&biases.q, &biases.k}) model::RotateRows(c.shape, c.place.position, *bias, 1);
  return biases;
}

NodeId AddBias(BlockContext& c, const std::string& name, NodeId x, std::vector<Complex> bias) {
  return c.shape.biases ? c.b.AddPlain(name, x, std::move(bias)) : x;
}

NodeId MaskedByRoot(BlockContext& c, const std::string& name, NodeId sums,
                    std::vector<Complex> mask, NodeId root, std::vector<Complex> bias) {
  return ByRoot(c, name, c.b.MulPlain(name + " masked", sums, std::move(mask)), root,
                std::move(bias));
}

NodeId ByRoot(BlockContext& c, const std::string& name, NodeId masked, NodeId root,
              std::vector<Complex> bias) {
  c.b.SetReal(masked, true);
  return AddBias(c, name, c.b.Mul(name + " scaled", masked, root), std::move(bias));
}

NodeId AddFeatureBias(BlockContext& c, const std::string& name, NodeId x,
                      const std::vector<double>& values, const ResidualUnit& unit) {
  if (!c.shape.biases) return x;
  const Complex one = c.in_blocks() ? Complex(1, 1) : Complex(1);
  return AddBias(c, name, x, ByFeature(c, [&](size_t i) {
                   return one * values[i] / (unit.unit * (unit.channels ? (*unit.channels)[i] : 1));
                 }));
}

NodeId LowerBlock(GraphBuilder& builder, const BlockPlace& place, NodeId x) {
  BlockContext c{builder, place, place.layout, place.block.shape, place.block.forms};
  const ResidualUnit &in = place.in, &middle = place.middle, &out = place.out;
  NodeId root = LowerRoot(c, "attention", x, in, c.forms.norm1), result = -1;
  if (c.shape.parallel) {
    NodeId attended = LowerBlockAttention(c, x, root, in, out);
    NodeId fed = LowerBlockFeedForward(c, x, root, in, out);
    result = AddToResidual(c, x, in, out, builder.Add("attention and feed-forward", attended, fed));
  } else {
    NodeId mid = AddToResidual(c, x, in, middle, LowerBlockAttention(c, x, root, in, middle));
    builder.SetMark(mid, Mark::kAttended);
    NodeId scale = LowerRoot(c, "feed-forward", mid, middle, c.forms.norm2);
    result = AddToResidual(c, mid, middle, out, LowerBlockFeedForward(c, mid, scale, middle, out));
  }
  builder.SetMark(result, Mark::kResult);
  return result;
}

namespace {

// What differs between the programs: where(i) is block i's place but for its residual's units.
template <typename F>
Graph LowerBlocks(const model::Decoder& decoder, const BlockLayout& layout, const char* input,
                  int log_period, PromptRoom room, F&& where) {
  const ResidualUnits units = MakeResidualUnits(decoder);
  GraphBuilder builder(Log2(layout.slots));
  builder.Enter(-1, Component::kInput, "");
  std::vector<NodeId> x;
  for (int i = 0; i < room.ciphertexts; ++i) {
    x.push_back(builder.Input(input, log_period, i));
    MarkResidual(builder, x.back(), !room.in_blocks(), x.front());
  }
  for (int i = 0; i < static_cast<int>(decoder.blocks.size()); ++i) {
    const auto at = static_cast<size_t>(i);
    BlockPlace place = where(i);
    place.in = {units.LayerInput(i), units.LayerInputChannels(i)};
    place.middle = {units.middle[at], units.middle_channels[at]};
    place.out = {units.output[at], units.output_channels[at]};
    if (!units.ending.empty()) place.ending = {units.ending[at]};
    if (room.in_blocks())
      x = LowerTokenBlocks(builder, place, x);
    else
      x = {LowerBlock(builder, place, x.front())};
  }
  builder.graph().outputs = x;
  return std::move(builder.graph());
}

}  // namespace

Result<Graph> LowerStep(const model::Decoder& decoder, const BlockLayout& layout, int position,
                        const std::shared_ptr<const model::PublicContext>& known,
                        int most_cache_level) {
  if (position < 0 || position >= decoder.context)
    return MakeError(ErrorCode::kOutOfRange, "position = {} outside the context of {} tokens",
                     position, decoder.context);
  const int in_matrices = layout.InMatrices(known ? known->tokens : 0);
  if (position + decoder.prefix() - in_matrices >= layout.chunks * layout.keys())
    return MakeError(
        ErrorCode::kOutOfRange,
        "position = {}: the caches hold {} tokens behind the {} public ones in matrices", position,
        layout.chunks * layout.keys() - decoder.prefix(), in_matrices);
  constexpr PromptRoom kNone{1, 1};
  return LowerBlocks(decoder, layout, "token", Log2(layout.width), kNone, [&](int i) {
    const auto at = static_cast<size_t>(i);
    BlockPlace place{decoder.blocks[at], layout, i, position + decoder.prefix()};
    place.in_matrices = in_matrices;
    place.most_cache_level = most_cache_level;
    if (in_matrices > 0) place.known = KnownKeyValues(known, &known->blocks[at]);
    return place;
  });
}

namespace {

template <typename T>
Status Refusal(const char* field, T value, T limit) {
  return MakeError(ErrorCode::kOutOfRange, "prompts at once: {} = {}, at most {}", field, value,
                   limit);
}

Status CheckRows(const model::Decoder& decoder, const BlockLayout& l) {
  const model::BlockShape& shape = decoder.blocks.front().shape;
  if (l.width > l.attention.rows) return Refusal("width", l.width, l.attention.rows);
  if (shape.d_ff > 2 * l.attention.rows) return Refusal("d_ff", shape.d_ff, 2 * l.attention.rows);
  if (l.chunks > 1) return Refusal("ciphertexts of the cache", l.chunks, 1);
  if (decoder.prefix() > 0) return Refusal("constant tokens", decoder.prefix(), 0);
  return {};
}

Status CheckTokenBlocks(const model::Decoder& decoder, const BlockLayout& l) {
  if (l.width > l.block()) return Refusal("width", l.width, l.block());
  const bool causal = decoder.blocks.front().shape.causal;
  if (causal && l.blocks() + decoder.prefix() > l.d_head)
    return Refusal("blocks and constant tokens", l.blocks() + decoder.prefix(), l.d_head);
  if (decoder.prefix() >= l.keys())  // a cache's first ciphertext holds tokens beside them
    return Refusal("constant tokens", decoder.prefix(), l.keys() - 1);
  for (const model::Block& block : decoder.blocks) {
    if (block.shape.bilinear()) return Refusal("bilinear feed-forwards in blocks", 1, 0);
    for (int h = 1; h < block.shape.n_heads; ++h)
      if (block.power(h) != block.power(0))
        return Refusal("a head's power beside another one", block.power(h), block.power(0));
  }
  return {};
}

}  // namespace

Result<PromptForm> CheckPrompt(const model::Decoder& decoder, const BlockLayout& layout) {
  for (const model::Block& each : decoder.blocks)
    if (each.forms.attention.approximates_softmax() || each.forms.attention.qk_norm)
      return MakeError(ErrorCode::kOutOfRange,
                       "prompts at once: an attention form of sums over keys, which has none");
  if (!decoder.causal()) {
    PV_RETURN_IF_ERROR(CheckTokenBlocks(decoder, layout));
    return PromptForm::kBlocks;
  }
  const Status rows = CheckRows(decoder, layout);
  if (rows.ok()) return PromptForm::kRows;
  // Where blocks are many for a head, rows are what was wanted.
  if (layout.blocks() > layout.d_head) return rows.error();
  PV_RETURN_IF_ERROR(CheckTokenBlocks(decoder, layout));
  return PromptForm::kBlocks;
}

int PromptTokens(const model::Decoder& decoder, const BlockLayout& layout, PromptRoom room) {
  const int in_blocks = 2 * room.ciphertexts * layout.blocks();
  if (!decoder.causal()) return in_blocks;
  return std::min(
      room.in_blocks() ? in_blocks : std::min(room.groups * layout.d_head, layout.keys()),
      decoder.context);
}

int TokenCiphertexts(const model::Decoder& decoder, const BlockLayout& layout) {
  const int tokens = 2 * layout.blocks();
  return std::min((decoder.context + tokens - 1) / tokens, kMostTokenCiphertexts);
}

namespace {

Status CheckTexts(const model::Decoder& decoder, std::span<const int> texts, int tokens) {
  if (decoder.causal() && texts.empty()) return {};
  if (decoder.causal())
    return MakeError(ErrorCode::kInvalidArgument, "{} texts at once: only encoders read several",
                     texts.size());
  if (texts.empty()) texts = {&tokens, 1};
  int sum = 0;
  for (const int length : texts) {
    if (length < 1 || length > std::min(tokens, decoder.context))
      return MakeError(ErrorCode::kOutOfRange, "a text of {} tokens among {}, context {}", length,
                       tokens, decoder.context);
    sum += length;
  }
  if (sum == tokens) return {};
  return MakeError(ErrorCode::kMismatch, "{} texts of {} tokens together, not {}", texts.size(),
                   sum, tokens);
}

}  // namespace

Result<Graph> LowerPrompt(const model::Decoder& decoder, const BlockLayout& layout, int tokens,
                          PromptRoom room, std::span<const int> state_levels,
                          std::span<const int> texts) {
  PV_RETURN_IF_ERROR(CheckPrompt(decoder, layout));
  const int most = PromptTokens(decoder, layout, room);
  if (tokens < 1 || tokens > most)
    return MakeError(ErrorCode::kOutOfRange, "a prompt of {} tokens, not in 1..{}", tokens, most);
  PV_RETURN_IF_ERROR(CheckTexts(decoder, texts, tokens));
  return LowerBlocks(decoder, layout, "tokens", Log2(layout.slots), room, [&](int i) {
    BlockPlace place{decoder.blocks[static_cast<size_t>(i)], layout, i,
                     decoder.prefix() + tokens - 1};
    place.tokens = tokens;
    place.room = room;
    place.texts = texts;
    if (i + 1 == static_cast<int>(decoder.blocks.size())) place.head = decoder.head.get();
    if (state_levels.empty()) return place;
    const auto chunks = static_cast<size_t>(layout.chunks);
    place.cache_levels = state_levels.subspan(static_cast<size_t>(i) * chunks, chunks);
    return place;
  });
}

}  // namespace polyveil::compile
