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

// Made once, for the parameters "test10". New ones stand at the end: kept inputs name a target by
// its place.
const std::vector<FuzzTarget>& FuzzTargets();

// Repairs the checksum of a container, so that what lies behind it is reached.
void Reseal(wire::Bytes& bytes);

// An input of libFuzzer, as tests/fuzz/corpus keeps them: the place of its target and, for a
// container whose checksum is repaired first, 0x80; then the target's bytes.
void ParseFuzzInput(wire::ByteView input);

}  // namespace polyveil::testing
