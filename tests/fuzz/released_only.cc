// The targets of released models' files alone, for a program without the engine.
#include "fuzz/released_targets.h"

namespace polyveil::testing {

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = [] {
    std::vector<FuzzTarget> all;
    AddReleasedTargets(all);
    return all;
  }();
  return targets;
}

void Reseal(wire::Bytes&) {}  // none of them has a container's header

}  // namespace polyveil::testing
