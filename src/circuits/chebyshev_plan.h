// How to evaluate a polynomial in the Chebyshev basis at optimal depth: which basis elements, which
// products. Plain arithmetic; chebyshev.cc runs a plan on ciphertexts.
//
// The basis is C_0 = 1, C_k = 2 T_k (k >= 1): C_(a+b) = C_a C_b - C_|a-b| (C_0 read as 2 there)
// needs no doubling. A node stands for a polynomial: constant + sum terms + sum_i quotient_i
// C_(n_i), all sums before one relinearisation and one rescale. Its `depth` t is the number of
// levels consumed before that rescale; every basis element in it has depth ceil(log2 k) <= t and
// every quotient is a node of depth t - 1. Source: Paterson, Stockmeyer 1973; Bossuat et al.,
// ePrint 2020/1203, section 5.
#pragma once

#include <map>
#include <span>
#include <vector>

namespace polyveil::circuits {

struct ChebyshevNode {
  struct Product;

  int depth = 0;
  double constant = 0;
  std::map<int, double> terms;  // k -> coefficient of C_k
  std::vector<Product> products;
};

struct ChebyshevNode::Product {
  ChebyshevNode quotient;
  int giant = 0;  // times C_giant
};

struct ChebyshevPlan {
  ChebyshevNode root;
  // k >= 2 -> (a, b), k = a + b, in increasing order of k; |a - b| is 0, 1 or in the basis.
  std::map<int, std::pair<int, int>> basis;
  int relinearizations = 0;
  double cost = 0;  // in relinearised products
};

// Multiplicative depth of a degree-d evaluation: ceil(log2(d + 1)).
int ChebyshevDepth(int degree);

// The cheapest plan whose result has consumed exactly ChebyshevDepth(coeffs.size() - 1) >= 1
// levels.
ChebyshevPlan PlanChebyshev(std::span<const double> coeffs);

double EvaluatePlan(const ChebyshevPlan& plan, double u);

}  // namespace polyveil::circuits
