#include "ckks/key_storage.h"

#include <algorithm>
#include <vector>

#include "ckks/key_shape.h"

namespace polyveil::ckks {
namespace {

// One key and what a unit of work reads of it.
struct KeyLoad {
  KeyRequest key;  // of one entry; the two keys of ModRaise together
  size_t half_bytes = 0;
  double limbs = 0;

  double rate() const { return limbs / static_cast<double>(half_bytes); }
};

size_t HalfBytes(const Parameters& params, const KeyRequest& request) {
  return ExpandedKeyBytes(params, request) / 2;
}

// Limbs read of the key of `level`, which stands among `levels` for one purpose.
double LimbsRead(const Parameters& params, const std::set<int>& levels, int level,
                 const std::map<int, int>& uses) {
  double limbs = 0;
  for (const auto& [at, count] : uses) {
    if (FastestKey(params, levels, at) != level) continue;
    const int special = params.special_primes(level);
    limbs += static_cast<double>(count) * params.digits(at, special) *
             params.extended_limbs(at, special);
  }
  return limbs;
}

std::vector<KeyLoad> KeyLoads(const Parameters& params, const KeyRequest& request,
                              const KeyUses& uses) {
  std::vector<KeyLoad> loads;
  const auto add = [&](KeyRequest key, double limbs) {
    const size_t bytes = HalfBytes(params, key);
    loads.push_back({std::move(key), bytes, limbs});
  };
  for (const int level : request.relinearization_levels) {
    KeyRequest key;
    key.AddRelinearization(level);
    add(key, LimbsRead(params, request.relinearization_levels, level, uses.relinearizations));
  }
  for (const int level : request.conjugation_levels) {
    KeyRequest key;
    key.AddConjugation(level);
    add(key, LimbsRead(params, request.conjugation_levels, level, uses.conjugations));
  }
  if (request.encapsulation) {
    KeyRequest key;
    key.encapsulation = true;
    add(key, uses.mod_raises * static_cast<double>(HalfBytes(params, key)) /
                 (sizeof(u64) * static_cast<double>(params.n())));
  }
  std::map<int, std::set<int>> levels;
  std::map<int, std::map<int, int>> counts;
  for (const auto& [rotation, level] : request.rotations) levels[rotation].insert(level);
  for (const auto& [use, count] : uses.rotations) counts[use.first][use.second] += count;
  for (const auto& [rotation, level] : request.rotations) {
    KeyRequest key;
    key.rotations.emplace(rotation, level);
    add(key, LimbsRead(params, levels[rotation], level, counts[rotation]));
  }
  return loads;
}

bool Includes(const KeyRequest& all, const KeyRequest& one) {
  KeyRequest merged = all;
  merged.Merge(one);
  return merged == all;
}

}  // namespace

const char* KeyStorageName(KeyStorage storage) {
  switch (storage) {
    case KeyStorage::kAuto:
      return "auto";
    case KeyStorage::kExpanded:
      return "expanded";
    case KeyStorage::kCompact:
      return "compact";
  }
  return "";
}

Result<KeyStorage> ParseKeyStorage(std::string_view text) {
  for (const auto storage : {KeyStorage::kAuto, KeyStorage::kExpanded, KeyStorage::kCompact})
    if (text == KeyStorageName(storage)) return storage;
  return MakeError(ErrorCode::kInvalidArgument, "storage of keys '{}' is none of {}, {}, {}",
                   text.substr(0, 32), KeyStorageName(KeyStorage::kAuto),
                   KeyStorageName(KeyStorage::kExpanded), KeyStorageName(KeyStorage::kCompact));
}

size_t KeyMemoryBytes(const Parameters& params, const KeyRequest& request,
                      const KeyRequest& expanded) {
  return HalfBytes(params, request) + HalfBytes(params, expanded);
}

double LimbsToExpand(const Parameters& params, const KeyRequest& request,
                     const KeyRequest& expanded, const KeyUses& uses) {
  double limbs = 0;
  for (const KeyLoad& load : KeyLoads(params, request, uses))
    if (!Includes(expanded, load.key)) limbs += load.limbs;
  return limbs;
}

KeyRequest KeysToExpand(const Parameters& params, const KeyRequest& request, const KeyUses& uses,
                        KeyStorage storage, size_t byte_budget) {
  if (storage == KeyStorage::kCompact) return {};
  if (storage == KeyStorage::kExpanded || ExpandedKeyBytes(params, request) <= byte_budget)
    return request;
  std::vector<KeyLoad> loads = KeyLoads(params, request, uses);
  std::ranges::stable_sort(loads, std::ranges::greater(), &KeyLoad::rate);
  KeyRequest expanded;
  size_t bytes = HalfBytes(params, request);
  for (const KeyLoad& load : loads) {
    if (bytes + load.half_bytes > byte_budget) continue;
    bytes += load.half_bytes;
    expanded.Merge(load.key);
  }
  return expanded;
}

}  // namespace polyveil::ckks
