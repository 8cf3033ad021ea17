#include "model/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include "base/check.h"

namespace polyveil::model {

void Sha256::Free::operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  PV_CHECK(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1,
           "SHA-256 does not begin");
}

Sha256::~Sha256() = default;

void Sha256::Update(std::span<const std::uint8_t> bytes) {
  PV_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "SHA-256 of {} bytes",
           bytes.size());
}

void Sha256::UpdateField(std::string_view text) {
  const std::string size = fmt::format("{}:", text.size());
  for (const std::string_view part : {std::string_view(size), text})
    Update({reinterpret_cast<const std::uint8_t*>(part.data()), part.size()});
}

std::string Sha256::Hex() {
  std::uint8_t digest[32];
  PV_CHECK(EVP_DigestFinal_ex(context_.get(), digest, nullptr) == 1, "SHA-256 does not end");
  std::string out;
  for (const std::uint8_t byte : digest) out += fmt::format("{:02x}", byte);
  return out;
}

std::string Sha256Hex(std::span<const std::uint8_t> bytes) {
  Sha256 hasher;
  hasher.Update(bytes);
  return hasher.Hex();
}

}  // namespace polyveil::model
