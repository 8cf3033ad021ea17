#include "circuits/chebyshev.h"

#include <cmath>
#include <optional>

#include "circuits/level_modulus.h"

namespace polyveil::circuits {
namespace {

using ckks::Ciphertext;

// Runs one plan on one ciphertext. Scales are exact: every constant gets the scale that its sum
// needs.
class PlanRunner {
 public:
  struct Mask {
    const ckks::Encoder& encoder;
    std::span<const ckks::Complex> values;
  };

  PlanRunner(const ckks::Evaluator& evaluator, const Ciphertext& u)
      : evaluator_(evaluator), top_level_(u.level) {
    // C_1 = 2 u at u's own scale; halving the scale instead would cost C_(2^k) 2^k bits.
    basis_[1] = evaluator.MulInteger(u, 2);
  }

  Status BuildBasis(const ChebyshevPlan& plan) {
    for (const auto& [k, split] : plan.basis)
      PV_RETURN_IF_ERROR(AddBasis(k, split.first, split.second));
    return {};
  }

  // The node's value at level top - depth - 1 and exactly `scale`.
  Result<Ciphertext> Run(const ChebyshevNode& node, double scale) {
    const int level = top_level_ - node.depth;
    const double sum_scale = scale * LevelModulus(evaluator_.params(), level);
    PV_ASSIGN_OR_RETURN(std::optional<Ciphertext> sum, Products(node, sum_scale, nullptr));
    if (!sum) {
      PV_ASSIGN_OR_RETURN(sum, Zero(level, sum_scale));
    }
    for (const auto& [k, coefficient] : node.terms)
      PV_RETURN_IF_ERROR(AddTerm(*sum, k, coefficient));
    return Finish(std::move(*sum), scale, node.constant);
  }

  // The same times the mask.
  Result<Ciphertext> RunMasked(const ChebyshevNode& node, double scale, const Mask& mask) {
    const int level = top_level_ - node.depth;
    const double sum_scale = scale * LevelModulus(evaluator_.params(), level);
    PV_ASSIGN_OR_RETURN(std::optional<Ciphertext> sum, Products(node, sum_scale, &mask));
    PV_ASSIGN_OR_RETURN(Ciphertext terms, MaskedTerms(node, level, sum_scale, mask));
    if (sum) {
      PV_RETURN_IF_ERROR(evaluator_.AddInplace(*sum, terms));
    } else {
      sum = std::move(terms);
    }
    PV_ASSIGN_OR_RETURN(const Ciphertext result, Finish(std::move(*sum), scale, 0));
    PV_ASSIGN_OR_RETURN(const ckks::Plaintext constant,
                        Encode(mask, node.constant, result.level, scale));
    return evaluator_.AddPlain(result, constant);
  }

 private:
  static Result<ckks::Plaintext> Encode(const Mask& mask, double factor, int level, double scale) {
    std::vector<ckks::Complex> values(mask.values.begin(), mask.values.end());
    for (auto& value : values) value *= factor;
    return mask.encoder.Encode(values, level, scale);
  }

  Result<Ciphertext> MaskedTerms(const ChebyshevNode& node, int level, double scale,
                                 const Mask& mask) const {
    std::vector<Ciphertext> powers;
    std::vector<ckks::Plaintext> plains;
    for (const auto& [k, coefficient] : node.terms) {
      powers.push_back(basis_.at(k));
      PV_RETURN_IF_ERROR(evaluator_.DropLevelInplace(powers.back(), level));
      PV_ASSIGN_OR_RETURN(ckks::Plaintext plain,
                          Encode(mask, coefficient, level, scale / powers.back().scale));
      plains.push_back(std::move(plain));
    }
    if (powers.empty()) return Zero(level, scale);
    std::vector<const Ciphertext*> a;
    std::vector<const ckks::Plaintext*> b;
    for (size_t i = 0; i < powers.size(); ++i) a.push_back(&powers[i]), b.push_back(&plains[i]);
    PV_ASSIGN_OR_RETURN(Ciphertext sum, evaluator_.MulPlainSum(a, b));
    sum.scale = scale;
    return sum;
  }

  Status AddBasis(int k, int a, int b) {
    const Ciphertext &x = basis_.at(a), &y = basis_.at(b);
    PV_ASSIGN_OR_RETURN(Ciphertext product,
                        a == b ? evaluator_.SquareNoRelin(x) : evaluator_.MulNoRelin(x, y));
    if (a != b) PV_RETURN_IF_ERROR(AddTerm(product, a - b, -1));
    const double scale = product.scale / LevelModulus(evaluator_.params(), product.level);
    PV_ASSIGN_OR_RETURN(basis_[k], Finish(std::move(product), scale, a == b ? -2 : 0));
    return {};
  }

  Result<std::optional<Ciphertext>> Products(const ChebyshevNode& node, double scale,
                                             const Mask* mask) {
    std::optional<Ciphertext> sum;
    for (const auto& [quotient, giant] : node.products) {
      const Ciphertext& power = basis_.at(giant);
      PV_ASSIGN_OR_RETURN(const Ciphertext value,
                          mask ? RunMasked(quotient, scale / power.scale, *mask)
                               : Run(quotient, scale / power.scale));
      if (sum) {
        PV_RETURN_IF_ERROR(evaluator_.MulAccumulateNoRelin(*sum, value, power));
      } else {
        PV_ASSIGN_OR_RETURN(sum, evaluator_.MulNoRelin(value, power));
        sum->scale = scale;
      }
    }
    return sum;
  }

  Result<Ciphertext> Zero(int level, double scale) const {
    Ciphertext u = basis_.at(1);
    PV_RETURN_IF_ERROR(evaluator_.DropLevelInplace(u, level));
    Ciphertext zero = evaluator_.MulConstant(u, 0, 1);
    zero.scale = scale;
    return zero;
  }

  Status AddTerm(Ciphertext& sum, int k, double coefficient) const {
    const Ciphertext& power = basis_.at(k);
    const double constant_scale = sum.scale / power.scale;
    if (!(std::fabs(coefficient) * constant_scale < 0x1p62)) {
      return MakeError(ErrorCode::kOutOfRange,
                       "Chebyshev coefficient {} times scale 2^{:.1f} is not below 2^62",
                       coefficient, std::log2(constant_scale));
    }
    return evaluator_.MulConstantAccumulate(sum, power, coefficient);
  }

  Result<Ciphertext> Finish(Ciphertext sum, double scale, double constant) const {
    if (sum.degree() > 1) {
      PV_ASSIGN_OR_RETURN(sum, evaluator_.RelinearizeRescale(sum));
    } else {
      PV_RETURN_IF_ERROR(evaluator_.RescaleInplace(sum));
    }
    sum.scale = scale;
    if (constant != 0) evaluator_.AddConstantInplace(sum, constant);
    return sum;
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
    return MakeError(ErrorCode::kOutOfRange,
                     "ciphertext level {} < depth {} of a degree-{} polynomial", u.level, depth,
                     count - 1);
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

Result<MaskedPair> EvaluateChebyshevMasked(const ckks::Evaluator& evaluator,
                                           const ckks::Encoder& encoder, const Ciphertext& u,
                                           std::span<const double> coeffs,
                                           std::span<const ckks::Complex> mask,
                                           double output_scale) {
  PV_RETURN_IF_ERROR(CheckArguments(u, coeffs.size()));
  const ChebyshevPlan plan = PlanChebyshev(coeffs);
  PlanRunner runner(evaluator, u);
  PV_RETURN_IF_ERROR(runner.BuildBasis(plan));
  MaskedPair pair;
  PV_ASSIGN_OR_RETURN(pair.plain, runner.Run(plan.root, output_scale));
  PV_ASSIGN_OR_RETURN(pair.masked, runner.RunMasked(plan.root, output_scale, {encoder, mask}));
  return pair;
}

}  // namespace polyveil::circuits
