// The polynomial inside EvalMod: 2 cos(2 pi (x - 1/4) / 2^r), fitted only where x can lie, close to
// integers. Source: Han, Ki 2020, ePrint 2019/688 (double angles, fit on small intervals); ours are
// even polynomials in x - 1/4, which halves the products, found by Lawson's iteration in long
// double.
#pragma once

#include <vector>

namespace polyveil::circuits {

// Result: p(u) = sum_k coeffs[k] T_k(u), u = (x - 1/4) / half_width, only even k present.
struct CosineFit {
  int degree = 0;
  int double_angles = 0;
  double half_width = 1;
  std::vector<double> coeffs;
};

struct CosineFitSpec {
  int degree = 28;  // even
  int double_angles = 3;
  int integer_bound = 16;       // |I| <= (h + 1) / 2: no input can lie beyond
  double epsilon = 1.5 / 1024;  // |x - I|
  // Errors may grow by 2^relaxation per integer beyond core: such |I| occur with probability <
  // 2^-40.
  int core = 12;
  double relaxation = 1.5;
};

// Deterministic; a few milliseconds.
CosineFit FitCosine(const CosineFitSpec& spec);

// sin(2 pi x) as EvalMod computes it: the polynomial, then double_angles times y -> y^2 - 2,
// halved.
double EvaluateSine(const CosineFit& fit, double x);

}  // namespace polyveil::circuits
