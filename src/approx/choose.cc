#include "approx/choose.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <tuple>

#include "approx/remez.h"

namespace polyveil::approx {
namespace {

constexpr int kMaxSeriesDepth = 7;  // degree 127: what a bundle may hold
constexpr int kMaxSteps = 20;
constexpr int kStartDepths[] = {1, 2, 3};

struct Problem {
  Target target;
  double a, b, shift;
  Budget budget;

  double order() const { return target == Target::kInverse ? 1 : 0.5; }
  double operator()(double x) const { return std::pow(x + shift, -order()); }
  double Weight(double x) const { return std::pow(x + shift, order()); }
  double RelativeError(const Approximant& p, double x) const {
    return std::abs(Weight(x) * p(x) - 1);
  }
};

Candidate Describe(const Problem& problem, std::string method, Approximant p) {
  Candidate out{std::move(method), std::move(p)};
  constexpr int kPoints = 2001;
  const double ratio = problem.b / problem.a;
  for (int i = 0; i < kPoints; ++i) {  // by ratio: the errors' peaks crowd at the small end
    const double x = problem.a * std::pow(ratio, static_cast<double>(i) / (kPoints - 1));
    out.error = std::max(out.error, problem.RelativeError(out.polynomial, x));
  }
  out.depth = out.polynomial.LevelDepth();
  out.products = out.polynomial.Products();
  out.beyond = std::max(problem.RelativeError(out.polynomial, 0.8 * problem.a),
                        problem.RelativeError(out.polynomial, 1.25 * problem.b));
  return out;
}

Result<Chebyshev> Remez(const Problem& problem, int degree) {
  PV_ASSIGN_OR_RETURN(const MinimaxFit fit, Minimax([&](double x) { return problem(x); },
                                                    [&](double x) { return problem.Weight(x); },
                                                    problem.a, problem.b, degree));
  return fit.series;
}

bool Fits(const Problem& problem, const Candidate& c) {
  return c.error <= problem.budget.error && c.depth <= problem.budget.depth;
}

auto Cost(const Candidate& c) { return std::tuple(c.depth, c.products, c.error); }

class Best {
 public:
  explicit Best(const Problem& problem) : problem_(problem) {}
  void Offer(Candidate c) {
    if (Fits(problem_, c) && (!best_ || Cost(c) < Cost(*best_))) best_ = std::move(c);
  }
  void Append(std::vector<Candidate>& out) {
    if (best_) out.push_back(std::move(*best_));
  }

 private:
  const Problem& problem_;
  std::optional<Candidate> best_;
};

void AppendSeries(const Problem& problem, std::vector<Candidate>& out) {
  Best remez(problem), interpolated(problem);
  for (int depth = 1; depth <= std::min(kMaxSeriesDepth, problem.budget.depth); ++depth) {
    const int degree = (1 << depth) - 1;
    if (auto fit = Remez(problem, degree); fit.ok())
      remez.Offer(Describe(problem, "remez", std::move(*fit)));
    interpolated.Offer(
        Describe(problem, "chebyshev",
                 Interpolate([&](double x) { return problem(x); }, problem.a, problem.b, degree)));
  }
  remez.Append(out);
  interpolated.Append(out);
}

Approximant Refined(const Problem& problem, const Chebyshev& start, Refinement refinement,
                    int steps) {
  Approximant p(start);
  p.refinement = refinement;
  p.order = problem.order();
  p.shift = problem.shift;
  p.steps = steps;
  return p;
}

void AppendSteps(const Problem& problem, Refinement refinement, std::vector<Candidate>& out) {
  Best best(problem);
  for (const int depth : kStartDepths) {
    const auto start = Remez(problem, (1 << depth) - 1);
    if (!start.ok()) continue;
    for (int steps = 1; steps <= kMaxSteps; ++steps) {
      Candidate c = Describe(problem, RefinementName(refinement),
                             Refined(problem, *start, refinement, steps));
      const bool enough = c.error <= problem.budget.error;
      best.Offer(std::move(c));
      if (enough) break;
    }
  }
  best.Append(out);
}

// c: minimax in relative error for (1 - e)^-order on the residues that the start leaves.
void AppendComposite(const Problem& problem, std::vector<Candidate>& out) {
  Best best(problem);
  const double order = problem.order();
  const auto f = [&](double e) { return std::pow(1 - e, -order); };
  const auto weight = [&](double e) { return std::pow(1 - e, order); };
  for (const int depth : kStartDepths) {
    const auto start = Remez(problem, (1 << depth) - 1);
    if (!start.ok()) continue;
    const double delta = std::abs(Describe(problem, "", *start).error);
    const double residue = order == 1 ? delta : delta * (2 + delta);
    if (!(residue < 0.999)) continue;
    for (int degree = 1; degree <= 15; degree = 2 * degree + 1) {
      const auto correction = Minimax(f, weight, -residue, residue, degree);
      if (!correction.ok()) continue;
      Approximant p = Refined(problem, *start, Refinement::kComposite, 0);
      p.correction = correction->series;
      best.Offer(Describe(problem, "composite", std::move(p)));
    }
  }
  best.Append(out);
}

}  // namespace

std::vector<Candidate> Candidates(Target target, double a, double b, double shift,
                                  const Budget& budget) {
  const Problem problem{target, a, b, shift, budget};
  std::vector<Candidate> out;
  AppendSeries(problem, out);
  AppendComposite(problem, out);
  if (target == Target::kInverse) AppendSteps(problem, Refinement::kGoldschmidt, out);
  AppendSteps(problem, Refinement::kNewton, out);
  return out;
}

Result<Candidate> Choose(const std::vector<Candidate>& candidates, double a, double b,
                         const Budget& budget) {
  const auto best = std::min_element(candidates.begin(), candidates.end(),
                                     [](const Candidate& x, const Candidate& y) {
                                       return std::tuple(x.depth, x.products, x.beyond) <
                                              std::tuple(y.depth, y.products, y.beyond);
                                     });
  if (best != candidates.end()) return *best;
  return MakeError(ErrorCode::kOutOfRange,
                   "no approximation on [{}, {}] has a relative error <= {} in {} levels", a, b,
                   budget.error, budget.depth);
}

Result<Candidate> SeriesOfDegree(Target target, double a, double b, double shift, int degree) {
  const Problem problem{target, a, b, shift, {}};
  PV_ASSIGN_OR_RETURN(Chebyshev series, Remez(problem, degree));
  return Describe(problem, "remez", std::move(series));
}

}  // namespace polyveil::approx
