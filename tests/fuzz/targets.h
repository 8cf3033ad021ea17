// Every parser of bytes from outside as one function: it must return, whatever the bytes.
#pragma once

#include <string>
#include <vector>

#include "wire/bytes.h"

namespace polyveil::testing {

struct FuzzTarget {
  std::string name;
  wire::Bytes seed;                     // a valid input
  bool (*parse)(wire::ByteView bytes);  // whether it was accepted; aborts on a broken promise
  bool container;                       // starts with a header whose checksum a mutation may repair
};

// Made once, for the parameters "test10".
const std::vector<FuzzTarget>& FuzzTargets();

// Repairs the checksum of a container, so that what lies behind it is reached.
void Reseal(wire::Bytes& bytes);

}  // namespace polyveil::testing
