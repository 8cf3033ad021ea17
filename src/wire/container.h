// The header in front of everything that Polyveil stores or sends; docs/formats/container.md.
#pragma once

#include <optional>
#include <span>

#include "base/digest.h"
#include "wire/bytes.h"

namespace polyveil::wire {

enum class Kind : std::uint16_t {
  kSecretKey = 1,
  kKeyManifest = 2,
  kKeyRecord = 3,
  kToken = 4,         // seeded ciphertext, client to server
  kResult = 5,        // ciphertext, server to client
  kSessionState = 6,  // a text's encrypted caches, on a server's disk
};
const char* KindName(Kind kind);

inline constexpr std::uint16_t kFormatVersion = 1;
inline constexpr size_t kHeaderBytes = 152;

// What binds a message to its parameters, model and key; all zero where it does not apply.
struct Binding {
  Digest params{};
  Digest model{};
  Digest key_id{};
};

struct Header {
  Kind kind = Kind::kToken;
  Binding binding;
  u64 payload_bytes = 0;
};

// What the reader of a container requires. Digests that are null are not compared.
struct Expected {
  Kind kind = Kind::kToken;
  const Digest* params = nullptr;
  const Digest* model = nullptr;
  const Digest* key_id = nullptr;
  u64 min_payload_bytes = 0;
  u64 max_payload_bytes = 0;
  std::string what;  // begins error messages; the kind's name when empty
};

// Starts a container: reserves the header. Append the payload, then Finish.
Writer BeginContainer(size_t payload_reserve);
// Fills in length and checksum. Requires `writer` to come from BeginContainer.
Bytes FinishContainer(Writer writer, Kind kind, const Binding& binding);

// Checks magic, version, kind, digests and the payload's length bounds; not the checksum. Needs
// kHeaderBytes only, so that a caller can refuse before it allocates the payload.
// Errors: kCorrupt (not ours, truncated), kMismatch (kind, digests), kOutOfRange (length).
Result<Header> ParseHeader(ByteView bytes, const Expected& expected);

struct Container {
  Header header;
  ByteView payload;  // into the given bytes
};
// The whole container: ParseHeader, exact length, checksum.
Result<Container> OpenContainer(ByteView bytes, const Expected& expected);

}  // namespace polyveil::wire
