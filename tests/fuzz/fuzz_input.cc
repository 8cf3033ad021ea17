#include "fuzz/targets.h"

namespace polyveil::testing {

void ParseFuzzInput(wire::ByteView input) {
  const auto& targets = FuzzTargets();
  const size_t place = input.empty() ? targets.size() : input[0] & 0x7f;
  if (place >= targets.size()) return;
  wire::Bytes bytes(input.begin() + 1, input.end());
  if (targets[place].container && (input[0] & 0x80)) Reseal(bytes);
  targets[place].parse(bytes);
}

}  // namespace polyveil::testing
