#include "wire/client/secret_key_file.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "wire/file.h"
#include "wire/json_fields.h"
#include "wire/parameters_json.h"

namespace polyveil::wire {
namespace {

constexpr size_t kMaxSpecBytes = 16384;
constexpr size_t kMaxFileBytes = kHeaderBytes + 4 + 4 + kMaxSpecBytes + 256;
constexpr u32 kPlain = 0;
constexpr u32 kSealed = 1;
constexpr size_t kSaltBytes = crypto_pwhash_SALTBYTES;
constexpr size_t kNonceBytes = crypto_aead_xchacha20poly1305_ietf_NPUBBYTES;
constexpr size_t kTagBytes = crypto_aead_xchacha20poly1305_ietf_ABYTES;
constexpr size_t kSealKeyBytes = crypto_aead_xchacha20poly1305_ietf_KEYBYTES;
// A hostile file must not make its reader work or allocate without end.
constexpr u64 kMaxOperations = 16;
constexpr u64 kMaxMemoryBytes = u64{1} << 30;

struct Sealing {
  std::array<std::uint8_t, kSaltBytes> salt{};
  u64 operations = 0, memory_bytes = 0;
  std::array<std::uint8_t, kNonceBytes> nonce{};
};

struct ParsedFile {
  SecretKeyFileInfo info;
  ckks::ParametersPtr params;
  Sealing sealing;
  ByteView authenticated;  // payload before the sealed seed
  ByteView seed;           // plain, or sealed with its tag
};

Result<SecureVector<std::uint8_t>> DeriveKey(std::string_view passphrase, const Sealing& sealing) {
  SecureVector<std::uint8_t> key(kSealKeyBytes);
  if (crypto_pwhash(key.data(), key.size(), passphrase.data(), passphrase.size(),
                    sealing.salt.data(), sealing.operations, sealing.memory_bytes,
                    crypto_pwhash_ALG_ARGON2ID13) != 0) {
    return MakeError(ErrorCode::kResource, "Argon2id needs {} MiB of memory for the passphrase",
                     sealing.memory_bytes >> 20);
  }
  return key;
}

// The authenticated data binds the parameters' digest and the key id besides the payload's start.
Bytes AuthenticatedData(ByteView payload_start, const Digest& params, const Digest& key_id) {
  Writer writer;
  writer.Raw(params);
  writer.Raw(key_id);
  writer.Raw(payload_start);
  return writer.Take();
}

Status AppendSealed(Writer& writer, const ckks::SecretKey& key, const Digest& key_id,
                    std::string_view passphrase, const PassphraseCost& cost) {
  if (passphrase.empty()) return MakeError(ErrorCode::kInvalidArgument, "the passphrase is empty");
  Sealing sealing{{}, cost.operations, cost.memory_bytes, {}};
  randombytes_buf(sealing.salt.data(), sealing.salt.size());
  randombytes_buf(sealing.nonce.data(), sealing.nonce.size());
  writer.Raw(sealing.salt);
  writer.U64(sealing.operations);
  writer.U64(sealing.memory_bytes);
  writer.Raw(sealing.nonce);
  PV_ASSIGN_OR_RETURN(const auto seal_key, DeriveKey(passphrase, sealing));
  const Bytes data = AuthenticatedData(ByteView(writer.bytes()).subspan(kHeaderBytes),
                                       key.params()->digest(), key_id);
  std::array<std::uint8_t, 32 + kTagBytes> sealed;
  crypto_aead_xchacha20poly1305_ietf_encrypt(sealed.data(), nullptr, key.seed().data(), 32,
                                             data.data(), data.size(), nullptr,
                                             sealing.nonce.data(), seal_key.data());
  writer.Raw(sealed);
  return {};
}

Status ReadSealing(Reader& reader, Sealing& sealing) {
  PV_ASSIGN_OR_RETURN(sealing.salt, reader.Array<kSaltBytes>("salt"));
  PV_ASSIGN_OR_RETURN(sealing.operations, reader.U64("operations"));
  PV_ASSIGN_OR_RETURN(sealing.memory_bytes, reader.U64("memory"));
  PV_ASSIGN_OR_RETURN(sealing.nonce, reader.Array<kNonceBytes>("nonce"));
  if (sealing.operations < crypto_pwhash_OPSLIMIT_MIN || sealing.operations > kMaxOperations) {
    return MakeError(ErrorCode::kOutOfRange, "secret key: operations = {} is outside [{}, {}]",
                     sealing.operations, crypto_pwhash_OPSLIMIT_MIN, kMaxOperations);
  }
  if (sealing.memory_bytes < crypto_pwhash_MEMLIMIT_MIN || sealing.memory_bytes > kMaxMemoryBytes) {
    return MakeError(ErrorCode::kOutOfRange, "secret key: memory = {} is outside [{}, {}]",
                     sealing.memory_bytes, crypto_pwhash_MEMLIMIT_MIN, kMaxMemoryBytes);
  }
  return {};
}

Result<ckks::ParametersSpec> ReadSpec(Reader& reader) {
  PV_ASSIGN_OR_RETURN(const u32 spec_bytes, reader.U32("parameters' length"));
  if (spec_bytes > kMaxSpecBytes) {
    return MakeError(ErrorCode::kOutOfRange, "secret key: parameters' length {} above {}",
                     spec_bytes, kMaxSpecBytes);
  }
  PV_ASSIGN_OR_RETURN(const ByteView text, reader.Raw(spec_bytes, "parameters"));
  const std::string_view view(reinterpret_cast<const char*>(text.data()), text.size());
  PV_ASSIGN_OR_RETURN(const auto json, ParseJson(view, kMaxSpecBytes, "secret key: parameters"));
  return SpecFromJson(json);
}

Result<ParsedFile> Parse(ByteView bytes) {
  Expected expected;
  expected.kind = Kind::kSecretKey;
  expected.max_payload_bytes = kMaxFileBytes - kHeaderBytes;
  PV_ASSIGN_OR_RETURN(const Container container, OpenContainer(bytes, expected));
  Reader reader(container.payload, KindName(Kind::kSecretKey));
  ParsedFile file;
  PV_ASSIGN_OR_RETURN(const u32 protection, reader.U32("protection"));
  if (protection > kSealed) {
    return MakeError(ErrorCode::kCorrupt, "secret key: protection = {} is outside [{}, {}]",
                     protection, kPlain, kSealed);
  }
  file.info.encrypted = protection == kSealed;
  file.info.key_id = container.header.binding.key_id;
  PV_ASSIGN_OR_RETURN(file.info.spec, ReadSpec(reader));
  if (file.info.encrypted) PV_RETURN_IF_ERROR(ReadSealing(reader, file.sealing));
  file.authenticated = container.payload.first(reader.offset());
  PV_ASSIGN_OR_RETURN(file.seed, reader.Raw(32 + (file.info.encrypted ? kTagBytes : 0), "seed"));
  PV_RETURN_IF_ERROR(reader.ExpectEnd());
  PV_ASSIGN_OR_RETURN(file.params, ckks::Parameters::Create(file.info.spec));
  if (file.params->digest() != container.header.binding.params) {
    return MakeError(ErrorCode::kMismatch,
                     "secret key: parameter digest {}... differs from its parameters' {}...",
                     ToHex(container.header.binding.params).substr(0, 16),
                     ToHex(file.params->digest()).substr(0, 16));
  }
  return file;
}

Status OpenSeed(const ParsedFile& file, std::string_view passphrase, Seed& seed) {
  PV_ASSIGN_OR_RETURN(const auto key, DeriveKey(passphrase, file.sealing));
  const Bytes data = AuthenticatedData(file.authenticated, file.params->digest(), file.info.key_id);
  if (crypto_aead_xchacha20poly1305_ietf_decrypt(seed.data(), nullptr, nullptr, file.seed.data(),
                                                 file.seed.size(), data.data(), data.size(),
                                                 file.sealing.nonce.data(), key.data()) != 0) {
    return MakeError(ErrorCode::kMismatch, "secret key: the passphrase does not open key {}...",
                     ToHex(file.info.key_id).substr(0, 16));
  }
  return {};
}

}  // namespace

Digest KeyIdOf(const ckks::SecretKey& key) {
  return HashBytes("polyveil/key-id/1", DeriveSeed(key.seed(), "polyveil/public-key-id"));
}

Result<SecureVector<std::uint8_t>> FormatSecretKey(const ckks::SecretKey& key,
                                                   std::optional<std::string_view> passphrase,
                                                   const PassphraseCost& cost) {
  Binding binding;
  binding.params = key.params()->digest();
  binding.key_id = KeyIdOf(key);
  const std::string spec = SpecToJson(key.params()->spec()).dump();
  Writer writer = BeginContainer(kMaxFileBytes);  // never reallocates: no copy of the seed stays
  writer.U32(passphrase ? kSealed : kPlain);
  writer.U32(static_cast<u32>(spec.size()));
  writer.Raw({reinterpret_cast<const std::uint8_t*>(spec.data()), spec.size()});
  if (passphrase) {
    PV_RETURN_IF_ERROR(AppendSealed(writer, key, binding.key_id, *passphrase, cost));
  } else {
    writer.Raw(key.seed());
  }
  Bytes bytes = FinishContainer(std::move(writer), Kind::kSecretKey, binding);
  SecureVector<std::uint8_t> out(bytes.begin(), bytes.end());
  SecureWipe(bytes.data(), bytes.size());
  return out;
}

Result<SecretKeyFileInfo> ParseSecretKeyInfo(ByteView bytes) {
  PV_ASSIGN_OR_RETURN(const ParsedFile file, Parse(bytes));
  return file.info;
}

Result<ckks::SecretKey> ParseSecretKey(ByteView bytes, std::optional<std::string_view> passphrase) {
  PV_ASSIGN_OR_RETURN(const ParsedFile file, Parse(bytes));
  if (file.info.encrypted != passphrase.has_value()) {
    return MakeError(ErrorCode::kInvalidArgument, "secret key: it is {}encrypted, {} was given",
                     file.info.encrypted ? "" : "not ",
                     passphrase ? "a passphrase" : "no passphrase");
  }
  Seed seed{};
  if (passphrase) {
    PV_RETURN_IF_ERROR(OpenSeed(file, *passphrase, seed));
  } else {
    std::copy(file.seed.begin(), file.seed.end(), seed.begin());
  }
  ckks::SecretKey key = ckks::SecretKey::FromSeed(file.params, seed);
  SecureWipe(seed.data(), seed.size());
  if (KeyIdOf(key) != file.info.key_id) {
    return MakeError(ErrorCode::kMismatch, "secret key: key id {}... differs from its seed's {}...",
                     ToHex(file.info.key_id).substr(0, 16), ToHex(KeyIdOf(key)).substr(0, 16));
  }
  return key;
}

Result<PrivateFile> PrepareSecretKey(const std::string& path, const ckks::SecretKey& key,
                                     std::optional<std::string_view> passphrase,
                                     const PassphraseCost& cost) {
  PV_ASSIGN_OR_RETURN(const auto bytes, FormatSecretKey(key, passphrase, cost));
  PV_ASSIGN_OR_RETURN(PrivateFile file, PrivateFile::Create(path));
  PV_RETURN_IF_ERROR(file.Write(bytes));
  PV_RETURN_IF_ERROR(file.Prepare());
  return file;
}

Status WriteSecretKey(const std::string& path, const ckks::SecretKey& key,
                      std::optional<std::string_view> passphrase, const PassphraseCost& cost) {
  PV_ASSIGN_OR_RETURN(PrivateFile file, PrepareSecretKey(path, key, passphrase, cost));
  return file.Commit();
}

Result<SecretKeyFileInfo> ReadSecretKeyInfo(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, ReadPrivateFile(path, kMaxFileBytes));
  auto info = ParseSecretKeyInfo(bytes);
  if (!info.ok()) return MakeError(info.error().code, "{}: {}", path, info.error().message);
  return info;
}

Result<ckks::SecretKey> ReadSecretKey(const std::string& path,
                                      std::optional<std::string_view> passphrase) {
  PV_ASSIGN_OR_RETURN(const auto bytes, ReadPrivateFile(path, kMaxFileBytes));
  auto key = ParseSecretKey(bytes, passphrase);
  if (!key.ok()) return MakeError(key.error().code, "{}: {}", path, key.error().message);
  return key;
}

}  // namespace polyveil::wire
