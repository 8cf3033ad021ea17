#include "ckks/key_plan.h"

#include <algorithm>
#include <set>
#include <vector>

#include "ckks/key_shape.h"

namespace polyveil::ckks {
namespace {

size_t GadgetBytes(const Parameters& params, int level) {
  return ShapeOf(params, KeyKind::kGadget, level).expanded_bytes(params.n());
}

// The highest level of each class of special primes.
std::set<int> HighestPerClass(const Parameters& params, const std::set<int>& levels) {
  std::map<int, int> highest;
  for (const int level : levels) highest[params.special_primes(level)] = level;  // ascending
  std::set<int> result;
  for (const auto& [special, level] : highest) result.insert(level);
  return result;
}

// All keys for one automorphism, or for relinearisation.
struct Purpose {
  std::map<int, int> uses;  // level -> count
  std::set<int> keys;       // levels

  double Cost(const Parameters& params, int level) const {
    return KeySwitchCost(params, level, params.special_primes(FastestKey(params, keys, level)));
  }

  // Time that a key of this level would save.
  double Gain(const Parameters& params, int key_level) const {
    double gain = 0;
    for (const auto& [level, count] : uses) {
      if (level > key_level) break;
      const double cost = KeySwitchCost(params, level, params.special_primes(key_level));
      gain += count * std::max(0.0, Cost(params, level) - cost);
    }
    return gain;
  }

  void AddNecessary(const Parameters& params) {
    if (!uses.empty() && (keys.empty() || *keys.rbegin() < uses.rbegin()->first))
      keys.insert(uses.rbegin()->first);
    keys = HighestPerClass(params, keys);
  }
};

struct Candidate {
  Purpose* purpose;
  int level;
  size_t bytes;
  double gain;

  double rate() const { return gain / static_cast<double>(bytes); }
};

// The most rewarding key that fits; gain 0 when there is none.
Candidate BestCandidate(const Parameters& params, std::vector<Purpose*>& purposes, size_t room) {
  // A key must save at least this much per unit of work, in transforms of a limb, to be worth its
  // generation and its upload.
  constexpr double kLeastGain = 20;
  Candidate best{nullptr, 0, 1, 0};
  for (Purpose* purpose : purposes)
    for (const auto& [level, count] : purpose->uses) {
      if (purpose->keys.contains(level)) continue;
      const Candidate candidate{purpose, level, GadgetBytes(params, level),
                                purpose->Gain(params, level)};
      if (candidate.bytes <= room && candidate.gain >= kLeastGain && candidate.rate() > best.rate())
        best = candidate;
    }
  return best;
}

}  // namespace

int FastestKey(const Parameters& params, const std::set<int>& levels, int at) {
  const auto cost = [&](int key_level) {
    return KeySwitchCost(params, at, params.special_primes(key_level));
  };
  int best = -1;
  for (auto key = levels.lower_bound(at); key != levels.end(); ++key)
    if (best < 0 || cost(*key) < cost(best)) best = *key;
  return best;
}

void KeyUses::AddRotation(int rotation, int slots, int level, int count) {
  const int reduced = ((rotation % slots) + slots) % slots;
  if (reduced != 0) rotations[{reduced, level}] += count;
}

KeyRequest PlanKeys(const Parameters& params, const KeyRequest& request) {
  KeyUses uses;
  uses.required = request;
  return PlanKeys(params, uses, 0);
}

KeyRequest PlanKeys(const Parameters& params, const KeyUses& uses, size_t byte_budget) {
  std::map<int, Purpose> rotations;
  Purpose relinearization{uses.relinearizations, uses.required.relinearization_levels};
  Purpose conjugation{uses.conjugations, uses.required.conjugation_levels};
  for (const auto& [rotation, level] : uses.required.rotations)
    rotations[rotation].keys.insert(level);
  for (const auto& [use, count] : uses.rotations) rotations[use.first].uses[use.second] += count;

  std::vector<Purpose*> purposes{&relinearization, &conjugation};
  for (auto& [rotation, purpose] : rotations) purposes.push_back(&purpose);
  for (Purpose* purpose : purposes) purpose->AddNecessary(params);

  const auto request = [&] {
    KeyRequest result;
    result.encapsulation = uses.required.encapsulation;
    result.relinearization_levels = relinearization.keys;
    result.conjugation_levels = conjugation.keys;
    for (const auto& [rotation, purpose] : rotations)
      for (const int level : purpose.keys) result.rotations.emplace(rotation, level);
    return result;
  };
  size_t bytes = ExpandedKeyBytes(params, request());
  while (bytes < byte_budget) {
    const Candidate best = BestCandidate(params, purposes, byte_budget - bytes);
    if (best.purpose == nullptr) break;
    best.purpose->keys.insert(best.level);
    best.purpose->keys = HighestPerClass(params, best.purpose->keys);
    bytes = ExpandedKeyBytes(params, request());
  }
  return request();
}

size_t ExpandedKeyBytes(const Parameters& params, const KeyRequest& request) {
  size_t bytes = 0;
  for (const auto& [rotation, level] : request.rotations) bytes += GadgetBytes(params, level);
  for (const int level : request.relinearization_levels) bytes += GadgetBytes(params, level);
  for (const int level : request.conjugation_levels) bytes += GadgetBytes(params, level);
  if (request.encapsulation) {
    bytes += ShapeOf(params, KeyKind::kToSparse, 0).expanded_bytes(params.n());
    bytes += ShapeOf(params, KeyKind::kToDense, 0).expanded_bytes(params.n());
  }
  return bytes;
}

}  // namespace polyveil::ckks
