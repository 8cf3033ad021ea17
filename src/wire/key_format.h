// Evaluation keys as a stream: a manifest, then one container per key;
// docs/formats/evaluation-keys.md.
#pragma once

#include <vector>

#include "ckks/keys.h"
#include "ckks/parameters.h"
#include "wire/container.h"

namespace polyveil::wire {

// What a record's key is for.
enum class KeyUse : std::uint8_t {
  kRelinearization = 1,
  kConjugation = 2,
  kToSparse = 3,
  kToDense = 4,
  kRotation = 5,
};
const char* KeyUseName(KeyUse use);

struct ManifestEntry {
  KeyUse use = KeyUse::kRotation;
  int rotation = 0;  // kRotation: in [1, slots); else 0
  int level = 0;
  u64 record_bytes = 0;  // header included

  bool operator==(const ManifestEntry&) const = default;
  std::string Describe() const;  // "rotation 5 at level 12"
};

// The records that a request stands for, in the order of the stream (uses in the order of KeyUse,
// rotations ascending, then levels). Errors: kOutOfRange for a rotation or level outside the
// parameters.
Result<std::vector<ManifestEntry>> ManifestOf(const ckks::Parameters& params,
                                              const ckks::KeyRequest& request);

// Bytes of the manifest's container and of the whole stream.
size_t ManifestBytes(size_t entries);
u64 StreamBytes(const std::vector<ManifestEntry>& manifest);

inline constexpr size_t kMaxManifestEntries = 65536;

Bytes FormatManifest(const Binding& binding, const std::vector<ManifestEntry>& manifest);
// Compares every entry with the required one. `expected.kind` and the length bounds are set here.
// Errors: kMismatch names the entry and both values.
Status ParseManifest(ByteView bytes, const Expected& digests,
                     const std::vector<ManifestEntry>& required, Binding* binding);
// The entries of a manifest alone, bounded and each checked against the parameters.
Result<std::vector<ManifestEntry>> ReadManifest(const ckks::Parameters& params, ByteView bytes,
                                                const Expected& digests, Binding* binding);

// One key (b and its seed). Requires key to have the shape of the entry.
Bytes FormatKey(const ckks::Parameters& params, const Binding& binding, u32 index,
                const ManifestEntry& entry, const ckks::KeySwitchKey& key);
// `a` stays empty. Errors: kCorrupt, kMismatch (digests, entry), kOutOfRange (residues, length).
Result<ckks::KeySwitchKey> ParseKey(const ckks::Parameters& params, const Binding& binding,
                                    u32 index, const ManifestEntry& entry, ByteView bytes);

}  // namespace polyveil::wire
