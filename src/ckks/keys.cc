#include "ckks/keys.h"

#include <set>
#include <string>

namespace polyveil::ckks {
namespace {

constexpr int kSpecialIndex = 128;
constexpr int kEncapsulationIndex = 255;

Status CheckPresent(const std::optional<KeySwitchKey>& key, const char* name) {
  if (key) return {};
  return MakeError(ErrorCode::kMissingKey, "no {} key", name);
}

// The fastest key of those that reach `level`; `what` names it in errors.
Result<const KeySwitchKey*> Find(const Parameters& params, const std::map<int, KeySwitchKey>& keys,
                                 const std::string& what, int level, int special) {
  if (keys.empty())
    return MakeError(ErrorCode::kMissingKey, "no {} key (needed at level {})", what, level);
  const KeySwitchKey* best = nullptr;
  double best_cost = 0;
  for (auto entry = keys.lower_bound(level); entry != keys.end(); ++entry) {
    const int primes = params.special_primes(entry->first);
    if (special > 0 && primes != special) continue;
    const double cost = KeySwitchCost(params, level, primes);
    if (best == nullptr || cost < best_cost) best = &entry->second, best_cost = cost;
  }
  if (best) return best;
  const int highest = keys.rbegin()->first;
  if (highest < level)
    return MakeError(ErrorCode::kMissingKey, "{} key reaches level {} < needed {}", what, highest,
                     level);
  return MakeError(ErrorCode::kMissingKey,
                   "{} key of level {} has {} special primes, needed {} (at level {})", what,
                   highest, params.special_primes(highest), special, level);
}

}  // namespace

KeyShape ShapeOf(const Parameters& params, KeyKind kind, int level) {
  KeyShape shape;
  const auto add = [&](const ring::NttTables& table, int index) {
    shape.tables.push_back(&table);
    shape.chain_indices.push_back(index);
  };
  if (kind == KeyKind::kToSparse) level = 0;
  if (kind == KeyKind::kToDense) level = params.max_level();
  PV_CHECK(level >= 0 && level <= params.max_level(), "level {} of {}", level, params.max_level());
  for (int j = 0; j < params.limbs(level); ++j) add(params.q_table(j), j);
  if (kind == KeyKind::kToSparse) add(params.encapsulation_table(), kEncapsulationIndex);
  const int p_limbs =
      kind == KeyKind::kGadget ? params.special_primes(level) : kind == KeyKind::kToDense;
  for (int j = 0; j < p_limbs; ++j) add(params.p_table(j), kSpecialIndex + j);
  shape.rows = kind == KeyKind::kGadget ? params.digits(level) : 1;
  return shape;
}

size_t KeySwitchKey::bytes() const {
  size_t sum = 0;
  for (const auto& row : b) sum += row.bytes();
  for (const auto& row : a) sum += row.bytes();
  return sum;
}

Result<const KeySwitchKey*> EvaluationKeys::FindRotation(const Parameters& params, int rotation,
                                                         int level, int special) const {
  static const std::map<int, KeySwitchKey> kNone;
  const auto entry = rotations.find(rotation);
  return Find(params, entry == rotations.end() ? kNone : entry->second,
              fmt::format("rotation {}", rotation), level, special);
}

Result<const KeySwitchKey*> EvaluationKeys::FindRelinearization(const Parameters& params,
                                                                int level) const {
  return Find(params, relinearization, "relinearization", level, 0);
}

Result<const KeySwitchKey*> EvaluationKeys::FindConjugation(const Parameters& params, int level,
                                                            int special) const {
  return Find(params, conjugation, "conjugation", level, special);
}

int EvaluationKeys::CommonSpecial(const Parameters& params, int level) const {
  std::map<int, int> counts;  // rotations with such a key, by special primes
  for (const auto& [rotation, keys] : rotations) {
    std::set<int> found;
    for (auto entry = keys.lower_bound(level); entry != keys.end(); ++entry)
      found.insert(params.special_primes(entry->first));
    for (const int special : found) ++counts[special];
  }
  int best = 0;
  for (const auto& [special, count] : counts) {
    const bool tie = best != 0 && count == counts[best];
    if (best == 0 || count > counts[best] ||
        (tie && KeySwitchCost(params, level, special) < KeySwitchCost(params, level, best)))
      best = special;
  }
  return best;
}

Status EvaluationKeys::Covers(const Parameters& params, const KeyRequest& request) const {
  for (const auto& [rotation, level] : request.rotations)
    PV_RETURN_IF_ERROR(FindRotation(params, rotation, level, params.special_primes(level)));
  for (const int level : request.relinearization_levels)
    PV_RETURN_IF_ERROR(FindRelinearization(params, level));
  for (const int level : request.conjugation_levels)
    PV_RETURN_IF_ERROR(FindConjugation(params, level, params.special_primes(level)));
  if (request.encapsulation) {
    PV_RETURN_IF_ERROR(CheckPresent(to_sparse, "to-sparse (ModRaise)"));
    PV_RETURN_IF_ERROR(CheckPresent(to_dense, "to-dense (ModRaise)"));
  }
  return {};
}

void EvaluationKeys::Report(MemoryReport& report) const {
  const auto add = [&](const char* kind, const KeySwitchKey& key) {
    report.Add(fmt::format("keys: {}, {}", kind, key.compact() ? "compact" : "expanded"),
               key.bytes());
  };
  for (const auto& [rotation, keys] : rotations)
    for (const auto& [level, key] : keys) add("rotations", key);
  for (const auto& [level, key] : relinearization) add("relinearisation", key);
  for (const auto& [level, key] : conjugation) add("conjugation", key);
  for (const auto* key : {&to_sparse, &to_dense})
    if (*key) add("encapsulation", **key);
}

size_t EvaluationKeys::bytes() const {
  size_t sum = 0;
  ForEach([&](const KeySwitchKey& key) { sum += key.bytes(); });
  return sum;
}

}  // namespace polyveil::ckks
