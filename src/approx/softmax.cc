#include "approx/softmax.h"

#include <cmath>
#include <optional>
#include <tuple>

#include "approx/remez.h"

namespace polyveil::approx {
namespace {

constexpr int kMaxSquarings = 16, kMaxDegree = 63, kMaxRounds = 8;
constexpr double kRoundMargin = 1.2;
constexpr double kInnerError = 0.08;  // (1 + 0.08)^2 stays inside the margin

}  // namespace

Result<ExponentialFit> FitExponential(double lo, double hi, double error, int squarings) {
  const double scale = std::ldexp(1.0, -squarings);
  const auto f = [=](double z) { return std::exp(z * scale); };
  const auto weight = [=](double z) { return std::exp(-z * scale); };
  for (int degree = 1; degree <= kMaxDegree; degree = 2 * degree + 1) {
    const auto fit = Minimax(f, weight, lo, hi, degree);
    if (!fit.ok()) continue;
    const double grown = std::pow(1 + fit->error, 1 / scale) - 1;
    if (grown <= error)
      return ExponentialFit{fit->series, squarings, grown, Depth(degree) + squarings};
  }
  return MakeError(ErrorCode::kOutOfRange,
                   "exp on [{}, {}] with {} squarings: no degree up to {} reaches {}", lo, hi,
                   squarings, kMaxDegree, error);
}

Result<ExponentialFit> FitExponential(double lo, double hi, double error) {
  std::optional<ExponentialFit> best;
  const auto cost = [](const ExponentialFit& f) {
    return std::tuple(f.depth, f.series.Products() + f.squarings);
  };
  for (int squarings = 0; squarings <= kMaxSquarings; ++squarings) {
    auto fit = FitExponential(lo, hi, error, squarings);
    if (fit.ok() && (!best || cost(*fit) < cost(*best))) best = *std::move(fit);
  }
  if (best) return *std::move(best);
  return MakeError(ErrorCode::kOutOfRange, "exp on [{}, {}] within {}: no fit", lo, hi, error);
}

namespace {

Result<Candidate> FitRound(double a, double b, double error) {
  const Budget budget{error, 16};
  return Choose(Candidates(Target::kInverseRoot, a, b, 0, budget), a, b, budget);
}

}  // namespace

Result<NormaliseSquareFit> FitNormaliseSquare(double lo, double hi, int keys, double error) {
  // Weights times the number of keys have mean 1, hence a mean square in [1, keys].
  const double a = 1 / kRoundMargin, b = keys * kRoundMargin;
  PV_ASSIGN_OR_RETURN(const Candidate inner, FitRound(a, b, kInnerError));
  PV_ASSIGN_OR_RETURN(const Candidate last, FitRound(a, b, error / 4));
  std::optional<NormaliseSquareFit> best;
  for (int rounds = 1; rounds <= kMaxRounds; ++rounds) {
    NormaliseSquareFit fit;
    const double power = std::ldexp(2.0, -rounds);
    const auto exponential = FitExponential(lo, hi, error / 2, rounds);
    const auto first =
        FitRound(std::exp(lo * power) / kRoundMargin, std::exp(hi * power) * kRoundMargin,
                 rounds == 1 ? error / 4 : kInnerError);
    if (!exponential.ok() || !first.ok()) continue;
    fit.exponential = *exponential;
    fit.rounds.assign(static_cast<std::size_t>(rounds), inner);
    fit.rounds.back() = last;
    fit.rounds.front() = *first;
    fit.depth = Depth(fit.exponential.series.degree()) + 1;
    for (const Candidate& round : fit.rounds) fit.depth += 4 + round.depth;
    if (!best || fit.depth < best->depth) best = std::move(fit);
  }
  if (best) return *std::move(best);
  return MakeError(ErrorCode::kOutOfRange,
                   "normalise-and-square on [{}, {}], {} keys, within {}: no fit", lo, hi, keys,
                   error);
}

}  // namespace polyveil::approx
