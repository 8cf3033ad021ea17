#include "wire/key_format.h"

#include "wire/packed_poly.h"

namespace polyveil::wire {
namespace {

constexpr size_t kEntryBytes = 4 + 4 + 4 + 4 + 8;          // use, rotation, level, reserved, bytes
constexpr size_t kRecordPrefixBytes = 4 + 4 + 4 + 4 + 32;  // index, use, rotation, level, seed

ckks::KeyKind KindOf(KeyUse use) {
  if (use == KeyUse::kToSparse) return ckks::KeyKind::kToSparse;
  if (use == KeyUse::kToDense) return ckks::KeyKind::kToDense;
  return ckks::KeyKind::kGadget;
}

ckks::KeyShape ShapeOfEntry(const ckks::Parameters& params, const ManifestEntry& entry) {
  return ckks::ShapeOf(params, KindOf(entry.use), entry.level);
}

Status CheckEntry(const ckks::Parameters& params, const ManifestEntry& entry) {
  const bool rotates = entry.use == KeyUse::kRotation;
  if (entry.level < 0 || entry.level > params.max_level()) {
    return MakeError(ErrorCode::kOutOfRange, "key request: {}: level {} is outside [0, {}]",
                     KeyUseName(entry.use), entry.level, params.max_level());
  }
  if (rotates ? entry.rotation < 1 || entry.rotation >= params.slots() : entry.rotation != 0) {
    return MakeError(ErrorCode::kOutOfRange, "key request: {}: rotation {} is outside [1, {})",
                     KeyUseName(entry.use), entry.rotation, params.slots());
  }
  return {};
}

u64 RecordBytes(const ckks::Parameters& params, const ManifestEntry& entry) {
  const ckks::KeyShape shape = ShapeOfEntry(params, entry);
  return kHeaderBytes + kRecordPrefixBytes + shape.rows * PackedBytes(KeyModuli(shape), params.n());
}

Result<ManifestEntry> ReadEntry(Reader& reader) {
  ManifestEntry entry;
  PV_ASSIGN_OR_RETURN(const u32 use, reader.U32("use"));
  if (use < 1 || use > static_cast<u32>(KeyUse::kRotation)) {
    return MakeError(ErrorCode::kCorrupt, "{}: use {} at offset {} is outside [1, {}]",
                     reader.what(), use, reader.offset() - 4, static_cast<int>(KeyUse::kRotation));
  }
  entry.use = static_cast<KeyUse>(use);
  PV_ASSIGN_OR_RETURN(entry.rotation, reader.I32("rotation"));
  PV_ASSIGN_OR_RETURN(entry.level, reader.I32("level"));
  return entry;
}

void WriteEntry(Writer& writer, const ManifestEntry& entry) {
  writer.U32(static_cast<u32>(entry.use));
  writer.I32(entry.rotation);
  writer.I32(entry.level);
}

// The payload's entries; the count is bounded by the payload's size, which the header bounds.
Result<std::vector<ManifestEntry>> ReadEntries(Reader& reader) {
  PV_ASSIGN_OR_RETURN(const u32 count, reader.U32("count"));
  if (count > kMaxManifestEntries || count * kEntryBytes != reader.remaining()) {
    return MakeError(ErrorCode::kCorrupt, "{}: count {} needs {} bytes, {} follow", reader.what(),
                     count, count * kEntryBytes, reader.remaining());
  }
  std::vector<ManifestEntry> entries;
  for (u32 i = 0; i < count; ++i) {
    PV_ASSIGN_OR_RETURN(ManifestEntry entry, ReadEntry(reader));
    PV_ASSIGN_OR_RETURN(const u32 reserved, reader.U32("reserved"));
    PV_ASSIGN_OR_RETURN(entry.record_bytes, reader.U64("record bytes"));
    if (reserved != 0) {
      return MakeError(ErrorCode::kCorrupt, "{}: entry {}: reserved field is {}, required 0",
                       reader.what(), i, reserved);
    }
    entries.push_back(entry);
  }
  return entries;
}

Result<std::vector<ManifestEntry>> OpenManifest(ByteView bytes, Expected expected,
                                                Binding* binding) {
  expected.kind = Kind::kKeyManifest;
  PV_ASSIGN_OR_RETURN(const Container container, OpenContainer(bytes, expected));
  *binding = container.header.binding;
  Reader reader(container.payload, KindName(Kind::kKeyManifest));
  return ReadEntries(reader);
}

}  // namespace

const char* KeyUseName(KeyUse use) {
  switch (use) {
    case KeyUse::kRelinearization:
      return "relinearisation";
    case KeyUse::kConjugation:
      return "conjugation";
    case KeyUse::kToSparse:
      return "to sparse secret";
    case KeyUse::kToDense:
      return "to dense secret";
    case KeyUse::kRotation:
      return "rotation";
  }
  return "unknown";
}

std::string ManifestEntry::Describe() const {
  if (use != KeyUse::kRotation) return fmt::format("{} at level {}", KeyUseName(use), level);
  return fmt::format("rotation {} at level {}", rotation, level);
}

Result<std::vector<ManifestEntry>> ManifestOf(const ckks::Parameters& params,
                                              const ckks::KeyRequest& request) {
  std::vector<ManifestEntry> manifest;
  for (const int level : request.relinearization_levels) {
    manifest.push_back({KeyUse::kRelinearization, 0, level});
  }
  for (const int level : request.conjugation_levels) {
    manifest.push_back({KeyUse::kConjugation, 0, level});
  }
  if (request.encapsulation) {
    manifest.push_back({KeyUse::kToSparse, 0, 0});
    manifest.push_back({KeyUse::kToDense, 0, params.max_level()});
  }
  for (const auto& [rotation, level] : request.rotations) {
    manifest.push_back({KeyUse::kRotation, rotation, level});
  }
  for (ManifestEntry& entry : manifest) {
    PV_RETURN_IF_ERROR(CheckEntry(params, entry));
    entry.record_bytes = RecordBytes(params, entry);
  }
  return manifest;
}

size_t ManifestBytes(size_t entries) { return kHeaderBytes + 4 + entries * kEntryBytes; }

u64 StreamBytes(const std::vector<ManifestEntry>& manifest) {
  u64 bytes = ManifestBytes(manifest.size());
  for (const ManifestEntry& entry : manifest) bytes += entry.record_bytes;
  return bytes;
}

Bytes FormatManifest(const Binding& binding, const std::vector<ManifestEntry>& manifest) {
  Writer writer = BeginContainer(ManifestBytes(manifest.size()) - kHeaderBytes);
  writer.U32(static_cast<u32>(manifest.size()));
  for (const ManifestEntry& entry : manifest) {
    WriteEntry(writer, entry);
    writer.U32(0);
    writer.U64(entry.record_bytes);
  }
  return FinishContainer(std::move(writer), Kind::kKeyManifest, binding);
}

Status ParseManifest(ByteView bytes, const Expected& digests,
                     const std::vector<ManifestEntry>& required, Binding* binding) {
  Expected expected = digests;
  expected.min_payload_bytes = expected.max_payload_bytes =
      ManifestBytes(required.size()) - kHeaderBytes;
  PV_ASSIGN_OR_RETURN(const auto entries, OpenManifest(bytes, expected, binding));
  for (size_t i = 0; i < required.size(); ++i) {
    if (entries[i] == required[i]) continue;
    return MakeError(ErrorCode::kMismatch, "{}: entry {} is {} ({} bytes), required {} ({} bytes)",
                     KindName(Kind::kKeyManifest), i, entries[i].Describe(),
                     entries[i].record_bytes, required[i].Describe(), required[i].record_bytes);
  }
  return {};
}

Result<std::vector<ManifestEntry>> ReadManifest(const ckks::Parameters& params, ByteView bytes,
                                                const Expected& digests, Binding* binding) {
  Expected expected = digests;
  expected.min_payload_bytes = 4;
  expected.max_payload_bytes = ManifestBytes(kMaxManifestEntries) - kHeaderBytes;
  PV_ASSIGN_OR_RETURN(const auto entries, OpenManifest(bytes, expected, binding));
  for (const ManifestEntry& entry : entries) {
    PV_RETURN_IF_ERROR(CheckEntry(params, entry));
    if (entry.record_bytes != RecordBytes(params, entry)) {
      return MakeError(ErrorCode::kMismatch, "{}: {}: {} record bytes, required {}",
                       KindName(Kind::kKeyManifest), entry.Describe(), entry.record_bytes,
                       RecordBytes(params, entry));
    }
  }
  return entries;
}

Bytes FormatKey(const ckks::Parameters& params, const Binding& binding, u32 index,
                const ManifestEntry& entry, const ckks::KeySwitchKey& key) {
  const ckks::KeyShape shape = ShapeOfEntry(params, entry);
  PV_CHECK(key.b.size() == static_cast<size_t>(shape.rows), "{}: {} rows, shape has {}",
           entry.Describe(), key.b.size(), shape.rows);
  const Moduli moduli = KeyModuli(shape);
  Writer writer = BeginContainer(entry.record_bytes - kHeaderBytes);
  writer.U32(index);
  WriteEntry(writer, entry);
  writer.Raw(key.seed);
  for (const ring::RnsPoly& row : key.b) WritePoly(writer, row, moduli);
  return FinishContainer(std::move(writer), Kind::kKeyRecord, binding);
}

Result<ckks::KeySwitchKey> ParseKey(const ckks::Parameters& params, const Binding& binding,
                                    u32 index, const ManifestEntry& entry, ByteView bytes) {
  Expected expected;
  expected.kind = Kind::kKeyRecord;
  expected.params = &binding.params;
  expected.model = &binding.model;
  expected.key_id = &binding.key_id;
  expected.min_payload_bytes = expected.max_payload_bytes = entry.record_bytes - kHeaderBytes;
  expected.what = fmt::format("evaluation key {} ({})", index, entry.Describe());
  PV_ASSIGN_OR_RETURN(const Container container, OpenContainer(bytes, expected));
  Reader reader(container.payload, expected.what);
  PV_ASSIGN_OR_RETURN(const u32 found_index, reader.U32("index"));
  PV_ASSIGN_OR_RETURN(ManifestEntry found, ReadEntry(reader));
  found.record_bytes = entry.record_bytes;
  if (found_index != index || !(found == entry)) {
    return MakeError(ErrorCode::kMismatch, "{}: the record is key {} ({})", expected.what,
                     found_index, found.Describe());
  }
  const ckks::KeyShape shape = ShapeOfEntry(params, entry);
  const Moduli moduli = KeyModuli(shape);
  ckks::KeySwitchKey key;
  key.kind = KindOf(entry.use);
  key.level = entry.level;
  PV_ASSIGN_OR_RETURN(key.seed, reader.Array<32>("seed"));
  for (int row = 0; row < shape.rows; ++row) {
    PV_ASSIGN_OR_RETURN(ring::RnsPoly b,
                        ReadPoly(reader, moduli, params.n(), fmt::format("row {}", row)));
    key.b.push_back(std::move(b));
  }
  PV_RETURN_IF_ERROR(reader.ExpectEnd());
  return key;
}

}  // namespace polyveil::wire
