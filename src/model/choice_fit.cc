// The rounds of a choice in float64, and their polynomials from what logits show.
#include <algorithm>
#include <cmath>
#include <random>

#include "approx/bounded_root.h"
#include "approx/range.h"
#include "approx/remez.h"
#include "base/thread_pool.h"
#include "model/choice.h"

namespace polyveil::model {
namespace {

constexpr int kSquarings = 4;  // the 16th power
// A norm below 1 takes its 12th power from a weight: the last one's is to stay. The others' is what
// two series of degree 15 reach on kLeastSum's ratio: a level more and the vector does not last.
constexpr double kRootTolerance = 0.5, kLastTolerance = 0.05;
// Of a normalised vector's squares, noise included.
constexpr double kMostNorm = 1.02;
// A one-sided value's zero lies below the mean by so much of the largest one at least: what is
// raised to a power would span too much otherwise.
constexpr double kLeastLow = 0.9;
// Of a sum's interval, least to largest. Sums below belong to ties of hundreds of tokens, and in
// the last round, behind a norm of one half, of a dozen: undecided.
constexpr double kLeastSum = 1e-6, kLeastLastSum = 2e-4;

double SumOfSquares(std::span<const double> values) {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return sum;
}

void Standardise(const ChoiceForms& forms, std::span<const double> logits, std::span<double> u) {
  const double deviation =
      forms.deviation(SumOfSquares(logits) / static_cast<double>(logits.size()));
  const double width = forms.low + forms.high;
  for (size_t v = 0; v < u.size(); ++v) u[v] = (logits[v] * deviation + forms.low) / width;
}

void Raise(std::span<double> u) {
  for (double& v : u)
    for (int i = 0; i < kSquarings; ++i) v *= v;
}

// u <- (factor u)^3.
void Cube(std::span<double> u, double factor) {
  for (double& v : u) v = std::pow(factor * v, 3);
}

// x sum over i of binomial(2i, i) (1 - x^2)^i / 4^i, up to i = 7.
double Cleaned(double x) {
  double term = 1, sum = 0;
  for (int i = 0; i < 8; ++i) {
    sum += term;
    term *= (1 - x * x) * (2 * i + 1) / (2 * i + 2);
  }
  return x * sum;
}

// Rows of logits on their way through the rounds.
class Fitting {
 public:
  Fitting(const ChoiceTables& tables, std::span<const std::vector<double>> residuals,
          const ChoiceFit& options)
      : options_(options) {
    std::mt19937_64 random(options.seed);
    Seed seed{};
    for (size_t i = 0; i < residuals.size(); ++i) {
      squares_.Add(SumOfSquares(residuals[i]) / tables.width);
      rows_.push_back(CentredLogits(tables, residuals[i]));
      if (options.temperature == 0 || i % 2 == 0) continue;
      const double share = std::uniform_real_distribution<double>(0, 1)(random);
      const auto noise =
          ChoiceNoise(seed, i, tables.vocabulary, options.temperature * std::sqrt(share));
      for (size_t v = 0; v < noise.size(); ++v) rows_.back()[v] += noise[v];
    }
    forms_.temperature = options.temperature;
    forms_.tokens = residuals.size();
    forms_.cleanups = options.cleanups;
    forms_.tables = tables.digest;
    norm_eps_ = tables.norm_eps;
  }

  Result<ChoiceForms> Run() {
    PV_RETURN_IF_ERROR(FitNorm());
    PV_RETURN_IF_ERROR(FitDeviation());
    for (int round = 0; round < options_.rounds; ++round) PV_RETURN_IF_ERROR(FitRound(round));
    return std::move(forms_);
  }

 private:
  Status FitNorm() {
    const approx::Range range = approx::WithRatioMargin(squares_, options_.margin);
    constexpr int kDegree = 7;
    PV_ASSIGN_OR_RETURN(const auto fit,
                        approx::Minimax([&](double v) { return 1 / std::sqrt(v + norm_eps_); },
                                        [&](double v) { return std::sqrt(v + norm_eps_); },
                                        range.lo, range.hi, kDegree));
    forms_.norm = fit.series;
    return {};
  }

  Status FitDeviation() {
    approx::Range variance, value;
    for (const auto& row : rows_) {
      variance.Add(SumOfSquares(row) / static_cast<double>(row.size()));
      for (const double logit : row) value.Add(std::abs(logit));
    }
    forms_.logit_bound = value.hi * std::sqrt(options_.margin);
    const approx::Range range = approx::WithRatioMargin(variance, options_.margin);
    PV_ASSIGN_OR_RETURN(forms_.deviation, approx::BoundedInverseRoot(range.lo, range.hi, 0.05));
    approx::Range standard;
    for (auto& row : rows_) {
      forms_.low = forms_.high = 1;
      std::vector<double> x(row.size());
      Standardise(forms_, row, x);
      for (const double v : x) standard.Add(2 * v - 1);
    }
    const double ends = 0.5 * (1 + std::sqrt(options_.margin));
    forms_.low = std::max(-standard.lo, kLeastLow * standard.hi) * ends;
    forms_.high = standard.hi * ends;
    for (auto& row : rows_) {
      Standardise(forms_, std::vector<double>(row), row);
      Raise(row);
    }
    return {};
  }

  // A sum of squares behind the first round is at most 1: the norm of what was cubed is.
  Status FitRound(int round) {
    const bool last = round + 1 == options_.rounds;
    approx::Range sums;
    for (const auto& row : rows_) sums.Add(SumOfSquares(row));
    // 32nd powers: a margin of 6% for values of the first round is one of 7 for their sum.
    const double high = round == 0 ? sums.hi * std::pow(options_.margin, 5) : kMostNorm;
    const double low = std::max(sums.lo / (options_.margin * options_.margin),
                                high * (last ? kLeastLastSum : kLeastSum));
    PV_ASSIGN_OR_RETURN(
        auto root, approx::BoundedInverseRoot(low, high, last ? kLastTolerance : kRootTolerance));
    for (auto& row : rows_) Cube(row, root(SumOfSquares(row)));
    forms_.rounds.push_back(std::move(root));
    return {};
  }

  const ChoiceFit options_;
  std::vector<std::vector<double>> rows_;
  approx::Range squares_;
  double norm_eps_ = 0;
  ChoiceForms forms_;
};

}  // namespace

std::vector<double> ChoiceWeights(const ChoiceForms& forms, std::span<const double> logits) {
  std::vector<double> u(logits.size());
  Standardise(forms, logits, u);
  Raise(u);
  for (const approx::Approximant& round : forms.rounds) Cube(u, round(SumOfSquares(u)));
  for (double& v : u) v = std::pow(v, 4);
  return u;
}

std::vector<double> ChoiceBits(const ChoiceForms& forms, std::span<const double> weights) {
  std::vector<double> bits(static_cast<size_t>(TokenBits(static_cast<int>(weights.size()))));
  for (size_t bit = 0; bit < bits.size(); ++bit) {
    for (size_t token = 0; token < weights.size(); ++token)
      bits[bit] += weights[token] * TokenBit(static_cast<int>(token), static_cast<int>(bit));
    for (int i = 0; i < forms.cleanups; ++i) bits[bit] = BitCleanup()(kBitRoom * bits[bit]);
  }
  return bits;
}

const approx::Chebyshev& BitCleanup() {
  static const approx::Chebyshev series = [] {
    constexpr int kTerms = 16;  // of degree 15: exact
    approx::Chebyshev p;
    p.a = -kMostBit;
    p.b = kMostBit;
    p.coeffs.resize(kTerms);
    for (int k = 1; k < kTerms; k += 2)
      for (int i = 0; i < kTerms; ++i) {
        const double angle = M_PI * (i + 0.5) / kTerms;
        p.coeffs[static_cast<size_t>(k)] +=
            2.0 / kTerms * Cleaned(kMostBit * std::cos(angle)) * std::cos(k * angle);
      }
    return p;
  }();
  return series;
}

Result<ChoiceForms> FitChoice(const ChoiceTables& tables,
                              std::span<const std::vector<double>> residuals,
                              const ChoiceFit& options) {
  if (residuals.empty() || options.rounds < 1)
    return MakeError(ErrorCode::kInvalidArgument, "a choice of {} rounds fitted to {} tokens",
                     options.rounds, residuals.size());
  return Fitting(tables, residuals, options).Run();
}

}  // namespace polyveil::model
