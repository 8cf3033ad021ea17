#include "ckks/digit_plan.h"

#include <algorithm>
#include <numeric>

#include "ckks/parameters.h"

namespace polyveil::ckks {
namespace {

double Sum(const std::vector<double>& values, int count) {
  return std::accumulate(values.begin(), values.begin() + count, 0.0);
}

// Whether P exceeds every digit: a digit has at least one prime, which may be larger than a short
// P.
bool Covers(const DigitPlanInput& input, const DigitPlan& plan, int limbs, int special) {
  const double log_p = Sum(input.log_p, special);
  double below = 0;
  for (const int end : plan.ends[special]) {
    const double log_q = Sum(input.log_q, std::min(end, limbs));
    if (log_q - below > log_p) return false;
    below = log_q;
  }
  return true;
}

// Fewest digits, then fewest special primes, within the bound; 0 when nothing fits.
int BestSpecial(const DigitPlanInput& input, const DigitPlan& plan, int limbs) {
  const double log_q = Sum(input.log_q, limbs);
  int best = 0;
  for (int special = 1; special < static_cast<int>(plan.ends.size()); ++special) {
    if (log_q + Sum(input.log_p, special) > input.max_log_qp) break;
    if (!Covers(input, plan, limbs, special)) continue;
    if (best == 0 || plan.digits(limbs, special) < plan.digits(limbs, best)) best = special;
  }
  return best;
}

}  // namespace

int DigitPlan::digits(int limbs, int special) const {
  const std::vector<int>& e = ends[special];
  return static_cast<int>(std::lower_bound(e.begin(), e.end(), limbs) - e.begin()) + 1;
}

std::vector<int> PackDigits(std::span<const double> log_q, double log_p) {
  std::vector<int> ends;
  double digit = 0;
  for (size_t j = 0; j < log_q.size(); ++j) {
    if (j > 0 && digit + log_q[j] > log_p) {
      ends.push_back(static_cast<int>(j));
      digit = 0;
    }
    digit += log_q[j];
  }
  ends.push_back(static_cast<int>(log_q.size()));
  return ends;
}

DigitPlan ChooseDigits(const DigitPlanInput& input) {
  DigitPlan plan;
  plan.ends.emplace_back();
  for (size_t special = 1; special <= input.log_p.size(); ++special)
    plan.ends.push_back(PackDigits(input.log_q, Sum(input.log_p, static_cast<int>(special))));
  plan.special.assign(input.limbs.size(), input.top_special);
  for (int level = static_cast<int>(input.limbs.size()) - 2; level >= 0; --level) {
    const int limbs = input.limbs[level], above = plan.special[level + 1];
    const int best = BestSpecial(input, plan, limbs);
    const bool starts = std::ranges::find(input.tops, level) != input.tops.end();
    const bool similar = plan.digits(limbs, above) <= plan.digits(limbs, best ? best : above) &&
                         5 * above <= std::max(6 * best, 5 * (best + 1));
    plan.special[level] = best == 0 || (similar && !starts) ? above : best;
  }
  return plan;
}

double KeySwitchCost(const Parameters& params, int level, int special) {
  // One multiply-accumulate of a base conversion, and one of a key product, per limb: measured as
  // ratios to a transform.
  constexpr double kConversion = 0.06, kProduct = 0.35;
  const double limbs = params.limbs(level), extended = limbs + special;
  const double digits = params.digits(level, special);
  const double transforms = digits * extended + 2 * extended;  // ModUp and ModDown
  const double conversions = limbs * (extended - limbs / digits) + 2 * special * limbs;
  return transforms + kConversion * conversions + kProduct * 2 * digits * extended;
}

}  // namespace polyveil::ckks
