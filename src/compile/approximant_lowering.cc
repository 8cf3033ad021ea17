#include "compile/approximant_lowering.h"

#include "base/check.h"

namespace polyveil::compile {

namespace {

using approx::Refinement;

NodeId Series(GraphBuilder& b, const std::string& name, NodeId x, double unit,
              const approx::Chebyshev& p) {
  return b.Polynomial(name, x, ArgumentFactor(unit, p), -(p.a + p.b) / (p.b - p.a), p.coeffs);
}

// factor (unit x + shift): one product, beside the start's evaluation.
NodeId Shifted(GraphBuilder& b, const std::string& name, NodeId x, double unit, double shift,
               double factor) {
  return b.AddPlain(name, b.MulPlain(name + " in its unit", x, {Complex(factor * unit)}),
                    {Complex(factor * shift)});
}

// 1 - z.
NodeId OneMinus(GraphBuilder& b, const std::string& name, NodeId negative) {
  return b.AddPlain(name, negative, {Complex(1)});
}

// Long iterations run on y a / 2, which stays in [-1, 1] like the residue, so that both may be
// bootstrapped every few steps.
NodeId Goldschmidt(GraphBuilder& b, const std::string& name, NodeId x, double unit,
                   const approx::Approximant& p) {
  constexpr int kStepsBetweenCuts = 4;
  const double y_unit = p.cuts() ? 0.5 * p.a : 1;
  approx::Chebyshev start = p;
  for (double& c : start.coeffs) c *= y_unit;
  NodeId y = Series(b, name + " start", x, unit, start);
  const NodeId minus_x = Shifted(b, name + " negative input", x, unit, p.shift, -1 / y_unit);
  NodeId e = OneMinus(b, name + " residue", b.Mul(name + " negative product", minus_x, y));
  for (int i = 0; i < p.steps; ++i) {
    const std::string step = fmt::format("{} step {}", name, i + 1);
    if (p.cuts() && i > 0 && i % kStepsBetweenCuts == 0) {
      for (const NodeId id : {y, e}) {
        b.SetMagnitude(id, 1);
        b.MarkCut(id);
      }
    }
    y = b.Add(step, y, b.Mul(step + " correction", y, e));
    if (i + 1 < p.steps) e = b.Square(step + " residue", e);
  }
  return p.cuts() ? b.MulPlain(name, y, {Complex(1 / y_unit)}) : y;
}

// y <- y (2 - x y), or y <- 3/2 y + (-x/2 y) y^2: two levels a step both.
NodeId Newton(GraphBuilder& b, const std::string& name, NodeId x, double unit, NodeId y,
              const approx::Approximant& p) {
  const bool root = p.order == 0.5;
  const NodeId minus_x = Shifted(b, name + " negative input", x, unit, p.shift, root ? -0.5 : -1);
  for (int i = 0; i < p.steps; ++i) {
    const std::string step = fmt::format("{} step {}", name, i + 1);
    const NodeId product = b.Mul(step + " product", minus_x, y);
    if (root) {
      const NodeId cube = b.Mul(step + " cube", product, b.Square(step + " square", y));
      y = b.Add(step, b.MulPlain(step + " three halves", y, {Complex(1.5)}), cube);
    } else {
      y = b.Mul(step, y, b.AddPlain(step + " factor", product, {Complex(2)}));
    }
  }
  return y;
}

// s(x) c(1 - (x + shift) s(x)^(1/order)).
NodeId Composite(GraphBuilder& b, const std::string& name, NodeId x, double unit, NodeId y,
                 const approx::Approximant& p) {
  const NodeId minus_x = Shifted(b, name + " negative input", x, unit, p.shift, -1);
  NodeId product = b.Mul(name + " negative product", minus_x, y);
  if (p.order == 0.5) product = b.Mul(name + " negative product of squares", product, y);
  NodeId residue = OneMinus(b, name + " residue", product);
  return b.Mul(name, y, Series(b, name + " correction", residue, 1, p.correction));
}

}  // namespace

double ArgumentFactor(double unit, const approx::Chebyshev& p) { return 2 * unit / (p.b - p.a); }

NodeId LowerApproximant(GraphBuilder& b, const std::string& name, NodeId x, double unit,
                        const approx::Approximant& p) {
  switch (p.refinement) {
    case Refinement::kNone:
      return Series(b, name, x, unit, p);
    case Refinement::kGoldschmidt:
      return Goldschmidt(b, name, x, unit, p);
    case Refinement::kNewton:
      return Newton(b, name, x, unit, Series(b, name + " start", x, unit, p), p);
    case Refinement::kComposite:
      return Composite(b, name, x, unit, Series(b, name + " start", x, unit, p), p);
  }
  PV_CHECK(false, "refinement {}", static_cast<int>(p.refinement));
}

}  // namespace polyveil::compile
