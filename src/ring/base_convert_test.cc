// Base conversion against big integers.
#include "ring/base_convert.h"

#include <gtest/gtest.h>

#include <boost/multiprecision/cpp_int.hpp>
#include <random>

#include "base/thread_pool.h"
#include "ring/primes.h"
#include "ring/rns_poly.h"

namespace polyveil::ring {
namespace {

using Integer = boost::multiprecision::cpp_int;

constexpr size_t kRing = size_t{1} << 13;

std::vector<Modulus> MakeModuli(int bits, size_t count, size_t skip = 0) {
  std::vector<Modulus> moduli;
  const auto primes = FindNttPrimes(kRing, bits, count + skip).value();
  for (size_t i = skip; i < primes.size(); ++i) moduli.emplace_back(primes[i]);
  return moduli;
}

Integer Product(const std::vector<Modulus>& moduli) {
  Integer product = 1;
  for (const Modulus& q : moduli) product *= q.q;
  return product;
}

u64 Mod(const Integer& value, u64 q) {
  Integer r = value % q;
  if (r < 0) r += q;
  return static_cast<u64>(r);
}

// Values in (-Q/2, Q/2): random ones, zero, small ones, and those next to the edges that double can
// tell.
std::vector<Integer> Values(size_t n, const Integer& product, u64 seed) {
  std::mt19937_64 random(seed);
  const Integer half = product / 2;
  const Integer margin = (product >> 44) + 1;
  std::vector<Integer> values;
  for (size_t j = 0; j < n; ++j) {
    Integer value = 0;
    for (size_t bits = 0; bits < msb(product) + 64; bits += 64) value = (value << 64) + random();
    value = value % (product - 2 * margin) - half + margin;
    if (j == 0) value = 0;
    if (j == 1) value = half - margin;
    if (j == 2) value = margin - half;
    if (j > 2 && j < 40) value = static_cast<int>(j) - 20;
    values.push_back(value);
  }
  return values;
}

RnsPoly Residues(const std::vector<Integer>& values, const std::vector<Modulus>& moduli) {
  RnsPoly result(moduli.size(), values.size());
  for (size_t i = 0; i < moduli.size(); ++i)
    for (size_t j = 0; j < values.size(); ++j) result.ptr(i)[j] = Mod(values[j], moduli[i].q);
  return result;
}

std::vector<u64*> Pointers(RnsPoly& a) {
  std::vector<u64*> pointers;
  for (size_t i = 0; i < a.limbs(); ++i) pointers.push_back(a.ptr(i));
  return pointers;
}

void ExpectExact(const std::vector<Modulus>& from, const std::vector<Modulus>& to, size_t n) {
  const auto values = Values(n, Product(from), from.size() * 100 + to.size());
  RnsPoly in = Residues(values, from);
  const RnsPoly expected = Residues(values, to);
  const BaseConverter converter(from, to);
  for (const Kernels* kernels : AvailableKernels()) {
    ASSERT_TRUE(SetBackend(kernels->name).ok());
    RnsPoly out(to.size(), n);
    converter.Convert(Pointers(out).data(), Pointers(in).data(), n);
    for (size_t k = 0; k < to.size(); ++k)
      for (size_t j = 0; j < n; ++j)
        ASSERT_EQ(out.ptr(k)[j], expected.ptr(k)[j]) << kernels->name << " k " << k << " j " << j;
    RnsPoly scaled = in;
    for (size_t i = 0; i < from.size(); ++i)
      kernels->mul_scalar(scaled.ptr(i), in.ptr(i), converter.premultiplier(i), n, from[i]);
    RnsPoly again(to.size(), n);
    converter.ConvertPremultiplied(Pointers(again).data(), Pointers(scaled).data(), n);
    for (size_t k = 0; k < to.size(); ++k)
      for (size_t j = 0; j < n; ++j) ASSERT_EQ(again.ptr(k)[j], expected.ptr(k)[j]);
  }
  ASSERT_TRUE(SetBackend("").ok());
}

TEST(BaseConverter, ExactCentredForEveryShape) {
  for (const size_t sources : {1, 2, 3, 9, 28}) {
    for (const size_t targets : {1, 4, 9}) {
      ExpectExact(MakeModuli(50, sources), MakeModuli(40, targets), 1024);
      ExpectExact(MakeModuli(40, sources), MakeModuli(50, targets), 128);
    }
  }
}

TEST(BaseConverter, ExactOnThePoolAndRaggedSize) {
  SetThreads(2);
  ExpectExact(MakeModuli(50, 4), MakeModuli(40, 6), 3 * 8192 + 64);
  SetThreads(0);
}

TEST(BaseConverter, TargetMayContainSourceModuli) {
  const auto from = MakeModuli(45, 3);
  auto to = MakeModuli(45, 2, 3);
  to.push_back(from[1]);
  ExpectExact(from, to, 256);
}

TEST(BaseConverter, SingleSourceRaisesCentred) {
  // ModRaise: one modulus to many, exact at both edges.
  const auto from = MakeModuli(50, 1);
  const auto to = MakeModuli(40, 5);
  const BaseConverter converter(from, to);
  const u64 q = from[0].q;
  RnsPoly in(1, 64), out(5, 64);
  for (size_t j = 0; j < 64; ++j) in.ptr(0)[j] = j % 2 == 0 ? q / 2 - 64 * j : q / 2 + 1 + 64 * j;
  converter.Convert(Pointers(out).data(), Pointers(in).data(), 64);
  for (size_t k = 0; k < 5; ++k)
    for (size_t j = 0; j < 64; ++j)
      ASSERT_EQ(out.ptr(k)[j], to[k].ReduceSigned(from[0].Centred(in.ptr(0)[j])));
}

TEST(BaseConverter, FastIsExactUpToMultiplesOfQ) {
  const auto from = MakeModuli(50, 5), to = MakeModuli(40, 3);
  const Integer product = Product(from);
  const auto values = Values(512, product, 3);
  RnsPoly in = Residues(values, from), out(3, 512);
  const BaseConverter converter(from, to, Conversion::kFast);
  converter.Convert(Pointers(out).data(), Pointers(in).data(), 512);
  for (size_t j = 0; j < 512; ++j) {
    const Integer base = (values[j] % product + product) % product;
    bool found = false;
    for (int e = 0; e < 5 && !found; ++e) {
      found = true;
      for (size_t k = 0; k < 3; ++k)
        found = found && out.ptr(k)[j] == Mod(base + e * product, to[k].q);
    }
    ASSERT_TRUE(found) << "j " << j;
  }
  EXPECT_EQ(converter.product_mod(0), Mod(product, to[0].q));
}

}  // namespace
}  // namespace polyveil::ring
