// A short fuzz in every test run: mutated valid inputs, half of the containers with a repaired
// checksum.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "fuzz/targets.h"

namespace polyveil::testing {
namespace {

using wire::Bytes;

#ifndef POLYVEIL_FUZZ_ROUNDS
#define POLYVEIL_FUZZ_ROUNDS 1500
#endif
constexpr int kRounds = POLYVEIL_FUZZ_ROUNDS;
// Most decisions are taken in an input's first bytes.
constexpr size_t kDenseBytes = 400;

size_t Position(const Bytes& bytes, std::mt19937_64& random) {
  const size_t range = random() % 4 ? std::min(bytes.size(), kDenseBytes) : bytes.size();
  return range == 0 ? 0 : random() % range;
}

void MutateOnce(Bytes& bytes, std::mt19937_64& random) {
  static constexpr std::uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0xff, '"', '[', '{', '-', '9'};
  const size_t at = Position(bytes, random);
  switch (random() % 6) {
    case 0:
      if (!bytes.empty()) bytes[at] ^= 1u << (random() % 8);
      break;
    case 1:
      if (!bytes.empty()) bytes[at] = kEdges[random() % std::size(kEdges)];
      break;
    case 2:
      for (size_t i = at; i < std::min(bytes.size(), at + 8); ++i) bytes[i] = 0xff;
      break;
    case 3:
      bytes.resize(random() % (bytes.size() + 1));
      break;
    case 4:
      bytes.insert(bytes.begin() + static_cast<long>(at), random() % 9, kEdges[random() % 10]);
      break;
    default:
      bytes.erase(bytes.begin() + static_cast<long>(at),
                  bytes.begin() + static_cast<long>(std::min(bytes.size(), at + 1 + random() % 8)));
  }
}

TEST(Mutation, SeedsAreAccepted) {
  for (const FuzzTarget& target : FuzzTargets())
    EXPECT_TRUE(target.parse(target.seed)) << target.name;
}

TEST(Mutation, EveryParserReturns) {
  std::mt19937_64 random(20250101);
  for (const FuzzTarget& target : FuzzTargets()) {
    const int rounds = target.seed.size() > 100000 ? kRounds / 5 : kRounds;
    int accepted = 0;
    for (int i = 0; i < rounds; ++i) {
      Bytes bytes = target.seed;
      for (int edits = 1 + static_cast<int>(random() % 3); edits > 0; --edits)
        MutateOnce(bytes, random);
      if (target.container && i % 2) Reseal(bytes);
      accepted += target.parse(bytes);
    }
    RecordProperty(target.name, accepted);
  }
}

TEST(Mutation, ShortAndRandomInputs) {
  std::mt19937_64 random(7);
  for (const FuzzTarget& target : FuzzTargets()) {
    for (int i = 0; i < 300; ++i) {
      Bytes bytes(random() % 300);
      for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
      target.parse(bytes);
    }
  }
}

// Without repair a container is refused whatever the change: the checksum covers every byte.
TEST(Mutation, UnrepairedContainersAreRefused) {
  std::mt19937_64 random(11);
  for (const FuzzTarget& target : FuzzTargets()) {
    if (!target.container) continue;
    for (int i = 0; i < 200; ++i) {
      Bytes bytes = target.seed;
      MutateOnce(bytes, random);
      if (bytes == target.seed) continue;
      EXPECT_FALSE(target.parse(bytes)) << target.name << " round " << i;
    }
  }
}

// What libFuzzer found to reach something new, in every build.
TEST(Mutation, KeptInputsReturn) {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(POLYVEIL_CORPUS)) {
    std::ifstream in(entry.path(), std::ios::binary);
    ParseFuzzInput(Bytes(std::istreambuf_iterator<char>(in), {}));
    ++count;
  }
  EXPECT_GT(count, FuzzTargets().size());
}

}  // namespace
}  // namespace polyveil::testing
