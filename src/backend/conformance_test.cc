// Every available backend against the scalar reference, bit by bit, on random and extreme words;
// the reference against plain formulas (its transforms stand against an oracle in
// ring/ntt_test.cc).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <random>

#include "base/buffer.h"
#include "ring/automorphism.h"
#include "ring/kernels.h"
#include "ring/primes.h"

namespace polyveil::ring {
namespace {

constexpr size_t kN = 1024;

const Kernels& Reference() { return *AvailableKernels().back(); }

// A prime of the given size that is not close to a power of two.
u64 PrimeAround(size_t n, u64 start) {
  u64 q = start / (2 * n) * (2 * n) + 1;
  while (!Modulus::Validate(q, n).ok()) q += 2 * n;
  return q;
}

// Smallest, middle and largest prime sizes. 44, 45 and 46 stand around the ranges of the roomy
// transforms; from 46 on primes close to a power of two and others take different paths, and
// 2^50 (1 - 2^-8) is where these meet.
std::vector<Modulus> Moduli(size_t n) {
  std::vector<Modulus> moduli;
  for (const int bits : {20, 30, 40, 44, 45, 46, 47, 48, 49, 50}) {
    const auto primes = FindNttPrimes(n, bits, bits == 20 || bits > 46 ? 1 : 2).value();
    for (const u64 q : primes) moduli.emplace_back(q);
  }
  const u64 meeting = (u64{1} << 50) - (u64{1} << 42);
  for (const u64 start : {u64{1} << 46, u64{3} << 48, meeting - (u64{1} << 36), meeting})
    moduli.emplace_back(PrimeAround(n, start));
  return moduli;
}

enum class Words { kRandom, kZero, kLargest, kAlternating };
constexpr Words kAllWords[] = {Words::kRandom, Words::kZero, Words::kLargest, Words::kAlternating};

// Words in [0, bound).
Buffer MakeWords(size_t n, u64 bound, Words kind, u64 seed) {
  std::mt19937_64 random(seed);
  Buffer words(n);
  for (size_t j = 0; j < n; ++j) {
    switch (kind) {
      case Words::kRandom:
        words[j] = random() % bound;
        break;
      case Words::kZero:
        words[j] = 0;
        break;
      case Words::kLargest:
        words[j] = bound - 1;
        break;
      case Words::kAlternating:
        words[j] = (j + seed) % 2 == 0 ? bound - 1 : random() % 2;
        break;
    }
  }
  return words;
}

::testing::AssertionResult SameWords(const Buffer& a, const Buffer& b) {
  for (size_t j = 0; j < a.size(); ++j) {
    if (a[j] == b[j]) continue;
    return ::testing::AssertionFailure() << "word " << j << ": " << a[j] << " != " << b[j];
  }
  return ::testing::AssertionSuccess();
}

// Runs a kernel call on the reference and on every other backend and compares the outputs.
void ExpectSame(size_t n, const char* what, const std::function<void(const Kernels&, u64*)>& call) {
  Buffer expected(n);
  call(Reference(), expected.data());
  for (const Kernels* kernels : AvailableKernels()) {
    Buffer got(n);
    call(*kernels, got.data());
    EXPECT_TRUE(SameWords(got, expected)) << what << " of " << kernels->name;
  }
}

TEST(Conformance, TransformsOfEverySize) {
  for (size_t n = kMinRingDegree; n <= kMaxRingDegree; n *= 2) {
    for (const Modulus& q : Moduli(n)) {
      if (n > 8192 && (q.bits < 44 || q.bits == 48)) continue;
      const auto tables = NttTables::Get(n, q.q);
      for (const Words kind : kAllWords) {
        const Buffer in = MakeWords(n, q.q, kind, n);
        ExpectSame(n, "forward",
                   [&](const Kernels& k, u64* out) { k.forward_ntt(out, in.data(), *tables); });
        for (const u64 scale : {u64{1}, q.q - 1, u64{12345}}) {
          ExpectSame(n, "inverse", [&](const Kernels& k, u64* out) {
            k.inverse_ntt(out, in.data(), *tables, scale);
          });
        }
        ExpectSame(n, "round trip in place", [&](const Kernels& k, u64* out) {
          std::memcpy(out, in.data(), n * sizeof(u64));
          k.forward_ntt(out, out, *tables);
          k.inverse_ntt(out, out, *tables, 1);
          for (size_t j = 0; j < n; ++j) ASSERT_EQ(out[j], in[j]) << k.name;
        });
      }
    }
  }
}

// One element-wise kernel: the expected value of word j from the inputs.
using Formula = std::function<u64(u64 a, u64 b, u64 c)>;
using Call =
    std::function<void(const Kernels&, u64* out, const u64* a, const u64* b, const u64* c)>;

void CheckElementwise(const char* what, const Modulus& q, const Call& call,
                      const Formula& formula) {
  for (const Words kind : kAllWords) {
    const Buffer a = MakeWords(kN, q.q, kind, 1), b = MakeWords(kN, q.q, kind, 2);
    const Buffer c = MakeWords(kN, q.q, Words::kRandom, 3);
    Buffer expected(kN);
    for (size_t j = 0; j < kN; ++j) expected[j] = formula(a[j], b[j], c[j]);
    for (const Kernels* kernels : AvailableKernels()) {
      Buffer out(kN), in_place = a, in_place_b = b;
      call(*kernels, out.data(), a.data(), b.data(), c.data());
      EXPECT_TRUE(SameWords(out, expected)) << what << " of " << kernels->name << " q " << q.q;
      call(*kernels, in_place.data(), in_place.data(), b.data(), c.data());
      EXPECT_TRUE(SameWords(in_place, expected)) << what << " over a of " << kernels->name;
      call(*kernels, in_place_b.data(), a.data(), in_place_b.data(), c.data());
      EXPECT_TRUE(SameWords(in_place_b, expected)) << what << " over b of " << kernels->name;
    }
  }
}

TEST(Conformance, Elementwise) {
  for (const Modulus& m : Moduli(kN)) {
    const u64 q = m.q;
    const auto mod = [q](u128 x) { return static_cast<u64>(x % q); };
    CheckElementwise(
        "add", m, [&](auto& k, u64* o, auto* a, auto* b, auto*) { k.add(o, a, b, kN, m); },
        [&](u64 a, u64 b, u64) { return mod(u128{a} + b); });
    CheckElementwise(
        "sub", m, [&](auto& k, u64* o, auto* a, auto* b, auto*) { k.sub(o, a, b, kN, m); },
        [&](u64 a, u64 b, u64) { return mod(u128{a} + q - b); });
    CheckElementwise(
        "mul", m, [&](auto& k, u64* o, auto* a, auto* b, auto*) { k.mul(o, a, b, kN, m); },
        [&](u64 a, u64 b, u64) { return mod(u128{a} * b); });
    CheckElementwise(
        "mul_add", m,
        [&](auto& k, u64* o, auto* a, auto* b, auto* c) { k.mul_add(o, a, b, c, kN, m); },
        [&](u64 a, u64 b, u64 c) { return mod(u128{a} * b + c); });
    for (const u64 s : {u64{0}, u64{1}, q - 1, q / 3}) {
      CheckElementwise(
          "sub_mul_scalar", m,
          [&](auto& k, u64* o, auto* a, auto* b, auto*) { k.sub_mul_scalar(o, a, b, s, kN, m); },
          [&](u64 a, u64 b, u64) { return mod((u128{a} + q - b) * s); });
      CheckElementwise(
          "mul_scalar_add", m,
          [&](auto& k, u64* o, auto* a, auto* b, auto*) { k.mul_scalar_add(o, a, s, b, kN, m); },
          [&](u64 a, u64 b, u64) { return mod(u128{a} * s + b); });
    }
  }
}

TEST(Conformance, OneInput) {
  for (const Modulus& q : Moduli(kN)) {
    for (const Words kind : kAllWords) {
      const Buffer a = MakeWords(kN, q.q, kind, 4), wide = MakeWords(kN, u64{1} << 52, kind, 5);
      ExpectSame(kN, "negate", [&](const Kernels& k, u64* out) {
        k.negate(out, a.data(), kN, q);
        for (size_t j = 0; j < kN; ++j) ASSERT_EQ(out[j], (q.q - a[j]) % q.q) << k.name;
      });
      for (const u64 s : {u64{0}, u64{1}, q.q - 1, q.q / 3}) {
        ExpectSame(kN, "mul_scalar", [&](const Kernels& k, u64* out) {
          k.mul_scalar(out, wide.data(), s, kN, q);
          for (size_t j = 0; j < kN; ++j)
            ASSERT_EQ(out[j], static_cast<u64>(u128{wide[j]} * s % q.q)) << k.name << " q " << q.q;
        });
      }
    }
  }
}

TEST(Conformance, ReduceFrom) {
  const auto moduli = Moduli(kN);
  for (const Modulus& from : moduli) {
    for (const Modulus& to : moduli) {
      for (const Words kind : kAllWords) {
        Buffer a = MakeWords(kN, from.q, kind, 6);
        a[0] = from.q / 2;
        a[1] = from.q / 2 + 1;
        for (const bool centred : {false, true}) {
          ExpectSame(kN, "reduce_from", [&](const Kernels& k, u64* out) {
            k.reduce_from(out, a.data(), kN, from, to, centred);
            for (size_t j = 0; j < kN; ++j) {
              i128 x = a[j];
              if (centred && a[j] > from.q / 2) x -= from.q;
              x %= to.q;
              ASSERT_EQ(out[j], static_cast<u64>(x < 0 ? x + to.q : x)) << k.name << " word " << j;
            }
          });
        }
      }
    }
  }
}

// Pointers to `count` rows of words below `bound`.
struct Rows {
  std::vector<Buffer> storage;
  std::vector<const u64*> pointers;
  Rows(size_t count, size_t n, u64 bound, Words kind, u64 seed) {
    for (size_t i = 0; i < count; ++i) storage.push_back(MakeWords(n, bound, kind, seed + i));
    for (const Buffer& row : storage) pointers.push_back(row.data());
  }
};

u64 Dot(const Rows& a, const Rows& b, size_t ja, size_t jb, const Modulus& q) {
  u64 sum = 0;
  for (size_t i = 0; i < a.pointers.size(); ++i)
    sum = q.Add(sum, static_cast<u64>(u128{a.pointers[i][ja]} * b.pointers[i][jb] % q.q));
  return sum;
}

TEST(Conformance, InnerProducts) {
  const auto perm = NttAutomorphism(GaloisElement(3, kN), kN);
  const u32* table = perm.data();
  const u64 bound = u64{1} << 50;
  for (const Modulus& q : Moduli(kN)) {
    for (const size_t count : {1, 2, 5, 31, 64}) {
      for (const Words kind : kAllWords) {
        const Rows a(count, kN, bound, kind, 10), b(count, kN, q.q, kind, 100);
        const Rows b1(count, kN, q.q, Words::kRandom, 200);
        const auto *pa = a.pointers.data(), *pb = b.pointers.data(), *pb1 = b1.pointers.data();
        ExpectSame(kN, "inner_product", [&](const Kernels& k, u64* out) {
          k.inner_product(out, pa, pb, count, kN, q);
          for (size_t j = 0; j < kN; j += 97) ASSERT_EQ(out[j], Dot(a, b, j, j, q)) << k.name;
        });
        for (const bool second : {false, true}) {
          ExpectSame(kN, "inner_product2", [&](const Kernels& k, u64* out) {
            Buffer other(kN);
            k.inner_product2(second ? other.data() : out, second ? out : other.data(), pa, pb, pb1,
                             count, kN, q);
            for (size_t j = 0; j < kN; j += 97)
              ASSERT_EQ(out[j], Dot(a, second ? b1 : b, j, j, q)) << k.name;
          });
          for (const int log_repeat : {3, 4, 5, 6, 10})
            ExpectSame(kN, "inner_product2_repeated", [&](const Kernels& k, u64* out) {
              Buffer other(kN);
              k.inner_product2_repeated(second ? other.data() : out, second ? out : other.data(),
                                        pa, log_repeat, pb, pb1, count, kN, q);
              for (size_t j = 0; j < kN; j += 97)
                ASSERT_EQ(out[j], Dot(a, second ? b1 : b, j >> log_repeat, j, q)) << k.name;
            });
          ExpectSame(kN, "inner_product2_permuted", [&](const Kernels& k, u64* out) {
            Buffer other(kN);
            k.inner_product2_permuted(second ? other.data() : out, second ? out : other.data(), pa,
                                      table, pb, pb1, count, kN, q);
            for (size_t j = 0; j < kN; j += 97)
              ASSERT_EQ(out[j], Dot(a, second ? b1 : b, table[j], j, q)) << k.name;
          });
        }
      }
    }
  }
}

TEST(Conformance, InnerProductScalarAndQuotient) {
  const auto moduli = Moduli(kN);
  std::vector<const Modulus*> pointers;
  for (const Modulus& q : moduli) pointers.push_back(&q);
  for (const size_t out_count : {1, 2, 7}) {
    for (const size_t count : {1, 4, 8, 9, 13, 16, 17, 64}) {
      for (const Words kind : kAllWords) {
        const Rows x(count, kN, u64{1} << 50, kind, 20);
        std::vector<u64> factors;
        std::vector<double> inverses(count, 0x1p-50);
        for (size_t k = 0; k < out_count; ++k)
          for (size_t i = 0; i < count; ++i)
            factors.push_back(kind == Words::kLargest ? moduli[k].q - 1
                                                      : (i * 77777 + k) % moduli[k].q);
        ExpectSame(out_count * kN, "inner_product_scalar", [&](const Kernels& k, u64* out) {
          std::vector<u64*> rows;
          for (size_t r = 0; r < out_count; ++r) rows.push_back(out + r * kN);
          k.inner_product_scalar(rows.data(), x.pointers.data(), factors.data(), out_count, count,
                                 kN, pointers.data());
          for (size_t r = 0; r < out_count; ++r) {
            u64 sum = 0;
            for (size_t i = 0; i < count; ++i)
              sum = static_cast<u64>((u128{x.pointers[i][5]} * factors[r * count + i] + sum) %
                                     moduli[r].q);
            ASSERT_EQ(rows[r][5], sum) << k.name;
          }
        });
        ExpectSame(kN, "approximate_quotient", [&](const Kernels& k, u64* out) {
          k.approximate_quotient(out, x.pointers.data(), inverses.data(), count, kN);
        });
      }
    }
  }
}

TEST(Conformance, PermuteEveryKindOfElement) {
  for (const u64 g : {u64{1}, u64{5}, GaloisElement(-7, kN), ConjugationElement(kN)}) {
    const auto perm = NttAutomorphism(g, kN);
    const Buffer in = MakeWords(kN, u64{1} << 50, Words::kRandom, 8);
    ExpectSame(kN, "permute", [&](const Kernels& k, u64* out) {
      k.permute(out, in.data(), perm.data(), kN);
      for (size_t j = 0; j < kN; ++j) ASSERT_EQ(out[j], in[perm[j]]) << k.name;
    });
  }
}

// Words around the limit are what rejection turns on; a stream of real words has hardly any.
TEST(Conformance, ReduceUniform) {
  std::mt19937_64 random(9);
  for (const Modulus& q : Moduli(kN)) {
    const u64 limit = q.UniformLimit();
    EXPECT_EQ(u128{limit} % q.q, 0u);
    for (const size_t n : {size_t{1}, size_t{7}, size_t{8}, size_t{61}, kN}) {
      for (const bool edges : {false, true}) {
        const u64 special[] = {0, q.q - 1, q.q, limit - 1, limit, ~u64{0}, random(), random()};
        std::vector<u64> in(n + 1), expected;  // one word off: no alignment is promised
        for (u64& word : in) word = edges ? special[random() % 8] : random();
        for (size_t j = 1; j <= n; ++j)
          if (in[j] < limit) expected.push_back(in[j] % q.q);
        for (const Kernels* kernels : AvailableKernels()) {
          std::vector<u64> out(n + 1), in_place = in;
          for (u64* to : {out.data() + 1, in_place.data() + 1}) {
            const u64* from = to == out.data() + 1 ? in.data() + 1 : to;
            const size_t count = kernels->reduce_uniform(to, from, n, q);
            ASSERT_EQ(std::vector<u64>(to, to + count), expected) << kernels->name << " q " << q.q;
          }
        }
      }
    }
  }
}

TEST(Dispatch, ByNameAndUnknown) {
  const std::string best = ActiveKernels().name;
  for (const Kernels* kernels : AvailableKernels()) {
    ASSERT_TRUE(SetBackend(kernels->name).ok());
    EXPECT_EQ(&ActiveKernels(), kernels);
  }
  const Status unknown = SetBackend("abacus");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(unknown.error().message.find("abacus"), std::string::npos);
  ASSERT_TRUE(SetBackend("").ok());
  EXPECT_EQ(ActiveKernels().name, AvailableKernels().front()->name);
  ASSERT_TRUE(SetBackend(best).ok());
}

}  // namespace
}  // namespace polyveil::ring
