#include "circuits/chebyshev_noise.h"

#include <cmath>
#include <map>

#include "circuits/chebyshev_plan.h"
#include "circuits/level_modulus.h"

namespace polyveil::circuits {
namespace {

// A value and its derivatives by the sources of error, each source scaled to deviation 1.
struct Sensitive {
  double value = 0;
  std::vector<double> by_source;

  // this += factor * other
  void Accumulate(const Sensitive& other, double factor) {
    value += factor * other.value;
    if (by_source.size() < other.by_source.size()) by_source.resize(other.by_source.size());
    for (size_t i = 0; i < other.by_source.size(); ++i) by_source[i] += factor * other.by_source[i];
  }
  // this += a * b
  void AccumulateProduct(const Sensitive& a, const Sensitive& b) {
    const double product = a.value * b.value;
    Accumulate(a, b.value);
    Accumulate(b, a.value);
    value -= product;  // counted twice
  }
};

// The plan on one value of u, step by step as chebyshev.cc runs it.
class Propagation {
 public:
  Propagation(const ckks::NoiseEstimator& estimator, int level, double scale, double input_error,
              double u)
      : estimator_(estimator), top_level_(level), next_source_(1) {
    basis_[1] = {level, scale, {2 * u, {2 * input_error}}};
  }

  void BuildBasis(const ChebyshevPlan& plan) {
    for (const auto& [k, split] : plan.basis) {
      const auto& [a, b] = split;
      const Element &x = basis_.at(a), &y = basis_.at(b);
      const int level = std::min(x.level, y.level);
      const double sum_scale = x.scale * y.scale;
      Sensitive value;
      value.AccumulateProduct(x.value, y.value);
      if (a == b) {
        value.value -= 2;
      } else {
        value.Accumulate(basis_.at(a - b).value, -1);
      }
      const double scale = sum_scale / LevelModulus(estimator_.params(), level);
      Finish(value, level, sum_scale, scale, true);
      basis_[k] = {level - 1, scale, std::move(value)};
    }
  }

  Sensitive Run(const ChebyshevNode& node, double scale) {
    const int level = top_level_ - node.depth;
    const double sum_scale = scale * LevelModulus(estimator_.params(), level);
    Sensitive sum;
    for (const auto& [quotient, giant] : node.products) {
      const Element& power = basis_.at(giant);
      sum.AccumulateProduct(Run(quotient, sum_scale / power.scale), power.value);
    }
    for (const auto& [k, coefficient] : node.terms) sum.Accumulate(basis_.at(k).value, coefficient);
    sum.value += node.constant;
    Finish(sum, level, sum_scale, scale, !node.products.empty());
    return sum;
  }

 private:
  struct Element {
    int level;
    double scale;
    Sensitive value;
  };

  // Relinearisation and rescale: a new source.
  void Finish(Sensitive& value, int level, double sum_scale, double scale, bool relinearized) {
    double error = estimator_.Rounding(scale);
    if (relinearized) error = std::hypot(error, estimator_.KeyProducts(level, sum_scale));
    value.by_source.resize(std::max(value.by_source.size(), next_source_ + 1));
    value.by_source[next_source_++] = error;
  }

  const ckks::NoiseEstimator& estimator_;
  int top_level_;
  size_t next_source_;
  std::map<int, Element> basis_;
};

}  // namespace

std::vector<double> ChebyshevErrors(const ckks::NoiseEstimator& estimator, int level, double scale,
                                    double input_error, std::span<const double> coeffs,
                                    double output_scale, std::span<const double> samples) {
  const ChebyshevPlan plan = PlanChebyshev(coeffs);
  std::vector<double> errors;
  for (const double u : samples) {
    Propagation propagation(estimator, level, scale, input_error, u);
    propagation.BuildBasis(plan);
    double variance = 0;
    for (const double part : propagation.Run(plan.root, output_scale).by_source)
      variance += part * part;
    errors.push_back(std::sqrt(variance));
  }
  return errors;
}

}  // namespace polyveil::circuits
