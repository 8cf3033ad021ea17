#include <algorithm>

#include "serve/protocol.h"

namespace polyveil::serve {

wire::Bytes FormatFrame(FrameType type, wire::ByteView payload) {
  wire::Writer writer(kFrameHeaderBytes + payload.size());
  writer.U8(static_cast<std::uint8_t>(type));
  writer.U32(static_cast<u32>(payload.size()));
  writer.Raw(payload);
  return writer.Take();
}

wire::Bytes FormatFrame(FrameType type, std::string_view payload) {
  return FormatFrame(
      type, wire::ByteView(reinterpret_cast<const std::uint8_t*>(payload.data()), payload.size()));
}

namespace {

struct FrameHeader {
  FrameType type;
  u32 length;
};

Result<FrameHeader> ReadFrameHeader(wire::ByteView bytes, u64 max_payload_bytes) {
  wire::Reader reader(bytes, "frame");
  PV_ASSIGN_OR_RETURN(const std::uint8_t type, reader.U8("type"));
  PV_ASSIGN_OR_RETURN(const u32 length, reader.U32("length"));
  if (type < 1 || type > static_cast<std::uint8_t>(FrameType::kError)) {
    return MakeError(ErrorCode::kCorrupt, "frame: type {} is outside [1, {}]", type,
                     static_cast<int>(FrameType::kError));
  }
  if (length > max_payload_bytes) {
    return MakeError(ErrorCode::kOutOfRange, "frame: length {} above {}", length,
                     max_payload_bytes);
  }
  return FrameHeader{static_cast<FrameType>(type), length};
}

}  // namespace

Status FrameReader::Push(wire::ByteView bytes, std::vector<Frame>& frames) {
  pending_.insert(pending_.end(), bytes.begin(), bytes.end());
  size_t start = 0;
  while (pending_.size() - start >= kFrameHeaderBytes) {
    const wire::ByteView rest = wire::ByteView(pending_).subspan(start);
    PV_ASSIGN_OR_RETURN(const FrameHeader header, ReadFrameHeader(rest, max_payload_bytes_));
    if (rest.size() - kFrameHeaderBytes < header.length) break;
    const wire::ByteView payload = rest.subspan(kFrameHeaderBytes, header.length);
    frames.push_back({header.type, wire::Bytes(payload.begin(), payload.end())});
    start += kFrameHeaderBytes + header.length;
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(start));
  return {};
}

}  // namespace polyveil::serve
