#include "circuits/chebyshev_plan.h"

#include <bit>
#include <cmath>

#include "base/check.h"

namespace polyveil::circuits {
namespace {

// Costs relative to a relinearised and rescaled product, measured at 25 limbs.
constexpr double kProductCost = 1.0, kTensorCost = 0.2, kRelinearizeCost = 0.65;
constexpr double kRescaleCost = 0.15, kTermCost = 0.03;

int Depth(int k) { return ChebyshevDepth(k - 1); }  // of C_k: ceil(log2 k)

int Degree(const std::vector<double>& d) {
  int degree = static_cast<int>(d.size()) - 1;
  while (degree > 0 && d[degree] == 0) --degree;
  return degree;
}

bool IsLeaf(const std::vector<double>& d, int depth, int baby) {
  const int degree = Degree(d);
  return degree <= 1 || (degree < baby && Depth(degree) <= depth);
}

// d = quotient * C_n + d', in place; n <= degree < 2n. C_k = C_n C_(k-n) - C_(2n-k) for n < k < 2n.
std::vector<double> Divide(std::vector<double>& d, int n) {
  std::vector<double> quotient(Degree(d) - n + 1);
  for (int k = Degree(d); k >= n; --k) {
    quotient[k - n] = d[k];
    if (k > n) d[2 * n - k] -= d[k];
    d[k] = 0;
  }
  return quotient;
}

ChebyshevNode BuildNode(std::vector<double> d, int depth, int baby) {
  ChebyshevNode node;
  node.depth = depth;
  while (!IsLeaf(d, depth, baby)) {
    const int giant = static_cast<int>(std::bit_floor(static_cast<unsigned>(Degree(d))));
    PV_CHECK(Depth(giant) <= depth, "C_{} at depth {}", giant, depth);
    std::vector<double> quotient = Divide(d, giant);
    if (Degree(quotient) == 0) {
      node.terms[giant] += quotient[0];
    } else {
      node.products.push_back({BuildNode(std::move(quotient), depth - 1, baby), giant});
    }
  }
  node.constant = d[0];
  for (int k = 1; k <= Degree(d); ++k) {
    if (d[k] != 0) node.terms[k] += d[k];
  }
  return node;
}

void AddBasis(int k, ChebyshevPlan& plan) {
  if (k < 2 || plan.basis.contains(k)) return;
  const int power = static_cast<int>(std::bit_ceil(static_cast<unsigned>(k)) / 2);
  plan.basis[k] = {power, k - power};
  for (const int other : {power, k - power, 2 * power - k}) AddBasis(other, plan);
}

void Account(const ChebyshevNode& node, ChebyshevPlan& plan) {
  plan.cost += kRescaleCost + kTermCost * static_cast<double>(node.terms.size());
  for (const auto& [k, coefficient] : node.terms) AddBasis(k, plan);
  for (const auto& product : node.products) {
    AddBasis(product.giant, plan);
    Account(product.quotient, plan);
    plan.cost += kTensorCost;
  }
  if (!node.products.empty()) {
    plan.cost += kRelinearizeCost;
    ++plan.relinearizations;
  }
}

ChebyshevPlan PlanWithBaby(const std::vector<double>& d, int depth, int baby) {
  ChebyshevPlan plan;
  plan.root = BuildNode(d, depth - 1, baby);
  Account(plan.root, plan);
  plan.relinearizations += static_cast<int>(plan.basis.size());
  plan.cost += kProductCost * static_cast<double>(plan.basis.size());
  return plan;
}

double EvaluateNode(const ChebyshevNode& node, const std::map<int, double>& basis) {
  double sum = node.constant;
  for (const auto& [k, coefficient] : node.terms) sum += coefficient * basis.at(k);
  for (const auto& [quotient, giant] : node.products)
    sum += EvaluateNode(quotient, basis) * basis.at(giant);
  return sum;
}

}  // namespace

int ChebyshevDepth(int degree) { return std::bit_width(static_cast<unsigned>(degree)); }

ChebyshevPlan PlanChebyshev(std::span<const double> coeffs) {
  PV_CHECK(coeffs.size() >= 2, "{} coefficients", coeffs.size());
  const int degree = static_cast<int>(coeffs.size()) - 1;
  std::vector<double> d(coeffs.begin(), coeffs.end());
  for (int k = 1; k <= degree; ++k) d[k] /= 2;
  ChebyshevPlan best;
  for (int baby = 2; baby <= std::max(2, 2 * degree); baby *= 2) {
    ChebyshevPlan plan = PlanWithBaby(d, ChebyshevDepth(degree), baby);
    if (baby == 2 || plan.cost < best.cost) best = std::move(plan);
  }
  return best;
}

double EvaluatePlan(const ChebyshevPlan& plan, double u) {
  std::map<int, double> basis{{0, 2.0}, {1, 2 * u}};
  for (const auto& [k, split] : plan.basis)
    basis[k] = basis[split.first] * basis[split.second] - basis[split.first - split.second];
  return EvaluateNode(plan.root, basis);
}

}  // namespace polyveil::circuits
