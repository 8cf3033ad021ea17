// Transforms against the definition, and the primes and tables behind them.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "ring/automorphism.h"
#include "ring/kernels.h"
#include "ring/primes.h"

namespace polyveil::ring {
namespace {

constexpr size_t kDegree = 1024;

std::vector<u64> Random(size_t n, u64 q, u64 seed) {
  std::mt19937_64 random(seed);
  std::vector<u64> words(n);
  for (u64& word : words) word = random() % q;
  return words;
}

Buffer ToBuffer(const std::vector<u64>& words) {
  Buffer buffer(words.size());
  std::ranges::copy(words, buffer.data());
  return buffer;
}

std::vector<u64> Transform(const std::vector<u64>& in, const NttTables& tables) {
  Buffer buffer = ToBuffer(in);
  ActiveKernels().forward_ntt(buffer.data(), buffer.data(), tables);
  return {buffer.data(), buffer.data() + in.size()};
}

size_t BitReversed(size_t value, int width) {
  size_t result = 0;
  for (int i = 0; i < width; ++i) result |= ((value >> i) & 1) << (width - 1 - i);
  return result;
}

u64 ProductMod(u64 a, u64 b, u64 q) { return static_cast<u64>(u128{a} * b % q); }

// a(x) mod q by Horner's rule with plain division.
u64 Evaluate(const std::vector<u64>& a, u64 x, u64 q) {
  u64 value = 0;
  for (size_t i = a.size(); i-- > 0;) value = (ProductMod(value, x, q) + a[i]) % q;
  return value;
}

// a * b mod (X^n + 1, q), O(n^2).
std::vector<u64> NaiveProduct(const std::vector<u64>& a, const std::vector<u64>& b, u64 q) {
  const size_t n = a.size();
  std::vector<u64> product(n, 0);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < n; ++j) {
      const u64 term = ProductMod(a[i], b[j], q);
      u64& target = product[(i + j) % n];
      target = i + j < n ? (target + term) % q : (target + q - term) % q;
    }
  }
  return product;
}

class NttOfBits : public ::testing::TestWithParam<int> {
 protected:
  Modulus q_{FindNttPrimes(kDegree, GetParam(), 1).value()[0]};
  std::shared_ptr<const NttTables> tables_ = NttTables::Get(kDegree, q_.q);
};

TEST_P(NttOfBits, IsEvaluationAtOddPowersInReversedOrder) {
  std::vector<u64> inputs[] = {Random(kDegree, q_.q, 1), std::vector<u64>(kDegree, q_.q - 1),
                               std::vector<u64>(kDegree, 0), Random(kDegree, 2, 3)};
  inputs[2][kDegree - 1] = q_.q - 1;
  for (const auto& in : inputs) {
    const auto out = Transform(in, *tables_);
    for (size_t j = 0; j < kDegree; ++j) {
      const u64 x = q_.Pow(tables_->psi(), 2 * BitReversed(j, tables_->log_n()) + 1);
      ASSERT_EQ(out[j], Evaluate(in, x, q_.q)) << "word " << j;
    }
  }
}

TEST_P(NttOfBits, ProductIsNegacyclic) {
  const auto a = Random(kDegree, q_.q, 5), b = Random(kDegree, q_.q, 6);
  Buffer x = ToBuffer(Transform(a, *tables_)), y = ToBuffer(Transform(b, *tables_));
  ActiveKernels().mul(x.data(), x.data(), y.data(), kDegree, q_);
  ActiveKernels().inverse_ntt(x.data(), x.data(), *tables_, 1);
  EXPECT_EQ(std::vector<u64>(x.data(), x.data() + kDegree), NaiveProduct(a, b, q_.q));
}

TEST_P(NttOfBits, AutomorphismCommutesWithTransform) {
  const auto a = Random(kDegree, q_.q, 7);
  const auto transformed = Transform(a, *tables_);
  for (const u64 g : {u64{1}, GaloisElement(1, kDegree), GaloisElement(-5, kDegree),
                      ConjugationElement(kDegree)}) {
    std::vector<u64> mapped(kDegree);
    ApplyCoeffAutomorphism(mapped, a, CoeffAutomorphism(g, kDegree), q_);
    const auto expected = Transform(mapped, *tables_);
    const auto table = NttAutomorphism(g, kDegree);
    for (size_t j = 0; j < kDegree; ++j) ASSERT_EQ(transformed[table[j]], expected[j]) << "g " << g;
  }
}

TEST_P(NttOfBits, FactorsOfEveryIndex) {
  for (size_t x = 1; x < kDegree; ++x) {
    const ShoupFactor factor = tables_->ForwardFactor(x);
    ASSERT_EQ(factor.value, q_.Pow(tables_->psi(), BitReversed(x, tables_->log_n()))) << "x " << x;
    ASSERT_EQ(factor.quotient, q_.Shoup(factor.value).quotient);
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, NttOfBits, ::testing::Values(20, 36, 40, 46, 47, 50));

TEST(Automorphism, ElementsFormTheGroup) {
  EXPECT_EQ(GaloisElement(0, kDegree), 1u);
  EXPECT_EQ(GaloisElement(1, kDegree), 5u);
  EXPECT_EQ(GaloisElement(static_cast<i64>(kDegree / 2), kDegree), 1u);
  EXPECT_EQ(GaloisElement(-3, kDegree), GaloisElement(static_cast<i64>(kDegree / 2) - 3, kDegree));
  for (const i64 step : {1, 7, 100}) {
    const u64 g = GaloisElement(step, kDegree);
    EXPECT_EQ(InverseGaloisElement(g, kDegree), GaloisElement(-step, kDegree));
    EXPECT_EQ(g * InverseGaloisElement(g, kDegree) % (2 * kDegree), 1u);
  }
  EXPECT_EQ(InverseGaloisElement(ConjugationElement(kDegree), kDegree),
            ConjugationElement(kDegree));
}

TEST(Automorphism, NttTableKeepsAlignedBlocks) {
  for (const u64 g :
       {GaloisElement(1, kDegree), GaloisElement(77, kDegree), ConjugationElement(kDegree)}) {
    const auto table = NttAutomorphism(g, kDegree);
    for (size_t j = 0; j < kDegree; ++j) ASSERT_EQ(table[j] / 8, table[j / 8 * 8] / 8);
    auto sorted = table;
    std::ranges::sort(sorted);
    for (size_t j = 0; j < kDegree; ++j) ASSERT_EQ(sorted[j], j);
  }
}

TEST(Primes, KnownValues) {
  for (const u64 prime : {u64{2}, u64{3}, u64{65537}, u64{18446744073709551557u}})
    EXPECT_TRUE(IsPrime(prime));
  // Carmichael numbers, strong pseudoprimes to small bases, squares.
  for (const u64 composite : {u64{0}, u64{1}, u64{561}, u64{3215031751}, u64{3825123056546413051},
                              u64{341550071728321}, u64{65537} * 65537})
    EXPECT_FALSE(IsPrime(composite)) << composite;
}

TEST(Primes, NearAlternateAndDistinct) {
  const size_t n = size_t{1} << 16;
  const auto first = FindNttPrimes(n, 40, 8).value();
  double log_product = 0;
  for (const u64 q : first) {
    EXPECT_TRUE(Modulus::Validate(q, n).ok());
    log_product += std::log2(static_cast<double>(q));
  }
  EXPECT_NEAR(log_product, 8 * 40.0, 1e-4);
  EXPECT_LT(first[0], u64{1} << 40);
  EXPECT_GT(first[1], u64{1} << 40);
  const auto second = FindNttPrimes(n, 40, 8, first).value();
  for (const u64 q : second) EXPECT_EQ(std::ranges::count(first, q), 0);
  for (const u64 q : FindNttPrimes(n, 50, 30).value()) EXPECT_LT(q, u64{1} << 50);
  EXPECT_FALSE(FindNttPrimes(n, 20, 50).ok());
  EXPECT_FALSE(FindNttPrimes(n, 51, 1).ok());
  EXPECT_FALSE(FindNttPrimes(1000, 40, 1).ok());
}

TEST(Primes, NearestIsNearest) {
  const size_t n = 4096;
  const double target = 1.0e12;
  const u64 nearest = NearestNttPrime(n, target).value();
  EXPECT_TRUE(Modulus::Validate(nearest, n).ok());
  const auto distance = [&](u64 q) { return std::abs(static_cast<double>(q) - target); };
  for (u64 q = (static_cast<u64>(target) / (2 * n) - 2000) * 2 * n + 1; q < target + 2e7;
       q += 2 * n)
    EXPECT_TRUE(!IsPrime(q) || distance(q) >= distance(nearest)) << q;
  const u64 taken[] = {nearest};
  EXPECT_NE(NearestNttPrime(n, target, taken).value(), nearest);
  EXPECT_FALSE(NearestNttPrime(n, 1e18).ok());
}

TEST(Modulus, ValidateNamesTheFault) {
  EXPECT_FALSE(Modulus::Validate(97, kDegree).ok());
  EXPECT_FALSE(Modulus::Validate(u64{1} << 50, kDegree).ok());
  EXPECT_FALSE(Modulus::Validate(12289 * 3, kDegree).ok());
  EXPECT_FALSE(Modulus::Validate(2049, kDegree).ok());
  EXPECT_TRUE(Modulus::Validate(12289, kDegree).ok());
}

TEST(Modulus, ScalarArithmeticAgainstDivision) {
  std::mt19937_64 random(9);
  for (const int bits : {13, 20, 33, 40, 46, 50}) {
    const Modulus q(FindNttPrimes(kDegree, std::max(bits, 14), 1).value()[0]);
    for (int i = 0; i < 2000; ++i) {
      const u64 a = i < 4 ? q.q - 1 : random() % q.q, b = i % 3 == 0 ? q.q - 1 : random() % q.q;
      const u64 any = i < 2 ? ~u64{0} : random(), x = random() & kMask52;
      ASSERT_EQ(q.Mul(a, b), ProductMod(a, b, q.q));
      ASSERT_EQ(q.Reduce(any), any % q.q);
      ASSERT_EQ(q.MulShoup(x, q.Shoup(b)), ProductMod(x % q.q, b, q.q));
      ASSERT_EQ(q.Add(a, q.Negate(a)), 0u);
      ASSERT_EQ(q.FromSigned(q.Centred(a)), a);
      ASSERT_EQ(q.ReduceSigned(-static_cast<i64>(any >> 1)), q.Negate((any >> 1) % q.q));
      ASSERT_TRUE(a == 0 || q.Mul(a, q.Inverse(a)) == 1);
    }
  }
}

}  // namespace
}  // namespace polyveil::ring
