#include "circuits/bsgs.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <set>

namespace polyveil::circuits {
namespace {

int FloorTo(int value, int step) {
  const int remainder = value % step;
  return value - (remainder < 0 ? remainder + step : remainder);
}

BsgsSplit SplitAt(std::span<const int> indices, int mask, int giant_step) {
  BsgsSplit split;
  for (const int index : indices) {
    const int value = index & mask;  // mask -1 keeps the sign
    const int giant = FloorTo(value, giant_step);
    split.giants[giant][value - giant] = index;
  }
  return split;
}

// Seconds in units of one transform of a limb, measured at 26 limbs: a limb of a key's product 0.42
// (it streams the key), an element-wise multiply-accumulate of both components 0.4 (it expands the
// plaintext); a giant step is a key switch.
struct Costs {
  double baby, giant, diagonal;
};

Costs CostsAt(const ckks::Parameters& params, int level) {
  const double extended = params.extended_limbs(level), digits = params.digits(level);
  const double key_memory = 0.3 * extended;  // a little against needless keys
  return {0.84 * digits * extended + key_memory,
          ckks::KeySwitchCost(params, level, params.special_primes(level)) + key_memory,
          0.4 * extended};
}

double Cost(const BsgsSplit& split, const Costs& costs) {
  double sum = 0;
  for (const int baby : split.Babies()) sum += baby != 0 ? costs.baby : 0;
  for (const auto& [giant, babies] : split.giants) {
    sum += giant != 0 ? costs.giant : 0;
    sum += costs.diagonal * static_cast<double>(babies.size());
  }
  return sum;
}

}  // namespace

std::vector<int> BsgsSplit::Babies() const {
  std::set<int> babies;
  for (const auto& [giant, row] : giants)
    for (const auto& [baby, index] : row) babies.insert(baby);
  return {babies.begin(), babies.end()};
}

std::vector<int> BsgsSplit::NonzeroRotations() const {
  std::set<int> rotations;
  for (const int baby : Babies()) rotations.insert(baby);
  for (const auto& [giant, row] : giants) rotations.insert(giant);
  rotations.erase(0);
  return {rotations.begin(), rotations.end()};
}

BsgsSplit SplitRotations(const ckks::Parameters& params, std::span<const int> indices,
                         int log_period, int level, int baby_steps) {
  int stride = 0;
  for (const int index : indices) stride = std::gcd(stride, std::abs(index));
  if (stride == 0) return SplitAt(indices, -1, 1);
  const Costs costs = CostsAt(params, level);
  BsgsSplit best;
  double best_cost = 0;
  const int count = static_cast<int>(indices.size());
  for (const int mask : {-1, (1 << log_period) - 1}) {
    const int first = baby_steps > 0 ? baby_steps : 1, last = baby_steps > 0 ? baby_steps : count;
    for (int babies = first; babies <= last; ++babies) {
      BsgsSplit split = SplitAt(indices, mask, babies * stride);
      const double cost = Cost(split, costs);
      if (best.giants.empty() || cost < best_cost) best = std::move(split), best_cost = cost;
    }
  }
  return best;
}

}  // namespace polyveil::circuits
