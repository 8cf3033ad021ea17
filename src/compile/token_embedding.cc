#include "compile/token_embedding.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "compile/layout.h"
#include "compile/real_map.h"

namespace polyveil::compile {

using Slots = std::vector<Complex>;

double EmbeddingUnit(const model::ChoiceTables& tables, const ChoicePlace& place) {
  double largest = place.input_unit;
  for (const float value : tables.embedding)
    largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

// What the bit leaves that stands `shift` slots on: (1 +- bit) / 2, and of the one that tells the
// parts apart (1 + bit) / 2 + i (1 - bit) / 2. Bits that no token has leave all.
NodeId TokenEmbedder::Factor(NodeId bits, int shift) {
  const int log_period = Log2(l_.period);
  Slots factor(static_cast<size_t>(l_.period)), rest(factor.size());
  for (int s = 0; s < l_.period; ++s) {
    const int bit = (s + shift) % l_.bit_period;
    const auto at = static_cast<size_t>(s);
    if (bit == log_period && l_.parts > 1) {
      factor[at] = {0.5, -0.5};
      rest[at] = {0.5, 0.5};
    } else if (bit < l_.bits) {
      factor[at] = 0.5 * model::TokenBit(s, bit);
      rest[at] = 0.5;
    } else {
      rest[at] = 1;
    }
  }
  const NodeId moved =
      shift == 0 ? bits : b_.Rotate(fmt::format("bits moved by {}", shift), bits, shift);
  return b_.AddPlain(fmt::format("left by bit {}", shift),
                     b_.MulPlain(fmt::format("half of bit {}", shift), moved, std::move(factor)),
                     std::move(rest));
}

NodeId TokenEmbedder::OneHot(NodeId bits) {
  std::vector<NodeId> factors;
  for (int shift = 0; shift < l_.bit_period; ++shift) factors.push_back(Factor(bits, shift));
  while (factors.size() > 1) {
    for (size_t i = 0; i < factors.size() / 2; ++i)
      factors[i] = b_.Mul(fmt::format("left by {} bits", 2 * l_.bit_period / factors.size()),
                          factors[2 * i], factors[2 * i + 1]);
    factors.resize(factors.size() / 2);
  }
  return factors.front();
}

NodeId LowerByToken(GraphBuilder& b, const std::string& name, const ChoiceLayout& l,
                    MatrixKind kind, int columns, NodeId by_token) {
  LinearMap map;
  map.terms = columns;
  map.kind = kind;
  map.layer = 0;
  map.period = l.period < l.slots ? l.period : 0;
  const NodeId products = l.parts > 1
                              ? b.Linear(name + " products", by_token, std::move(map), false)
                              : LowerRealMap(b, name + " products", by_token, std::move(map));
  const int log_period = Log2(l.period), log_columns = Log2(columns);
  b.SetPeriod(products, log_period);
  const NodeId sum =
      b.RotateSum(name + " sums", products, DoublingRotations(columns, log_period - log_columns));
  b.SetPeriod(sum, log_columns);
  return WholeOfReal(b, name, sum);
}

NodeId TokenEmbedder::Embedding(NodeId one_hot) {
  const NodeId sum = LowerByToken(b_, "embedding", l_, MatrixKind::kEmbedding, l_.width, one_hot);
  b_.SetMagnitude(sum, 1);
  b_.MarkCut(sum);
  return sum;
}

NodeId TokenEmbedder::Placed(NodeId embedding, int position) {
  const double unit = EmbeddingUnit(tables_, place_);
  if (unit != place_.input_unit)
    embedding = b_.ChangeUnit("embedding in its unit", embedding, unit / place_.input_unit);
  const NodeId next = b_.AddPlain("next token", embedding, PositionOf(position));
  b_.SetLeastLevel(next, place_.input_level);
  b_.SetMark(next, Mark::kResult);
  return next;
}

Slots TokenEmbedder::PositionOf(int position) const {
  if (tables_.positions.empty()) return {0};
  Slots slots(static_cast<size_t>(l_.width));
  const auto width = static_cast<size_t>(tables_.width);
  const size_t row = static_cast<size_t>(position + place_.prefix) * width;
  for (size_t c = 0; c < width && row + c < tables_.positions.size(); ++c)
    slots[c] = tables_.positions[row + c] / place_.input_unit;
  return slots;
}

namespace {

// The slots of a token's block of a message.
Slots BlockMask(const ChoiceLayout& layout, int position) {
  Slots mask(static_cast<size_t>(layout.slots));
  const auto begin = static_cast<std::ptrdiff_t>(position % layout.message()) * layout.bit_period;
  std::fill_n(mask.begin() + begin, layout.bit_period, 1);
  return mask;
}

}  // namespace

Graph LowerPromptToken(const Choice& choice, const ChoiceLayout& layout, const ChoicePlace& place,
                       int position) {
  GraphBuilder b(place.log_slots);
  b.Enter(0, Component::kInput, "prompt / ");
  const NodeId message = b.Input("bits of tokens", place.log_slots);
  const NodeId one = b.MulPlain("bits of one token", message, BlockMask(layout, position));
  const int log_bits = Log2(layout.bit_period);
  const NodeId bits =
      b.RotateSum("bits", one, DoublingRotations(layout.bit_period, place.log_slots - log_bits));
  b.SetPeriod(bits, log_bits);
  b.Enter(0, Component::kEmbedding, "prompt / ");
  TokenEmbedder embedder(b, choice, layout, place);
  const NodeId embedding = embedder.Embedding(embedder.OneHot(bits));
  b.graph().outputs = {embedder.Placed(embedding, position)};
  return std::move(b.graph());
}

}  // namespace polyveil::compile
