#include "base/csprng.h"

#include <openssl/evp.h>
#include <sodium.h>

#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/digest.h"
#include "base/secure_memory.h"

namespace polyveil {
namespace {

static_assert(std::endian::native == std::endian::little,
              "streams are read as little-endian words");

constexpr size_t kChaChaBlockBytes = 64;
constexpr std::uint8_t kZeroNonce[16] = {};  // every stream has its own key

void InitSodium() {
  static const int initialised = sodium_init();
  PV_CHECK(initialised >= 0, "sodium_init() = {}", initialised);
}

}  // namespace

Seed RandomSeed() {
  InitSodium();
  Seed seed;
  randombytes_buf(seed.data(), seed.size());
  return seed;
}

Seed DeriveSeed(const Seed& seed, std::string_view domain, u64 index) {
  InitSodium();
  Hasher hasher("polyveil.derive.v1");
  hasher.Update(seed.data(), seed.size()).UpdateField(domain).UpdateU64(index);
  const Seed derived = hasher.Final();
  SecureWipe(&hasher, sizeof(hasher));
  return derived;
}

Prng::Prng(const Seed& seed, std::string_view domain, u64 index)
    : key_(DeriveSeed(seed, domain, index)) {}

Prng Prng::FromSystem(std::string_view domain) {
  Seed seed = RandomSeed();
  Prng prng(seed, domain);
  SecureWipe(seed.data(), seed.size());
  return prng;
}

Prng::Prng(Prng&& other) noexcept
    : key_(other.key_), block_(other.block_), used_(other.used_), buffer_(other.buffer_) {
  // The source keeps no copy; it must not be used again.
  SecureWipe(other.key_.data(), other.key_.size());
  SecureWipe(other.buffer_.data(), other.buffer_.size());
}

Prng::~Prng() {
  SecureWipe(key_.data(), key_.size());
  SecureWipe(buffer_.data(), buffer_.size());
}

void Prng::Refill() {
  buffer_.fill(0);
  crypto_stream_chacha20_xor_ic(buffer_.data(), buffer_.data(), buffer_.size(), kZeroNonce, block_,
                                key_.data());
  block_ += kBufferBytes / kChaChaBlockBytes;
  used_ = 0;
}

u64 Prng::Next64() {
  u64 value;
  Fill(&value, sizeof(value));
  return value;
}

void Prng::Fill(void* out, size_t bytes) {
  auto* target = static_cast<std::uint8_t*>(out);
  while (bytes > 0) {
    if (used_ == kBufferBytes) Refill();
    const size_t part = std::min(bytes, kBufferBytes - used_);
    std::memcpy(target, buffer_.data() + used_, part);
    SecureWipe(buffer_.data() + used_, part);  // what was handed out cannot be read again
    used_ += part;
    target += part;
    bytes -= part;
  }
}

UniformStream::UniformStream(const Seed& seed, std::string_view domain, u64 index) {
  const Seed key = DeriveSeed(seed, domain, index);
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  const bool ready = context != nullptr && EVP_EncryptInit_ex(context, EVP_aes_256_ctr(), nullptr,
                                                              key.data(), kZeroNonce) == 1;
  PV_CHECK(ready, "AES-256-CTR is not available from OpenSSL");
  cipher_ = context;
}

UniformStream::~UniformStream() { EVP_CIPHER_CTX_free(static_cast<EVP_CIPHER_CTX*>(cipher_)); }

void UniformStream::Fill(std::span<u64> out) {
  constexpr size_t kMaxWords = size_t{1} << 24;  // OpenSSL takes an int of bytes
  while (!out.empty()) {
    const auto part = out.first(std::min(out.size(), kMaxWords));
    std::memset(part.data(), 0, part.size_bytes());
    auto* bytes = reinterpret_cast<unsigned char*>(part.data());
    int written = 0;
    const int ok = EVP_EncryptUpdate(static_cast<EVP_CIPHER_CTX*>(cipher_), bytes, &written, bytes,
                                     static_cast<int>(part.size_bytes()));
    PV_CHECK(ok == 1 && static_cast<size_t>(written) == part.size_bytes(),
             "AES-256-CTR wrote {} of {} bytes", written, part.size_bytes());
    out = out.subspan(part.size());
  }
}

}  // namespace polyveil
