#include "wire/key_stream.h"

#include "ckks/key_storage.h"
#include "wire/client/wire_fixture.h"

namespace polyveil::wire {
namespace {

Status PushInPieces(KeyStreamReader& reader, ByteView bytes, size_t piece) {
  while (!bytes.empty()) {
    const size_t count = std::min(piece, bytes.size());
    PV_RETURN_IF_ERROR(reader.Push(bytes.first(count)));
    bytes = bytes.subspan(count);
  }
  return {};
}

Status PushAll(const Fixture& f, ByteView bytes) {
  auto reader = KeyStreamReader::Create(f.params, f.request).value();
  PV_RETURN_IF_ERROR(reader.Push(bytes));
  if (reader.complete()) return {};
  return MakeError(ErrorCode::kCorrupt, "{} of {} bytes", reader.received(), reader.total());
}

TEST(KeyStream, RoundTripInPiecesOfAnySize) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.KeyStream();
  for (const size_t piece : {size_t{1000}, size_t{65536}, bytes.size()}) {
    auto reader = KeyStreamReader::Create(f.params, f.request).value();
    EXPECT_EQ(reader.total(), bytes.size());
    const Status status = PushInPieces(reader, bytes, piece);
    ASSERT_TRUE(status.ok()) << status.error().message;
    ASSERT_TRUE(reader.complete());
    EXPECT_EQ(reader.key_id(), KeyIdOf(f.key));
    EXPECT_TRUE(reader.TakeKeys().Covers(*f.params, f.request).ok());
  }
}

TEST(KeyStream, ExpandsTheKeysThatItIsTold) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.KeyStream();
  ckks::KeyRequest some;
  some.rotations = {*f.request.rotations.begin()};
  some.encapsulation = f.request.encapsulation;
  for (const ckks::KeyRequest& expanded : {ckks::KeyRequest(), some, f.request}) {
    auto reader = KeyStreamReader::Create(f.params, f.request, std::nullopt, expanded).value();
    ASSERT_TRUE(reader.Push(bytes).ok());
    const ckks::EvaluationKeys keys = reader.TakeKeys();
    EXPECT_EQ(keys.bytes(), ckks::KeyMemoryBytes(*f.params, f.request, expanded));
    for (const auto& [rotation, level] : f.request.rotations)
      EXPECT_EQ(keys.rotations.at(rotation).at(level).compact(),
                !expanded.rotations.contains({rotation, level}));
  }
}

TEST(KeyStream, RefusesTruncationOversizeAndBytesAfterTheEnd) {
  const Fixture f = Fixture::Make();
  Bytes bytes = f.KeyStream();
  EXPECT_FALSE(PushAll(f, ByteView(bytes).first(bytes.size() - 1)).ok());
  bytes.push_back(0);
  const Status status = PushAll(f, bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kOutOfRange);
}

TEST(KeyStream, RefusesBitFlipsAnywhere) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.KeyStream();
  for (size_t i = 0; i < 60; ++i) {
    Bytes altered = bytes;
    altered[i * 104729 % bytes.size()] ^= 1u << (i % 8);
    EXPECT_FALSE(PushAll(f, altered).ok()) << i;
  }
}

TEST(KeyStream, StaysDeadAfterAnError) {
  const Fixture f = Fixture::Make();
  Bytes bytes = f.KeyStream();
  auto reader = KeyStreamReader::Create(f.params, f.request).value();
  Bytes altered = bytes;
  altered[20] ^= 1;
  ASSERT_FALSE(reader.Push(altered).ok());
  EXPECT_FALSE(reader.Push(bytes).ok());
  EXPECT_FALSE(reader.complete());
}

TEST(KeyStream, RefusesAnotherRequestNamingTheEntry) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.KeyStream();
  ckks::KeyRequest other = f.request;
  other.rotations = {{1, 2}, {5, 2}};
  auto reader = KeyStreamReader::Create(f.params, other).value();
  const Status status = reader.Push(ByteView(bytes).first(2000));  // the manifest is enough
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("rotation 5 at level 3"), std::string::npos)
      << status.error().message;
}

TEST(KeyStream, RefusesKeysOfAnotherSecret) {
  const Fixture f = Fixture::Make();
  const Fixture g = Fixture::Make();
  auto reader = KeyStreamReader::Create(f.params, f.request, KeyIdOf(f.key)).value();
  const Status status = reader.Push(g.KeyStream());
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("key id"), std::string::npos);
}

TEST(KeyStream, RefusesARecordOfAnotherSecretInTheMiddle) {
  const Fixture f = Fixture::Make();
  const Fixture g = Fixture::Make();
  Bytes mixed = f.KeyStream();
  const Bytes foreign = g.KeyStream();
  const auto manifest = ManifestOf(*f.params, f.request).value();
  const size_t start = mixed.size() - manifest.back().record_bytes;
  std::copy(foreign.begin() + start, foreign.end(), mixed.begin() + start);
  const Status status = PushAll(f, mixed);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("key id"), std::string::npos);
}

TEST(KeyStream, RefusesRecordsInAnotherOrder) {
  Fixture f = Fixture::Make();
  f.request.rotations = {{1, 2}, {5, 2}};  // equal sizes
  Bytes bytes = f.KeyStream();
  const auto manifest = ManifestOf(*f.params, f.request).value();
  const size_t record = manifest.back().record_bytes;
  std::swap_ranges(bytes.end() - 2 * record, bytes.end() - record, bytes.end() - record);
  EXPECT_FALSE(PushAll(f, bytes).ok());
}

TEST(KeyStream, ManifestRefusesLevelsAndRotationsOutsideTheParameters) {
  const Fixture f = Fixture::Make();
  ckks::KeyRequest request;
  request.rotations = {{1, f.params->max_level() + 1}};
  EXPECT_FALSE(ManifestOf(*f.params, request).ok());
  request.rotations = {{f.params->slots(), 1}};
  EXPECT_FALSE(ManifestOf(*f.params, request).ok());
}

TEST(KeyStream, WriterStopsWhenCancelledOrTheSinkFails) {
  const Fixture f = Fixture::Make();
  Progress progress;
  progress.Cancel();
  const auto accept = [](ByteView) -> Status { return {}; };
  EXPECT_EQ(WriteKeyStream(f.key, f.request, accept, &progress).error().code,
            ErrorCode::kCancelled);
  const auto refuse = [](ByteView) -> Status { return MakeError(ErrorCode::kIo, "full"); };
  EXPECT_EQ(WriteKeyStream(f.key, f.request, refuse).error().code, ErrorCode::kIo);
}

}  // namespace
}  // namespace polyveil::wire
