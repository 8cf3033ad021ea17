#include "wire/ciphertext_format.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "wire/client/wire_fixture.h"

namespace polyveil::wire {
namespace {

constexpr size_t kLevelOffset = kHeaderBytes + 4;
constexpr size_t kScaleOffset = kHeaderBytes + 8;
constexpr size_t kTokenPolyOffset = kHeaderBytes + 48;

TEST(CiphertextFormat, TokenRoundTrip) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.Token();
  EXPECT_EQ(bytes.size(), TokenBytes(*f.params, 3));
  const auto parsed = ParseToken(*f.params, bytes, f.bounds);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_TRUE(SameWords(parsed->c0, f.seeded.c0));
  EXPECT_EQ(parsed->seed, f.seeded.seed);
  EXPECT_EQ(parsed->scale, f.seeded.scale);
  EXPECT_EQ(parsed->level, 3);
}

TEST(CiphertextFormat, ResultRoundTrip) {
  const Fixture f = Fixture::Make();
  const auto expanded = ckks::Expand(*f.params, f.seeded).value();
  const auto parsed = ParseResult(*f.params, f.ResultMessage(), f.bounds);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  ASSERT_EQ(parsed->degree(), 1);
  EXPECT_TRUE(SameWords(parsed->parts[0], expanded.parts[0]));
  EXPECT_TRUE(SameWords(parsed->parts[1], expanded.parts[1]));
}

TEST(CiphertextFormat, ResiduesTakeTheBitsOfTheirModulus) {
  const Fixture f = Fixture::Make();
  size_t bits = 0;
  for (int i = 0; i < f.params->limbs(3); ++i) bits += f.params->q(i).bits;
  EXPECT_EQ(TokenBytes(*f.params, 3), kHeaderBytes + 48 + bits * f.params->n() / 8);
}

TEST(CiphertextFormat, RefusesEveryTruncation) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.Token();
  for (size_t size = 0; size < bytes.size(); size += size < 400 ? 1 : 97) {
    EXPECT_FALSE(ParseToken(*f.params, ByteView(bytes).first(size), f.bounds).ok()) << size;
  }
}

TEST(CiphertextFormat, RefusesLongerBodies) {
  const Fixture f = Fixture::Make();
  Bytes bytes = f.Token();
  bytes.push_back(0);
  const auto parsed = ParseToken(*f.params, bytes, f.bounds);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().code, ErrorCode::kCorrupt);
}

TEST(CiphertextFormat, RefusesBitFlips) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.Token();
  for (size_t i = 0; i < 2000; ++i) {
    const size_t bit = i < kHeaderBytes * 8 ? i : i * 7919 % (bytes.size() * 8);
    Bytes altered = bytes;
    altered[bit / 8] ^= 1u << (bit % 8);
    EXPECT_FALSE(ParseToken(*f.params, altered, f.bounds).ok()) << "bit " << bit;
  }
}

TEST(CiphertextFormat, RefusesResidueAboveModulus) {
  const Fixture f = Fixture::Make();
  Bytes bytes = f.Token();
  std::memset(bytes.data() + kTokenPolyOffset, 0xff, 7);  // residue 0 of limb 0 becomes 2^50 - 1
  Reseal(bytes);
  const auto parsed = ParseToken(*f.params, bytes, f.bounds);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().code, ErrorCode::kOutOfRange);
  EXPECT_NE(parsed.error().message.find("limb 0"), std::string::npos) << parsed.error().message;
}

TEST(CiphertextFormat, RefusesScalesOtherThanTheExpected) {
  const Fixture f = Fixture::Make();
  for (const double scale : {0.0, -1.0, std::nan(""), std::numeric_limits<double>::infinity(),
                             f.bounds.scale * 2, f.bounds.scale * (1 + 0x1p-18)}) {
    Bytes bytes = f.Token();
    std::memcpy(bytes.data() + kScaleOffset, &scale, 8);
    Reseal(bytes);
    const auto parsed = ParseToken(*f.params, bytes, f.bounds);
    ASSERT_FALSE(parsed.ok()) << scale;
    EXPECT_EQ(parsed.error().code, ErrorCode::kMismatch);
  }
}

TEST(CiphertextFormat, RefusesWrongLevelNamingBoth) {
  const Fixture f = Fixture::Make();
  Bytes bytes = f.Token();
  bytes[kLevelOffset] = 9;
  Reseal(bytes);
  const auto parsed = ParseToken(*f.params, bytes, f.bounds);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().message, "token ciphertext: level = 9, expected 3");
}

TEST(CiphertextFormat, RefusesForeignKeyModelParametersAndPosition) {
  const Fixture f = Fixture::Make();
  const Bytes bytes = f.Token();
  const auto refuse = [&](const MessageBounds& bounds, const char* field) {
    const auto parsed = ParseToken(*f.params, bytes, bounds);
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(parsed.error().code, ErrorCode::kMismatch);
    EXPECT_NE(parsed.error().message.find(field), std::string::npos) << parsed.error().message;
  };
  MessageBounds bounds = f.bounds;
  bounds.binding.key_id[0] ^= 1;
  refuse(bounds, "key id");
  bounds = f.bounds;
  bounds.binding.model[31] ^= 1;
  refuse(bounds, "model digest");
  bounds = f.bounds;
  bounds.binding.params[5] ^= 1;
  refuse(bounds, "parameter digest");
  bounds = f.bounds;
  bounds.position = 8;
  refuse(bounds, "position = 7, expected 8");
}

TEST(CiphertextFormat, RefusesAResultForAToken) {
  const Fixture f = Fixture::Make();
  EXPECT_FALSE(ParseToken(*f.params, f.ResultMessage(), f.bounds).ok());
  EXPECT_FALSE(ParseResult(*f.params, f.Token(), f.bounds).ok());
}

// A server that knows no key can make c1 = 0: it would decrypt to whatever it likes.
TEST(CiphertextFormat, RefusesPartsThatAreNotEncrypted) {
  const Fixture f = Fixture::Make();
  const auto good = ckks::Expand(*f.params, f.seeded).value();
  const size_t limbs = good.parts[0].limbs();
  for (const size_t part : {0, 1}) {
    for (size_t limb = 0; limb <= limbs; ++limb) {  // the last round: all of them
      for (const size_t kept : {0, 1}) {
        ckks::Ciphertext bad = good;
        for (size_t i = limb % limbs; i < (limb == limbs ? limbs : limb + 1); ++i)
          std::ranges::fill(bad.parts[part].limb(i).subspan(kept), u64{0});
        const Bytes bytes = FormatResult(*f.params, f.bounds.binding, f.bounds.position, bad);
        const auto parsed = ParseResult(*f.params, bytes, f.bounds);
        ASSERT_FALSE(parsed.ok()) << part << " " << limb;
        EXPECT_EQ(parsed.error().code, ErrorCode::kCorrupt);
        EXPECT_NE(parsed.error().message.find(part == 0 ? "c0" : "c1"), std::string::npos);
      }
    }
  }
  ckks::SeededCiphertext token = f.seeded;
  std::ranges::fill(token.c0.limb(1), u64{0});
  const Bytes bytes = FormatToken(*f.params, f.bounds.binding, f.bounds.position, token);
  EXPECT_FALSE(ParseToken(*f.params, bytes, f.bounds).ok());
}

// The seeded counterpart of c1 = 0 does not exist: no seed that can be found expands to zero.
TEST(CiphertextFormat, EverySeedExpandsToAC1) {
  const Fixture f = Fixture::Make();
  ckks::SeededCiphertext token = f.seeded;
  for (const int byte : {0, 0xff}) {
    token.seed.fill(static_cast<std::uint8_t>(byte));
    const auto expanded = ckks::Expand(*f.params, token).value();
    for (size_t i = 0; i < expanded.parts[1].limbs(); ++i)
      EXPECT_LT(std::ranges::count(expanded.parts[1].limb(i), u64{0}), 8);
  }
}

TEST(CiphertextFormat, RefusesHugeDeclaredLengthBeforeAllocating) {
  const Fixture f = Fixture::Make();
  Bytes bytes = f.Token();
  const u64 huge = ~u64{0};
  std::memcpy(bytes.data() + 112, &huge, 8);
  Reseal(bytes);
  const auto parsed = ParseToken(*f.params, bytes, f.bounds);
  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().code, ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace polyveil::wire
