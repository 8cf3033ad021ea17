// Values in the bytes of files.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace polyveil::model {

static_assert(std::endian::native == std::endian::little, "the formats are little endian");

// A little-endian value at an address that need not be aligned.
template <typename T>
T Load(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace polyveil::model
