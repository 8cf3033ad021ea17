// From a token's bits (compile/choice_layout.h) to the input of its step: the one-hot over the
// vocabulary's slots as the product of what each bit leaves, the embedding's rows, the position.
#pragma once

#include <string>

#include "compile/choice_lowering.h"
#include "compile/graph_builder.h"

namespace polyveil::compile {

class TokenEmbedder {
 public:
  // Everything given outlives it. part: what the nodes' names begin with.
  TokenEmbedder(GraphBuilder& builder, const Choice& choice, const ChoiceLayout& layout,
                const ChoicePlace& place)
      : b_(builder), tables_(*choice.tables), l_(layout), place_(place) {}

  // bits: of period layout.bit_period. One at the token's slot, zero elsewhere; of two parts the
  // first as the real part and the other one as the imaginary one. Bits of others than 1 and -1
  // give the products of (1 +- bit) / 2. Depth: 1 + log2(bit_period).
  NodeId OneHot(NodeId bits);
  // The embedding of a one-hot in that unit, which a bootstrap may hold. Depth: 1.
  NodeId Embedding(NodeId one_hot);
  // The same as the input of the step at this position.
  NodeId Placed(NodeId embedding, int position);

 private:
  NodeId Factor(NodeId bits, int shift);
  std::vector<Complex> PositionOf(int position) const;

  GraphBuilder& b_;
  const model::ChoiceTables& tables_;
  const ChoiceLayout& l_;
  const ChoicePlace& place_;
};

// The embedding's values in the loop's unit, or in a larger one that they all fit.
double EmbeddingUnit(const model::ChoiceTables& tables, const ChoicePlace& place);

// A map from values by token to `columns` values, a power of two, whose real part is the sum over
// rotations by their multiples: entry s of term k is value(token at slot s + k, column of slot s);
// of two parts what makes the real part of the product the sum of both.
template <typename F>
Complex ByTokenAndColumn(const ChoiceLayout& layout, int columns, int s, int k, F&& value) {
  const auto at = [&](int part) {
    const int token = layout.TokenAt((s + k) & (layout.period - 1), part);
    return token < 0 ? 0.0 : value(token, s & (columns - 1));
  };
  return {at(0), layout.parts > 1 ? -at(1) : 0};
}

// Such a map's value in every slot; of a map of many terms and of two parts half of it, which
// WholeOfReal makes whole.
NodeId LowerByToken(GraphBuilder& b, const std::string& name, const ChoiceLayout& layout,
                    MatrixKind kind, int columns, NodeId by_token);

}  // namespace polyveil::compile
