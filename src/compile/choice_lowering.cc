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

double Digit(int token, int digit) {
  for (int i = 0; i < digit; ++i) token /= kDigitBase;
  return static_cast<double>(token % kDigitBase + 1) / kDigitBase;
}

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
    NodeId x = Logits();
    x = Standardised(x);
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

  // Logits without their mean divided by their bound, noise added: packed.
  NodeId Logits() {
    Enter(Component::kInput, "result");
    const NodeId input = b_.Input("residual", Log2(l_.width));
    b_.SetMostLevel(input, place_.residual_level);
    KeepResidual(input);
    Enter(Component::kNorm, "last norm");
    const NodeId x = Cut(b_.AddPlain("residual", input, {0}));
    const NodeId squares =
        b_.RotateSum("variance", b_.Square("squares", x), DoublingRotations(1, Log2(l_.width)));
    b_.SetPeriod(squares, 0);
    const double unit = place_.residual_unit;
    const NodeId root =
        LowerApproximant(b_, "inverse root", squares, unit * unit / tables_.width, forms_.norm);
    Enter(Component::kHead, "head");
    NodeId logits = b_.Mul("logits", Head(x), root);
    if (!tables_.bias.empty()) logits = b_.AddPlain("logits biased", logits, Bias());
    const NodeId noise = b_.State("noise", kNoiseState, log_period());
    b_.SetReal(noise, l_.parts == 1);
    logits = b_.Add("logits with noise", logits, noise);
    return Cut(logits);
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

  // x <- (x / deviation + low) / (low + high), packed.
  NodeId Standardised(NodeId x) {
    NextSegment(Component::kChoice, "standardise");
    const std::vector<NodeId> parts = Parts("logits", x);
    const NodeId sum = SumOfSquares(parts);
    const double bound = forms_.logit_bound, width = forms_.low + forms_.high;
    const NodeId root = Root(sum, 0.5 * bound * bound / tables_.vocabulary, forms_.deviation,
                             PartFactor() * bound / width);
    std::vector<NodeId> standard;
    for (size_t part = 0; part < parts.size(); ++part) {
      const double low = PartFactor() * forms_.low / width;
      const NodeId scaled = b_.Mul("scaled", parts[part], root);
      standard.push_back(b_.AddPlain(
          "one-sided", scaled, ByToken(l_, static_cast<int>(part), [&](int) { return low; })));
    }
    return Cut(Packed("standardised", standard));
  }

  // The 16th power, or of a normalised vector the third, normalised; packed. Normalised vectors
  // but the last are kCubed times as large, so that twice the sum of their cubes' squares is
  // theirs.
  NodeId Round(NodeId x, size_t round) {
    NextSegment(Component::kChoice, fmt::format("round {}", round));
    const bool first = round == 0, last = round + 1 == forms_.rounds.size();
    std::vector<NodeId> parts = Parts("values", x);
    for (NodeId& part : parts) part = first ? Sixteenth(part) : Cube(part);
    const double cubed = first ? 1 : kCubed * kCubed * kCubed;
    const NodeId root = Root(SumOfSquares(parts), first ? 0.5 : 1, forms_.rounds[round],
                             PartFactor() * (last ? 1 : kCubed) / cubed);
    for (NodeId& part : parts) part = b_.Mul("normalised", part, root);
    return Cut(Packed("normalised both", parts));
  }
  static constexpr double kCubed = 0.89089871814033930;  // 2^(-1/6)

  NodeId Sixteenth(NodeId x) {
    for (const char* name : {"square", "4th power", "8th power", "16th power"})
      x = b_.Square(name, x);
    return x;
  }

  NodeId Cube(NodeId x) { return b_.Mul("cube", b_.Square("square", x), x); }

  // factor p(unit sum) in every slot. What a bootstrap may hold lies in [0, 1], a factor above that
  // comes behind it.
  NodeId Root(NodeId sum, double unit, const approx::Approximant& p, double factor) {
    const RootScale scale(p, factor);
    constexpr double kLeast = 1e-3;  // below it a bootstrap's error is of the value's size
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

  NodeId CleanedUp(NodeId y) {
    const NodeId square = b_.Square("square", y);
    const NodeId cube = b_.Mul("cube", square, y);
    const NodeId three = b_.Add("three squares", b_.Add("two squares", square, square), square);
    return b_.Sub("cleaned", three, b_.Add("two cubes", cube, cube));
  }

  void Chosen(NodeId x) {
    NextSegment(Component::kChoice, "one-hot");
    std::vector<NodeId> parts = Parts("values", x);
    for (NodeId& part : parts)
      for (int i = 0; i < forms_.cleanups; ++i) part = Cut(CleanedUp(part));
    Enter(Component::kEmbedding, "embedding");
    TokenEmbedder embedder(b_, choice_, l_, place_);
    NodeId one_hot = parts.front();
    if (parts.size() > 1) {
      one_hot = b_.Add("one-hot", parts[0], b_.MulByI("other part", parts[1]));
      b_.SetReal(one_hot, false);
    }
    b_.graph().output = embedder.Placed(embedder.Embedding(one_hot), position_ + 1);
    Enter(Component::kChoice, "page");
    KeepDigits(parts);
  }

  // The slots of this token's block, of its first or second half or of both.
  Vector BlockMask(int first_half, int last_half) const {
    Vector mask(static_cast<size_t>(l_.slots));
    const int half = l_.block() / 2, begin = l_.place(position_) * l_.block();
    for (int s = begin + first_half * half; s < begin + (last_half + 1) * half; ++s)
      mask[static_cast<size_t>(s)] = 1;
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

  NodeId DigitSum(const std::vector<NodeId>& parts, const char* name, bool high) {
    NodeId sum = -1;
    for (size_t part = 0; part < parts.size(); ++part) {
      NodeId term = high ? Uncertain(parts[part], static_cast<int>(part))
                         : LowDigits(parts[part], static_cast<int>(part));
      sum = sum < 0 ? term : b_.Add(name, sum, term);
    }
    return SumOver(name, sum);
  }

  NodeId LowDigits(NodeId h, int part) {
    const NodeId low = b_.MulPlain("low digits", h, ByToken(l_, part, [](int token) {
                                     return Complex(Digit(token, 0), Digit(token, 1));
                                   }));
    b_.SetReal(low, false);
    return low;
  }

  // h digit2 + i h (1 - h).
  NodeId Uncertain(NodeId h, int part) {
    const NodeId rest = b_.Sub("uncertainty", h, b_.Square("one-hot squared", h));
    NodeId high = b_.MulByI("uncertainty times i", rest);
    const NodeId digit = b_.MulPlain(
        "high digits", h, ByToken(l_, part, [](int token) { return Complex(Digit(token, 2)); }));
    high = b_.Add("high digit", high, digit);
    b_.SetReal(high, false);
    return high;
  }

  void KeepDigits(const std::vector<NodeId>& parts) {
    const NodeId page = b_.State("digits", kDigitsState, place_.log_slots);
    b_.SetReal(page, false);
    const NodeId low =
        b_.MulPlain("low digits kept", DigitSum(parts, "low digits", false), BlockMask(0, 0));
    const NodeId high =
        b_.MulPlain("high digit kept", DigitSum(parts, "high digit", true), BlockMask(1, 1));
    Keep(kDigitsState, "page of digits", page, {low, high});
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
  const bool head = map.kind == MatrixKind::kVocabulary;
  const double halves = layout.parts == 1 ? 1 : 0.5;
  const double factor = halves * (head ? place.residual_unit / choice.forms.logit_bound
                                       : 1 / EmbeddingUnit(*choice.tables, place));
  const auto entry = [&choice, layout, head, factor](int s, int k) {
    return head ? HeadEntry(choice, layout, factor, s, k)
                : factor * EmbeddingEntry(*choice.tables, layout, s, k);
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
