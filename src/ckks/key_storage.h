// Which evaluation keys keep their uniform half in memory. An expanded key costs twice the bytes of
// a compact one (keys.h); a compact one costs an expansion of every limb that a product reads.
#pragma once

#include <string_view>

#include "base/result.h"
#include "ckks/key_plan.h"

namespace polyveil::ckks {

enum class KeyStorage {
  kAuto,      // the keys that are read most are expanded, as many as memory allows
  kExpanded,  // all of them
  kCompact,   // none
};
const char* KeyStorageName(KeyStorage storage);  // "auto", "expanded", "compact"
// Errors: kInvalidArgument names the text.
Result<KeyStorage> ParseKeyStorage(std::string_view text);

// Bytes in memory of the keys of `request`, those of its subset `expanded` expanded, the others
// compact.
size_t KeyMemoryBytes(const Parameters& params, const KeyRequest& request,
                      const KeyRequest& expanded);

// Limbs that the compact keys of `request` expand in one unit of work of `uses` (required keys are
// not uses). Each use reads the fastest key that reaches its level, as EvaluationKeys finds it.
double LimbsToExpand(const Parameters& params, const KeyRequest& request,
                     const KeyRequest& expanded, const KeyUses& uses);

// The subset to expand for `storage`. kAuto: all when they fit; else those whose limbs are read
// most often, until KeyMemoryBytes reaches `byte_budget` (it may exceed it when even compact keys
// do). Deterministic.
KeyRequest KeysToExpand(const Parameters& params, const KeyRequest& request, const KeyUses& uses,
                        KeyStorage storage, size_t byte_budget);

}  // namespace polyveil::ckks
