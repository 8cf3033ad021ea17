#include "circuits/chebyshev.h"

#include <cmath>
#include <optional>

#include "circuits/level_modulus.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;

// Runs one plan on one ciphertext. Scales are exact: every constant gets the scale that its sum needs.
class PlanRunner {
 public:
  PlanRunner(const ckks::Evaluator& evaluator, const Ciphertext& u)
      : evaluator_(evaluator), top_level_(u.level) {
    basis_[1] = u;
    basis_[1].scale /= 2;  // the same words stand for C_1 = 2 u
  }

  Status BuildBasis(const ChebyshevPlan& plan) {
    for (const auto& [k, split] : plan.basis) PV_RETURN_IF_ERROR(AddBasis(k, split.first, split.second));
    return {};
  }

  // The node's value at level top - depth - 1 and exactly `scale`.
  Result<Ciphertext> Run(const ChebyshevNode& node, double scale) {
    const int level = top_level_ - node.depth;
    const double sum_scale = scale * LevelModulus(evaluator_.params(), level);
    PV_ASSIGN_OR_RETURN(std::optional<Ciphertext> sum, Products(node, level, sum_scale));
    for (const auto& [k, coefficient] : node.terms) {
      PV_ASSIGN_OR_RETURN(Ciphertext term, Term(k, coefficient, level, sum_scale));
      PV_RETURN_IF_ERROR(Accumulate(sum, std::move(term)));
    }
    if (!sum) {
      PV_ASSIGN_OR_RETURN(sum, Term(1, 0, level, sum_scale));
    }
    return Finish(std::move(*sum), scale, node.constant);
  }

 private:
  Status AddBasis(int k, int a, int b) {
    const int level = std::min(basis_.at(a).level, basis_.at(b).level);
    PV_ASSIGN_OR_RETURN(Ciphertext product, Multiply(basis_.at(a), basis_.at(b), level));
    PV_ASSIGN_OR_RETURN(product, evaluator_.Relinearize(product));
    const double scale = product.scale;
    if (a != b) {
      PV_ASSIGN_OR_RETURN(Ciphertext difference, Term(a - b, 1, level, scale));
      PV_RETURN_IF_ERROR(evaluator_.SubInplace(product, difference));
    }
    PV_ASSIGN_OR_RETURN(basis_[k], Finish(std::move(product),
                                          scale / LevelModulus(evaluator_.params(), level),
                                          a == b ? -2 : 0));
    return {};
  }

  Result<std::optional<Ciphertext>> Products(const ChebyshevNode& node, int level, double scale) {
    std::optional<Ciphertext> sum;
    for (const auto& [quotient, giant] : node.products) {
      const Ciphertext& power = basis_.at(giant);
      PV_ASSIGN_OR_RETURN(Ciphertext value, Run(quotient, scale / power.scale));
      PV_ASSIGN_OR_RETURN(Ciphertext product, Multiply(value, power, level));
      product.scale = scale;
      PV_RETURN_IF_ERROR(Accumulate(sum, std::move(product)));
    }
    if (!sum) return sum;
    PV_ASSIGN_OR_RETURN(Ciphertext relinearized, evaluator_.Relinearize(*sum));
    return std::optional<Ciphertext>(std::move(relinearized));
  }

  Result<Ciphertext> Multiply(const Ciphertext& a, const Ciphertext& b, int level) const {
    PV_ASSIGN_OR_RETURN(const Ciphertext x, AtLevel(a, level));
    PV_ASSIGN_OR_RETURN(const Ciphertext y, AtLevel(b, level));
    return evaluator_.MulNoRelin(x, y);
  }

  Result<Ciphertext> AtLevel(const Ciphertext& a, int level) const {
    Ciphertext result = a;
    if (level < a.level) PV_RETURN_IF_ERROR(evaluator_.DropLevelInplace(result, level));
    return result;
  }

  // coefficient * C_k at exactly (level, scale).
  Result<Ciphertext> Term(int k, double coefficient, int level, double scale) const {
    const double constant_scale = scale / basis_.at(k).scale;
    if (!(std::fabs(coefficient) * constant_scale < 0x1p62)) {
      return MakeError(ErrorCode::kOutOfRange,
                       "Chebyshev coefficient {} times scale 2^{:.1f} is not below 2^62", coefficient,
                       std::log2(constant_scale));
    }
    PV_ASSIGN_OR_RETURN(const Ciphertext x, AtLevel(basis_.at(k), level));
    Ciphertext term = evaluator_.MulConstant(x, coefficient, constant_scale);
    term.scale = scale;
    return term;
  }

  Status Accumulate(std::optional<Ciphertext>& sum, Ciphertext term) const {
    if (sum) return evaluator_.AddInplace(*sum, term);
    sum = std::move(term);
    return {};
  }

  Result<Ciphertext> Finish(Ciphertext sum, double scale, double constant) const {
    PV_RETURN_IF_ERROR(evaluator_.RescaleInplace(sum));
    sum.scale = scale;
    return constant == 0 ? std::move(sum) : evaluator_.AddConstant(sum, constant);
  }

  const ckks::Evaluator& evaluator_;
  int top_level_;
  std::map<int, Ciphertext> basis_;
};

Status CheckArguments(const Ciphertext& u, size_t count) {
  if (count == 0 || count > kMaxChebyshevDegree + 1) {
    return MakeError(ErrorCode::kInvalidArgument, "{} Chebyshev coefficients, need 1..{}", count,
                     kMaxChebyshevDegree + 1);
  }
  const int depth = ChebyshevDepth(static_cast<int>(count) - 1);
  if (u.level < depth) {
    return MakeError(ErrorCode::kOutOfRange, "ciphertext level {} < depth {} of a degree-{} polynomial",
                     u.level, depth, count - 1);
  }
  return {};
}

}  // namespace

Result<Ciphertext> EvaluateChebyshev(const ckks::Evaluator& evaluator, const Ciphertext& u,
                                     std::span<const double> coeffs, double output_scale) {
  PV_RETURN_IF_ERROR(CheckArguments(u, coeffs.size()));
  if (coeffs.size() == 1) {
    Ciphertext zero = evaluator.MulConstant(u, 0, 1);
    zero.scale = output_scale;
    return evaluator.AddConstant(zero, coeffs[0]);
  }
  const ChebyshevPlan plan = PlanChebyshev(coeffs);
  PlanRunner runner(evaluator, u);
  PV_RETURN_IF_ERROR(runner.BuildBasis(plan));
  return runner.Run(plan.root, output_scale);
}

}  // namespace polyveil::circuits
