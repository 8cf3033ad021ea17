#include "wire/container.h"

#include <algorithm>
#include <cstring>

namespace polyveil::wire {
namespace {

constexpr std::array<std::uint8_t, 8> kMagic = {'P', 'O', 'L', 'Y', 'V', 'E', 'I', 'L'};
constexpr size_t kChecksumOffset = kHeaderBytes - 32;
constexpr char kChecksumDomain[] = "polyveil/container/1";

std::string Name(const Expected& expected) {
  return expected.what.empty() ? KindName(expected.kind) : expected.what;
}

Digest Checksum(ByteView header, ByteView payload) {
  return Hasher(kChecksumDomain).Update(header.first(kChecksumOffset)).Update(payload).Final();
}

Status CheckDigest(const std::string& what, const char* field, const Digest& found,
                   const Digest* required) {
  if (required == nullptr || found == *required) return {};
  return MakeError(ErrorCode::kMismatch, "{}: {} {}... differs from the required {}...", what,
                   field, ToHex(found).substr(0, 16), ToHex(*required).substr(0, 16));
}

Status CheckStart(Reader& reader, const Expected& expected) {
  PV_ASSIGN_OR_RETURN(const auto magic, reader.Array<8>("magic"));
  if (magic != kMagic) {
    return MakeError(ErrorCode::kCorrupt, "{}: magic {} is not POLYVEIL's {}", reader.what(),
                     ToHex(magic), ToHex(kMagic));
  }
  PV_ASSIGN_OR_RETURN(const auto version, reader.U16("version"));
  if (version != kFormatVersion) {
    return MakeError(ErrorCode::kMismatch, "{}: format version {}, this program reads {}",
                     reader.what(), version, kFormatVersion);
  }
  PV_ASSIGN_OR_RETURN(const auto kind, reader.U16("kind"));
  if (kind != static_cast<std::uint16_t>(expected.kind)) {
    return MakeError(ErrorCode::kMismatch, "{}: kind {} ({}), required {} ({})", reader.what(),
                     kind, KindName(static_cast<Kind>(kind)), static_cast<int>(expected.kind),
                     KindName(expected.kind));
  }
  PV_ASSIGN_OR_RETURN(const auto reserved, reader.U32("reserved"));
  if (reserved != 0) {
    return MakeError(ErrorCode::kCorrupt, "{}: reserved field at offset 12 is {}, required 0",
                     reader.what(), reserved);
  }
  return {};
}

}  // namespace

const char* KindName(Kind kind) {
  switch (kind) {
    case Kind::kSecretKey:
      return "secret key";
    case Kind::kKeyManifest:
      return "evaluation keys' manifest";
    case Kind::kKeyRecord:
      return "evaluation key";
    case Kind::kToken:
      return "token ciphertext";
    case Kind::kResult:
      return "result ciphertext";
    case Kind::kSessionState:
      return "session state";
  }
  return "unknown";
}

Writer BeginContainer(size_t payload_reserve) {
  Writer writer(kHeaderBytes + payload_reserve);
  writer.Extend(kHeaderBytes);
  return writer;
}

Bytes FinishContainer(Writer writer, Kind kind, const Binding& binding) {
  PV_CHECK(writer.size() >= kHeaderBytes, "container of {} bytes has no header", writer.size());
  Writer header(kHeaderBytes);
  header.Raw(kMagic);
  header.U16(kFormatVersion);
  header.U16(static_cast<std::uint16_t>(kind));
  header.U32(0);
  header.Raw(binding.params);
  header.Raw(binding.model);
  header.Raw(binding.key_id);
  header.U64(writer.size() - kHeaderBytes);
  PV_CHECK(header.size() == kChecksumOffset, "header of {} bytes", header.size());
  Bytes bytes = writer.Take();
  header.Raw(Checksum(header.bytes(), ByteView(bytes).subspan(kHeaderBytes)));
  std::copy(header.bytes().begin(), header.bytes().end(), bytes.begin());
  return bytes;
}

Result<Header> ParseHeader(ByteView bytes, const Expected& expected) {
  Reader reader(bytes, Name(expected));
  PV_RETURN_IF_ERROR(CheckStart(reader, expected));
  Header header;
  header.kind = expected.kind;
  PV_ASSIGN_OR_RETURN(header.binding.params, reader.Array<32>("parameter digest"));
  PV_ASSIGN_OR_RETURN(header.binding.model, reader.Array<32>("model digest"));
  PV_ASSIGN_OR_RETURN(header.binding.key_id, reader.Array<32>("key id"));
  PV_ASSIGN_OR_RETURN(header.payload_bytes, reader.U64("payload length"));
  PV_RETURN_IF_ERROR(reader.Array<32>("checksum"));
  const Binding& binding = header.binding;
  PV_RETURN_IF_ERROR(
      CheckDigest(reader.what(), "parameter digest", binding.params, expected.params));
  PV_RETURN_IF_ERROR(CheckDigest(reader.what(), "model digest", binding.model, expected.model));
  PV_RETURN_IF_ERROR(CheckDigest(reader.what(), "key id", binding.key_id, expected.key_id));
  if (header.payload_bytes < expected.min_payload_bytes ||
      header.payload_bytes > expected.max_payload_bytes) {
    return MakeError(ErrorCode::kOutOfRange, "{}: payload length {} is outside [{}, {}] bytes",
                     reader.what(), header.payload_bytes, expected.min_payload_bytes,
                     expected.max_payload_bytes);
  }
  return header;
}

Result<Container> OpenContainer(ByteView bytes, const Expected& expected) {
  PV_ASSIGN_OR_RETURN(const Header header, ParseHeader(bytes, expected));
  const ByteView payload = bytes.subspan(kHeaderBytes);
  if (payload.size() != header.payload_bytes) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} payload bytes, the header says {}",
                     Name(expected), payload.size(), header.payload_bytes);
  }
  const Digest checksum = Checksum(bytes, payload);
  if (!std::equal(checksum.begin(), checksum.end(), bytes.begin() + kChecksumOffset)) {
    return MakeError(ErrorCode::kCorrupt,
                     "{}: checksum {}... stored, {}... computed (altered bytes)", Name(expected),
                     ToHex(bytes.subspan(kChecksumOffset, 8)), ToHex(ByteView(checksum).first(8)));
  }
  return Container{header, payload};
}

}  // namespace polyveil::wire
