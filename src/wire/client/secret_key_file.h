// The secret key's file; docs/formats/secret-key.md.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/secure_memory.h"
#include "ckks/client/secret_key.h"
#include "wire/container.h"
#include "wire/file.h"

namespace polyveil::wire {

// Public name of a secret key: BLAKE2b-256 of a child of its seed. Every evaluation key and message
// carries it, so that bodies made under another key are refused.
Digest KeyIdOf(const ckks::SecretKey& key);

// Argon2id's cost: libsodium's "moderate" limits.
struct PassphraseCost {
  u64 operations = 3;
  u64 memory_bytes = u64{256} << 20;
};

struct SecretKeyFileInfo {
  ckks::ParametersSpec spec;
  Digest key_id{};
  bool encrypted = false;
};

// The file's bytes: the seed in clear, or, with a passphrase, under XChaCha20-Poly1305 with a key
// from Argon2id (everything before the sealed seed is authenticated with it). Errors: kResource
// when Argon2id's memory cannot be had, kInvalidArgument for an empty passphrase.
Result<SecureVector<std::uint8_t>> FormatSecretKey(const ckks::SecretKey& key,
                                                   std::optional<std::string_view> passphrase,
                                                   const PassphraseCost& cost = {});
// What can be read without the passphrase.
Result<SecretKeyFileInfo> ParseSecretKeyInfo(ByteView bytes);
// Errors: kCorrupt, kMismatch (parameters' digest, key id; a wrong passphrase), kOutOfRange,
// kInvalidArgument (a passphrase is needed, or given to a file that has none).
Result<ckks::SecretKey> ParseSecretKey(ByteView bytes, std::optional<std::string_view> passphrase);

// The same with a file, mode 0600. Prepared, it is on the disk but not yet in its place. Reading
// refuses a file that others can read (ReadPrivateFile).
Result<PrivateFile> PrepareSecretKey(const std::string& path, const ckks::SecretKey& key,
                                     std::optional<std::string_view> passphrase,
                                     const PassphraseCost& cost = {});
Status WriteSecretKey(const std::string& path, const ckks::SecretKey& key,
                      std::optional<std::string_view> passphrase, const PassphraseCost& cost = {});
Result<SecretKeyFileInfo> ReadSecretKeyInfo(const std::string& path);
Result<ckks::SecretKey> ReadSecretKey(const std::string& path,
                                      std::optional<std::string_view> passphrase);

}  // namespace polyveil::wire
