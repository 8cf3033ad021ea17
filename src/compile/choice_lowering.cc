#include "compile/choice_lowering.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "compile/approximant_lowering.h"
#include "compile/graph_builder.h"
#include "compile/layout.h"
#include "compile/real_map.h"
#include "compile/token_embedding.h"

namespace polyveil::compile {
namespace {

using Vector = std::vector<Complex>;

// value(token) at the slots of the vocabulary: the first part's as the real part.
template <typename F>
Vector ByToken(const ChoiceLayout& l, int part, F&& value) {
  Vector slots(static_cast<size_t>(l.period));
  for (int s = 0; s < l.period; ++s)
    if (const int token = l.TokenAt(s, part); token >= 0)
      slots[static_cast<size_t>(s)] = value(token);
  return slots;
}

// Of what is raised to weights: the noise of their sums is to be small beside those of near ties,
// which are the fifth power of one over the number of tokens. A weight stands in kWeightUnit.
constexpr std::int64_t kRaised = 3;
constexpr double kWeightUnit = 1.0 / (kRaised * kRaised * kRaised * kRaised);

// An inverse root whose values, times `factor`, need an integer to leave [0, 1].
struct RootScale {
  std::int64_t integer;
  double series;  // what the values are multiplied by before it

  RootScale(const approx::Approximant& p, double factor)
      : integer(std::max<std::int64_t>(1, std::llround(std::ceil(factor / std::sqrt(p.a))))),
        series(factor / static_cast<double>(integer)) {}
};

class ChoiceLowering {
 public:
  ChoiceLowering(const Choice& choice, const ChoiceLayout& layout, const ChoicePlace& place,
                 int position)
      : choice_(choice),
        forms_(choice.forms),
        tables_(*choice.tables),
        l_(layout),
        place_(place),
        position_(position),
        b_(place.log_slots) {}

  Graph Run() {
    NodeId x = OneSided();
    for (size_t round = 0; round < forms_.rounds.size(); ++round) x = Round(x, round);
    Chosen(x);
    return std::move(b_.graph());
  }

 private:
  void Enter(Component component, const std::string& part) {
    b_.Enter(segment_, component, "choice / " + part + " / ");
  }

  void NextSegment(Component component, const std::string& part) {
    ++segment_;
    Enter(component, part);
  }

  int log_period() const { return Log2(l_.period); }

  // A value that the planner may bootstrap.
  NodeId Cut(NodeId x) {
    b_.SetMagnitude(x, 1);
    b_.MarkCut(x);
    return x;
  }

  // Both parts of a vector over the vocabulary as one, halved where there are two.
  NodeId Packed(const std::string& name, const std::vector<NodeId>& parts) {
    if (parts.size() == 1) return parts.front();
    const NodeId sum = b_.Add(name, parts[0], b_.MulByI(name + " times i", parts[1]));
    b_.SetReal(sum, false);
    return sum;
  }

  // Twice each part of a complex vector.
  std::vector<NodeId> Parts(const std::string& name, NodeId x) {
    if (l_.parts == 1) return {x};
    const NodeId conjugate = b_.Conjugate(name + " conjugate", x);
    const NodeId real = b_.Add(name + " real", x, conjugate);
    const NodeId other = b_.MulByI(name + " imaginary", b_.Sub(name + " difference", conjugate, x));
    b_.SetReal(real, true);
    b_.SetReal(other, true);
    return {real, other};
  }

  double PartFactor() const { return l_.parts == 1 ? 1 : 0.5; }

  NodeId SumOver(const std::string& name, NodeId x) {
    const NodeId sum = b_.RotateSum(name, x, DoublingRotations(1, log_period()));
    b_.SetPeriod(sum, 0);
    return sum;
  }

  // Twice it. Without an imaginary part: a phase of the values would be tripled by every cube, and
  // a polynomial from below is no analytic inverse root that takes it back.
  NodeId SumOfSquares(const std::vector<NodeId>& parts) {
    NodeId sum = b_.Square("squares", parts.front());
    if (parts.size() > 1)
      sum = b_.Add("squares of both", sum, b_.Square("other squares", parts[1]));
    sum = SumOver("sum of squares", sum);
    return b_.Add("sums of squares", sum, b_.Conjugate("sum of squares conjugate", sum));
  }

  // (logit / deviation + low) / (low + high), packed.
  NodeId OneSided() {
    Enter(Component::kInput, "result");
    const NodeId input = b_.Input("residual", Log2(l_.width));
    b_.SetMostLevel(input, place_.residual_level);
    KeepResidual(input);
    Enter(Component::kNorm, "last norm");
    const NodeId x = Cut(b_.AddPlain("residual", input, {0}));
    const NodeId norm = Norm(x);
    Enter(Component::kHead, "head");
    const NodeId products = Head(x);
    const NodeId added = Added();
    Enter(Component::kChoice, "standardise");
    const NodeId logits = b_.Add("logits", b_.Mul("normalised", products, norm), added);
    const double bound = forms_.logit_bound, width = forms_.low + forms_.high;
    const NodeId root =
        Root(SumOfSquares(Parts("logits", logits)), 0.5 * bound * bound / tables_.vocabulary,
             forms_.deviation, bound / width);
    // The products by both factors at once: a level less than the logits by the root.
    const NodeId scaled = b_.Mul("scaled", products, b_.Mul("both factors", norm, root));
    const NodeId standard = b_.Add("standardised", scaled, b_.Mul("scaled noise", added, root));
    const double low = PartFactor() * forms_.low / width;
    Vector constant(static_cast<size_t>(l_.period));
    for (int s = 0; s < l_.period; ++s)
      constant[static_cast<size_t>(s)] = {l_.TokenAt(s, 0) < 0 ? 0 : low,
                                          l_.parts == 1 || l_.TokenAt(s, 1) < 0 ? 0 : low};
    const NodeId one_sided = b_.AddPlain("one-sided", standard, std::move(constant));
    b_.SetReal(one_sided, l_.parts == 1);
    return Cut(one_sided);
  }

  NodeId Norm(NodeId x) {
    const NodeId squares =
        b_.RotateSum("variance", b_.Square("squares", x), DoublingRotations(1, Log2(l_.width)));
    b_.SetPeriod(squares, 0);
    const double unit = place_.residual_unit;
    return Root(squares, unit * unit / tables_.width, forms_.norm, 1);
  }

  // What stands beside the head's products: noise, and what the last norm adds.
  NodeId Added() {
    const NodeId noise = b_.State("noise", kNoiseState, log_period());
    b_.SetReal(noise, l_.parts == 1);
    return tables_.bias.empty() ? noise : b_.AddPlain("noise and bias", noise, Bias());
  }

  NodeId Head(NodeId x) {
    LinearMap map = ChoiceMap(MatrixKind::kVocabulary);
    if (l_.parts > 1) return b_.Linear("head products", x, std::move(map), false);
    const NodeId products = LowerRealMap(b_, "head products", x, std::move(map));
    b_.SetPeriod(products, log_period());
    return WholeOfReal(b_, "head", products);
  }

  LinearMap ChoiceMap(MatrixKind kind) const {
    LinearMap map;
    map.terms = l_.width;
    map.kind = kind;
    map.layer = segment_;
    map.period = l_.period < l_.slots ? l_.period : 0;
    return map;
  }

  Vector Bias() const { return ChoiceNoiseSlots(choice_, l_, tables_.bias); }

  // The cube of what the 16th power, or the round before, has left, normalised; packed. A round
  // leaves 1 / sqrt(2) of it, so that twice the sum of squares is the sum.
  NodeId Round(NodeId x, size_t round) {
    NextSegment(Component::kChoice, fmt::format("round {}", round));
    const bool first = round == 0;
    std::vector<NodeId> parts = Parts("values", x);
    if (first)
      for (NodeId& part : parts) part = Sixteenth(part);
    const NodeId root = Root(SumOfSquares(parts), first ? 0.5 : 1, forms_.rounds[round],
                             std::cbrt(PartFactor() * (first ? std::sqrt(0.5) : 2)));
    const NodeId cube = b_.Mul("root cubed", b_.Square("root squared", root), root);
    for (NodeId& part : parts)
      part = b_.Mul("cubed", b_.Square("squared", part), b_.Mul("scaled", part, cube));
    return Cut(Packed("normalised", parts));
  }

  NodeId Sixteenth(NodeId x) {
    for (const char* name : {"square", "4th power", "8th power", "16th power"})
      x = b_.Square(name, x);
    return x;
  }

  // factor p(unit sum) in every slot. What a bootstrap may hold lies in [0, 1], a factor above that
  // comes behind it.
  NodeId Root(NodeId sum, double unit, const approx::Approximant& p, double factor) {
    const RootScale scale(p, factor);
    constexpr double kLeast = 2e-4;  // where a bootstrap's error is a tenth of the value
    if (unit == 1 && p.a >= kLeast) Cut(sum);
    const NodeId root = p.refinement == approx::Refinement::kComposite
                            ? Composite(sum, unit, p, scale.series)
                            : Series("inverse root", sum, unit, p, scale.series);
    Cut(root);
    return scale.integer == 1 ? root : b_.Times("inverse root in its unit", root, scale.integer);
  }

  NodeId Series(const std::string& name, NodeId x, double unit, const approx::Chebyshev& p,
                double factor) {
    std::vector<double> coeffs = p.coeffs;
    for (double& c : coeffs) c *= factor;
    return b_.Polynomial(name, x, ArgumentFactor(unit, p), -(p.a + p.b) / (p.b - p.a), coeffs);
  }

  // The start in units of 1/sqrt(a), so that it and the residue may be bootstrapped.
  NodeId Composite(NodeId sum, double unit, const approx::Approximant& p, double factor) {
    const double start_unit = std::sqrt(p.a);
    const NodeId start = Series("start", sum, unit, p, start_unit);
    // A constant that a word does not hold: its integer part comes first, and costs nothing.
    const double whole = std::ceil(unit / p.a);
    const NodeId times = b_.Times("input in its unit", sum, std::llround(whole));
    const NodeId negative = b_.MulPlain("negative input", times, {Complex(-unit / p.a / whole)});
    const NodeId product = b_.Mul("negative product", negative, b_.Square("start squared", start));
    const NodeId residue = Cut(b_.AddPlain("residue", product, {1}));
    const NodeId correction = Series("correction", residue, 1, p.correction, factor / start_unit);
    return b_.Mul("inverse root", start, correction);
  }

  // A quarter of the weights in their unit, by token; their sums, and the choice's bits.
  void Chosen(NodeId x) {
    NextSegment(Component::kChoice, "bits");
    std::vector<NodeId> parts = Parts("values", x);
    for (NodeId& part : parts) part = b_.Times("values in their unit", part, kRaised);
    for (NodeId& part : parts) part = b_.Square("half of their squares", part);
    const NodeId sum = b_.Times("sum of weights", SumOfSquares(parts), 2);
    for (NodeId& part : parts) part = b_.Square("quarter of the weights", part);
    const NodeId squares = b_.Times("sum of squares of weights", SumOfSquares(parts), 8);
    NodeId bits = Cut(LowerByToken(b_, "bits", l_, MatrixKind::kTokenBits, l_.bit_period,
                                   Packed("weights", parts)));
    const approx::Chebyshev& cleanup = model::BitCleanup();
    std::vector<double> room = cleanup.coeffs;
    for (double& c : room) c *= model::kBitRoom;
    for (int i = 0; i < forms_.cleanups; ++i) {
      const bool last = i + 1 == forms_.cleanups;
      bits = b_.Polynomial("bits cleaned", bits, ArgumentFactor(1, cleanup), 0,
                           last ? cleanup.coeffs : room);
      if (!last) Cut(bits);
    }
    Enter(Component::kEmbedding, "embedding");
    TokenEmbedder embedder(b_, choice_, l_, place_);
    b_.graph().outputs = {
        embedder.Placed(embedder.Embedding(embedder.OneHot(bits)), position_ + 1)};
    Enter(Component::kChoice, "page");
    KeepBits(bits, sum, squares);
  }

  // The slots of this token's block, of its first or second half or of both.
  Vector BlockMask(int first_half, int last_half, double factor = 1) const {
    Vector mask(static_cast<size_t>(l_.slots));
    const int half = l_.block() / 2, begin = l_.place(position_) * l_.block();
    for (int s = begin + first_half * half; s < begin + (last_half + 1) * half; ++s)
      mask[static_cast<size_t>(s)] = factor;
    return mask;
  }

  void Keep(int state, const char* name, NodeId kept, const std::vector<NodeId>& added) {
    for (const NodeId id : added) kept = b_.Add(name, kept, id);
    b_.graph().updates.push_back({state, kept});
  }

  void KeepResidual(NodeId input) {
    const NodeId page = b_.State("residuals", kResidualsState, place_.log_slots);
    const NodeId kept = b_.MulPlain("residual kept", input, BlockMask(0, 1));
    Keep(kResidualsState, "page of residuals", page, {kept});
  }

  void KeepBits(NodeId bits, NodeId sum, NodeId squares) {
    const NodeId page = b_.State("bits", kBitsState, place_.log_slots);
    b_.SetReal(page, false);
    const NodeId kept =
        b_.MulPlain("sum of squares kept", squares, BlockMask(1, 1, kWeightUnit * kWeightUnit));
    Keep(kBitsState, "page of bits", page,
         {b_.MulPlain("bits kept", bits, BlockMask(0, 0)),
          b_.MulPlain("sum kept", sum, BlockMask(1, 1, kWeightUnit)), b_.MulByI("times i", kept)});
  }

  const Choice& choice_;
  const model::ChoiceForms& forms_;
  const model::ChoiceTables& tables_;
  const ChoiceLayout& l_;
  const ChoicePlace& place_;
  const int position_;
  GraphBuilder b_;
  int segment_ = 0;
};

// Entry s of term k: the head's row at slot s, the column of slot s + k.
Complex HeadEntry(const Choice& choice, const ChoiceLayout& l, double factor, int s, int k) {
  const int column = (s + k) & (l.width - 1);
  if (column >= choice.tables->width) return 0;
  const auto at = [&](int part) {
    const int token = l.TokenAt(s, part);
    return token < 0 ? 0.0 : factor * choice.tables->HeadRow(token)[static_cast<size_t>(column)];
  };
  return {at(0), l.parts > 1 ? at(1) : 0};
}

}  // namespace

Graph LowerChoice(const Choice& choice, const ChoiceLayout& layout, const ChoicePlace& place,
                  int position) {
  return ChoiceLowering(choice, layout, place, position).Run();
}

std::vector<Complex> ChoiceNoiseSlots(const Choice& choice, const ChoiceLayout& layout,
                                      std::span<const double> noise) {
  const double factor = (layout.parts == 1 ? 1 : 0.5) / choice.forms.logit_bound;
  const auto part = [&](int p) {
    return ByToken(layout, p,
                   [&](int token) { return noise[static_cast<size_t>(token)] * factor; });
  };
  Vector slots = part(0);
  if (layout.parts == 1) return slots;
  const Vector other = part(1);
  for (size_t s = 0; s < slots.size(); ++s) slots[s] += Complex(0, 1) * other[s];
  return slots;
}

MapDiagonals ChoiceDiagonals(const LinearMap& map, const Choice& choice, const ChoiceLayout& layout,
                             const ChoicePlace& place) {
  const double halves = layout.parts == 1 ? 1 : 0.5;
  const double unit = map.kind == MatrixKind::kEmbedding ? EmbeddingUnit(*choice.tables, place) : 1;
  const auto entry = [&choice, place, layout, halves, unit, kind = map.kind](int s,
                                                                             int k) -> Complex {
    switch (kind) {
      case MatrixKind::kVocabulary:
        return HeadEntry(choice, layout, halves * place.residual_unit / choice.forms.logit_bound, s,
                         k);
      case MatrixKind::kEmbedding:
        return ByTokenAndColumn(layout, layout.width, s, k, [&](int token, int column) {
          if (column >= choice.tables->width) return 0.0;
          return halves / unit * choice.tables->EmbeddingRow(token)[static_cast<size_t>(column)];
        });
      default:  // of quarters of weights in their unit
        return ByTokenAndColumn(layout, layout.bit_period, s, k, [&](int token, int bit) {
          return bit < layout.bits
                     ? kWeightUnit * 4 * model::kBitRoom * halves * model::TokenBit(token, bit)
                     : 0.0;
        });
    }
  };
  return MapDiagonals([map, layout, entry](int k) {
    Vector diagonal(static_cast<size_t>(layout.period));
    for (int s = 0; s < layout.period; ++s) {
      Complex value = entry(s, k);
      if (map.packed) {
        const Complex other = entry(s, k + map.terms);
        value = {0.5 * (value.real() + other.imag()), 0.5 * (value.imag() - other.real())};
      }
      diagonal[static_cast<size_t>(s)] = value;
    }
    return diagonal;
  });
}

}  // namespace polyveil::compile
