// BLAKE2b-256 digests of parameters, keys and files.
#pragma once

#include <sodium.h>

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "base/int_types.h"
#include "base/result.h"

namespace polyveil {

using Digest = std::array<std::uint8_t, 32>;

// Incremental BLAKE2b-256. Variable-length fields are length-prefixed by the caller or by
// UpdateField.
class Hasher {
 public:
  // domain separates uses: two hashers with different domains never agree on equal input.
  explicit Hasher(std::string_view domain);
  Hasher& Update(std::span<const std::uint8_t> bytes);
  Hasher& Update(const void* data, size_t bytes);
  Hasher& UpdateU64(u64 value);                // eight bytes, little endian
  Hasher& UpdateField(std::string_view text);  // its length, then its bytes
  Digest Final();                              // once

 private:
  crypto_generichash_state state_;
};

Digest HashBytes(std::string_view domain, std::span<const std::uint8_t> bytes);
std::string ToHex(std::span<const std::uint8_t> bytes);
// Errors: kInvalidArgument when text is not 64 hexadecimal digits.
Result<Digest> DigestFromHex(std::string_view text);

}  // namespace polyveil
