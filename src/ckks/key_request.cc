#include "ckks/key_request.h"

namespace polyveil::ckks {

void KeyRequest::AddRotation(int rotation, int slots, int level) {
  const int reduced = ((rotation % slots) + slots) % slots;
  if (reduced != 0) rotations.emplace(reduced, level);
}

void KeyRequest::AddRelinearization(int level) { relinearization_levels.insert(level); }

void KeyRequest::AddConjugation(int level) { conjugation_levels.insert(level); }

void KeyRequest::Merge(const KeyRequest& other) {
  rotations.insert(other.rotations.begin(), other.rotations.end());
  relinearization_levels.insert(other.relinearization_levels.begin(),
                                other.relinearization_levels.end());
  conjugation_levels.insert(other.conjugation_levels.begin(), other.conjugation_levels.end());
  encapsulation |= other.encapsulation;
}

int KeyRequest::count() const {
  return static_cast<int>(rotations.size() + relinearization_levels.size() +
                          conjugation_levels.size()) +
         2 * encapsulation;
}

}  // namespace polyveil::ckks
