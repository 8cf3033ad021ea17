#include "approx/goldschmidt.h"

#include "base/check.h"

namespace polyveil::approx {

LinearStart InverseLinearStart(double a, double b) {
  PV_CHECK(0 < a && a < b, "interval [{}, {}]", a, b);
  // 1 - x (slope x + offset) = T_2 scaled to be 1 at 0: the extremal quadratic.
  const double sum = a + b, denominator = a * a + 6 * a * b + b * b;
  return {-8 / denominator, 8 * sum / denominator, (b - a) * (b - a) / denominator};
}

double GoldschmidtInverse(double x, double a, double b, int steps) {
  const LinearStart start = InverseLinearStart(a, b);
  double y = start.slope * x + start.offset;
  double e = 1 - x * y;
  for (int i = 0; i < steps; ++i) {
    y *= 1 + e;
    e *= e;
  }
  return y;
}

int GoldschmidtSteps(double a, double b, double tolerance) {
  PV_CHECK(tolerance > 0, "tolerance {}", tolerance);
  int steps = 0;
  for (double error = InverseLinearStart(a, b).error; error > tolerance; error *= error) ++steps;
  return steps;
}

int GoldschmidtDepth(int steps) { return 1 + steps; }

}  // namespace polyveil::approx
