#include "ckks/key_request.h"

#include <algorithm>

namespace polyveil::ckks {

void KeyRequest::AddRotation(int rotation, int slots, int level) {
  const int reduced = ((rotation % slots) + slots) % slots;
  if (reduced == 0) return;
  const auto [entry, inserted] = rotations.try_emplace(reduced, level);
  if (!inserted) entry->second = std::max(entry->second, level);
}

void KeyRequest::AddRelinearization(int level) {
  relinearization_level = std::max(relinearization_level, level);
}

void KeyRequest::AddConjugation(int level) {
  conjugation_level = std::max(conjugation_level, level);
}

void KeyRequest::Merge(const KeyRequest& other) {
  for (const auto& [rotation, level] : other.rotations) {
    const auto [entry, inserted] = rotations.try_emplace(rotation, level);
    if (!inserted) entry->second = std::max(entry->second, level);
  }
  AddRelinearization(other.relinearization_level);
  AddConjugation(other.conjugation_level);
  encapsulation |= other.encapsulation;
}

int KeyRequest::count() const {
  return static_cast<int>(rotations.size()) + (relinearization_level >= 0) +
         (conjugation_level >= 0) + 2 * encapsulation;
}

}  // namespace polyveil::ckks
