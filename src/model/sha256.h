// SHA-256 of bytes that come in pieces.
#pragma once

#include <openssl/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace polyveil::model {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void Update(std::span<const std::uint8_t> bytes);
  // The text with its length: fields do not run into each other.
  void UpdateField(std::string_view text);
  std::string Hex();  // lower case; once

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const;
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

std::string Sha256Hex(std::span<const std::uint8_t> bytes);

}  // namespace polyveil::model
