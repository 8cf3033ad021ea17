#include "base/digest.h"

#include <cstring>

namespace polyveil {

Hasher::Hasher(std::string_view domain) {
  crypto_generichash_init(&state_, nullptr, 0, sizeof(Digest));
  UpdateField(domain);
}

Hasher& Hasher::Update(const void* data, size_t bytes) {
  crypto_generichash_update(&state_, static_cast<const unsigned char*>(data), bytes);
  return *this;
}

Hasher& Hasher::Update(std::span<const std::uint8_t> bytes) {
  return Update(bytes.data(), bytes.size());
}

Hasher& Hasher::UpdateU64(u64 value) {
  std::uint8_t bytes[8];
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return Update(bytes, sizeof(bytes));
}

Hasher& Hasher::UpdateField(std::string_view text) {
  return UpdateU64(text.size()).Update(text.data(), text.size());
}

Digest Hasher::Final() {
  Digest digest;
  crypto_generichash_final(&state_, digest.data(), digest.size());
  return digest;
}

Digest HashBytes(std::string_view domain, std::span<const std::uint8_t> bytes) {
  return Hasher(domain).Update(bytes).Final();
}

std::string ToHex(std::span<const std::uint8_t> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  text.reserve(2 * bytes.size());
  for (const std::uint8_t byte : bytes) {
    text.push_back(kDigits[byte >> 4]);
    text.push_back(kDigits[byte & 15]);
  }
  return text;
}

Result<Digest> DigestFromHex(std::string_view text) {
  Digest digest;
  size_t length = 0;
  const bool parsed = sodium_hex2bin(digest.data(), digest.size(), text.data(), text.size(),
                                     nullptr, &length, nullptr) == 0;
  if (!parsed || length != digest.size() || text.size() != 2 * digest.size()) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "digest: {} characters, not 64 hexadecimal digits", text.size());
  }
  return digest;
}

}  // namespace polyveil
