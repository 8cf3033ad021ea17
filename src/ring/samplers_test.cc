// Distributions and known answers of the samplers.
#include "ring/samplers.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/digest.h"
#include "ring/primes.h"

namespace polyveil::ring {
namespace {

constexpr size_t kCount = size_t{1} << 16;

Seed CountingSeed() {
  Seed seed;
  std::iota(seed.begin(), seed.end(), std::uint8_t{0});
  return seed;
}

std::map<i64, size_t> Histogram(const std::vector<i64>& values) {
  std::map<i64, size_t> counts;
  for (const i64 value : values) ++counts[value];
  return counts;
}

TEST(Samplers, TernaryIsUniform) {
  Prng prng(CountingSeed(), "ternary");
  std::vector<i64> values(kCount);
  SampleTernary(prng, values);
  const auto counts = Histogram(values);
  ASSERT_EQ(counts.size(), 3u);
  const double expected = kCount / 3.0, sigma = std::sqrt(kCount * 2.0 / 9.0);
  for (const auto& [value, count] : counts) EXPECT_NEAR(count, expected, 5 * sigma) << value;
}

TEST(Samplers, SparseHasExactWeightAndBothSigns) {
  Prng prng(CountingSeed(), "sparse");
  for (const size_t weight : {0, 1, 32, 192}) {
    std::vector<i64> values(kCount, 9);
    SampleSparseTernary(prng, weight, values);
    auto counts = Histogram(values);
    EXPECT_EQ(counts[0], kCount - weight);
    EXPECT_EQ(counts[1] + counts[-1], weight);
    if (weight == 192) {
      EXPECT_NEAR(counts[1], 96, 5 * std::sqrt(48.0));
      double mean = 0;  // positions spread over the ring
      for (size_t j = 0; j < kCount; ++j) mean += values[j] != 0 ? static_cast<double>(j) / 192 : 0;
      EXPECT_NEAR(mean, kCount / 2.0, 5 * kCount / std::sqrt(12.0 * 192));
    }
  }
  std::vector<i64> full(16);
  SampleSparseTernary(prng, 16, full);
  for (const i64 value : full) EXPECT_EQ(std::abs(value), 1);
}

TEST(Samplers, GaussianMatchesItsTable) {
  Prng prng(CountingSeed(), "gaussian");
  std::vector<i64> values(16 * kCount);
  SampleGaussian(prng, values);
  auto counts = Histogram(values);
  double total = 0;
  for (i64 x = -kNoiseBound; x <= kNoiseBound; ++x)
    total += std::exp(-static_cast<double>(x * x) / (2 * kNoiseSigma * kNoiseSigma));
  double chi_squared = 0;
  for (i64 x = -12; x <= 12; ++x) {  // beyond, too few are expected
    const double p =
        std::exp(-static_cast<double>(x * x) / (2 * kNoiseSigma * kNoiseSigma)) / total;
    const double expected = p * static_cast<double>(values.size());
    chi_squared += std::pow(static_cast<double>(counts[x]) - expected, 2) / expected;
  }
  EXPECT_LT(chi_squared, 60.0);  // 25 cells: 60 is beyond 4 sigma
  double variance = 0;
  for (const i64 value : values) variance += static_cast<double>(value * value) / values.size();
  EXPECT_NEAR(std::sqrt(variance), kNoiseSigma, 0.01);
  EXPECT_LE(counts.rbegin()->first, kNoiseBound);
  EXPECT_GE(counts.begin()->first, -kNoiseBound);
}

TEST(Samplers, UniformCoversTheModulus) {
  const Modulus q(FindNttPrimes(kCount, 40, 2).value()[1]);  // just above 2^40
  std::vector<u64> words(kCount), again(kCount), other(kCount);
  SampleUniform(CountingSeed(), "uniform", 3, q, words);
  SampleUniform(CountingSeed(), "uniform", 3, q, again);
  SampleUniform(CountingSeed(), "uniform", 4, q, other);
  EXPECT_EQ(words, again);
  EXPECT_NE(words, other);
  std::array<double, 16> cells{};
  for (const u64 word : words) {
    ASSERT_LT(word, q.q);
    ++cells[static_cast<size_t>(u128{word} * 16 / q.q)];
  }
  double chi_squared = 0;
  for (const double cell : cells)
    chi_squared += std::pow(cell - kCount / 16.0, 2) / (kCount / 16.0);
  EXPECT_LT(chi_squared, 45.0);
  // Pieces of any size continue each other.
  UniformResidues pieces(CountingSeed(), "uniform", 3, q);
  std::ranges::fill(again, 0);
  std::span<u64> rest(again);
  for (size_t size = 1; !rest.empty(); size = 3 * size % 2001) {
    const auto piece = rest.first(std::min(size, rest.size()));
    pieces.Fill(piece);
    rest = rest.subspan(piece.size());
  }
  EXPECT_EQ(words, again);
  // A shorter request is a prefix.
  std::vector<u64> prefix(100);
  SampleUniform(CountingSeed(), "uniform", 3, q, prefix);
  EXPECT_TRUE(std::equal(prefix.begin(), prefix.end(), words.begin()));
}

TEST(Samplers, SignedToResidues) {
  const Modulus q(FindNttPrimes(kCount, 40, 1).value()[0]);
  const std::vector<i64> values = {0, 1, -1, 19, -19};
  std::vector<u64> words(values.size());
  SignedToResidues(values, q, words);
  EXPECT_EQ(words, (std::vector<u64>{0, 1, q.q - 1, 19, q.q - 19}));
}

template <typename T>
std::string DigestOf(const std::vector<T>& values) {
  return ToHex(HashBytes("samplers", {reinterpret_cast<const std::uint8_t*>(values.data()),
                                      values.size() * sizeof(T)}));
}

// tests/vectors/samplers.json: the words that every later version must reproduce (stored seeds
// depend on them).
TEST(Samplers, KnownAnswers) {
  std::ifstream file(std::string(POLYVEIL_VECTORS) + "/samplers.json");
  ASSERT_TRUE(file.good()) << POLYVEIL_VECTORS;
  const auto vectors = nlohmann::json::parse(file);
  std::vector<i64> values(4096);
  Prng ternary(CountingSeed(), "ternary");
  SampleTernary(ternary, values);
  EXPECT_EQ(DigestOf(values), vectors.at("ternary_4096"));
  Prng sparse(CountingSeed(), "sparse");
  SampleSparseTernary(sparse, 32, values);
  EXPECT_EQ(DigestOf(values), vectors.at("sparse_32_of_4096"));
  Prng gaussian(CountingSeed(), "gaussian");
  SampleGaussian(gaussian, values);
  EXPECT_EQ(DigestOf(values), vectors.at("gaussian_4096"));
  const Modulus q(vectors.at("uniform_q").get<u64>());
  std::vector<u64> words(4096);
  SampleUniform(CountingSeed(), "uniform", 7, q, words);
  EXPECT_EQ(DigestOf(words), vectors.at("uniform_4096"));
  EXPECT_EQ(words[0], vectors.at("uniform_first").get<u64>());
}

}  // namespace
}  // namespace polyveil::ring
