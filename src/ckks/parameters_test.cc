#include "ckks/parameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "ring/primes.h"

namespace polyveil::ckks {
namespace {

TEST(Parameters, ProductionSetsMeetTheBoundWithMargin) {
  for (const auto& [name, digits] : std::map<std::string, int>{
           {"decode16", 3}, {"prompt16", 3}, {"fast16", 2}, {"sparse16", 2}, {"full16", 2}}) {
    const auto params = Parameters::Create(FindParameters(name).value());
    ASSERT_TRUE(params.ok()) << params.error().message;
    const Parameters& p = **params;
    EXPECT_FALSE(p.insecure());
    EXPECT_LE(p.log_qp(), 1747 * 0.99) << name;
    EXPECT_NE(p.Describe().find("1747"), std::string::npos) << p.Describe();
    EXPECT_EQ(p.digits(p.max_level()), digits);  // what the sizes are chosen for
    EXPECT_LE(std::log2(p.q(0).q) + std::log2(p.encapsulation_table().modulus().q), 120);
  }
}

TEST(Parameters, EveryKeyMeetsTheBoundWithNestedSpecialPrimes) {
  for (const std::string& name : ParameterNames()) {
    const auto params = Parameters::Create(FindParameters(name).value()).value();
    const Parameters& p = *params;
    const double bound = p.insecure() ? 1.005 * p.log_qp() : MaxLogQp(p.log_n()) * 0.99;
    int most = 0;
    for (int level = 0; level <= p.max_level(); ++level) {
      const int special = p.special_primes(level);
      most = std::max(most, special);
      // Q_level and P as primes, added up here.
      double log_q = 0, log_p = 0;
      for (int j = 0; j < p.limbs(level); ++j) log_q += std::log2(p.q(j).q);
      for (int j = 0; j < special; ++j) log_p += std::log2(p.p(j).q);
      EXPECT_LE(log_q + log_p, bound) << name << " level " << level;
      EXPECT_NEAR(p.log_key_modulus(level), log_q + log_p, 1e-9);
      int covered = 0;
      for (int i = 0; i < p.digits(level); ++i) {
        EXPECT_EQ(p.digit_begin(special, i), covered);
        double log_digit = 0;
        for (; covered < p.digit_end(level, special, i); ++covered)
          log_digit += std::log2(p.q(covered).q);
        EXPECT_LE(log_digit, log_p) << name << " level " << level << " digit " << i;
      }
      EXPECT_EQ(covered, p.limbs(level));
    }
    EXPECT_EQ(p.p_count(), most);
    EXPECT_EQ(p.special_primes(p.max_level()), p.spec().special_primes);
  }
}

TEST(Parameters, LowKeysHaveOneDigitAndAreNeverLargerThanHigherOnes) {
  const auto params = Parameters::Create(FindParameters("fast16").value()).value();
  const auto limbs = [&](int level) {
    return params->digits(level) * params->extended_limbs(level);
  };
  EXPECT_EQ(params->digits(params->working_level()), 1);
  EXPECT_EQ(params->digits(params->max_level() - 1), 2);
  EXPECT_EQ(limbs(2), 6);
  EXPECT_EQ(limbs(params->working_level()), 31);  // 17 and 14 special primes
  for (int level = 1; level <= params->max_level(); ++level)
    EXPECT_LT(limbs(level - 1), limbs(level)) << level;
}

TEST(Parameters, PrimesAreDistinctNttPrimesBelow50Bits) {
  const auto params = Parameters::Create(FindParameters("fast16").value()).value();
  std::set<u64> seen;
  const auto check = [&](const ring::NttTables& table) {
    const u64 q = table.modulus().q;
    EXPECT_TRUE(seen.insert(q).second) << q;
    EXPECT_LT(q, u64{1} << 50);
    EXPECT_EQ(q % (2 * params->n()), 1u);
    EXPECT_TRUE(ring::IsPrime(q));
  };
  for (int j = 0; j < params->q_count(); ++j) check(params->q_table(j));
  for (int j = 0; j < params->p_count(); ++j) check(params->p_table(j));
  check(params->encapsulation_table());
}

TEST(Parameters, NominalScalesFollowTheRecursionAndStayNearTheirSize) {
  for (const std::string& name : ParameterNames()) {
    const auto params = Parameters::Create(FindParameters(name).value()).value();
    const int working = params->spec().chain[2].log_prime;
    for (int l = params->working_level(); l > 0; --l) {
      const double below = params->scale(l) * params->scale(l) / params->q(l).q;
      EXPECT_DOUBLE_EQ(params->scale(l - 1), below) << name << " level " << l;
      EXPECT_NEAR(std::log2(params->scale(l - 1)), working, 1e-3) << name << " level " << l;
    }
    EXPECT_NEAR(std::log2(params->q(0).q / params->scale(0)), 50 - working, 1e-3);
  }
}

TEST(Parameters, RefusesAModulusAboveTheBoundWithBothValues) {
  ParametersSpec spec = FindParameters("fast16").value();
  spec.chain[2].count += 1;  // 1766 bits
  const auto refused = Parameters::Create(spec);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kSecurity);
  EXPECT_NE(refused.error().message.find("1766"), std::string::npos) << refused.error().message;
  EXPECT_NE(refused.error().message.find("1747"), std::string::npos) << refused.error().message;
  spec.insecure_for_tests = true;
  EXPECT_TRUE(Parameters::Create(spec).ok());
}

TEST(Parameters, TheSpecialPrimesCount) {
  ParametersSpec spec = FindParameters("fast16").value();
  spec.special_primes = 13;
  EXPECT_EQ(Parameters::Create(spec).error().code, ErrorCode::kSecurity);
}

TEST(Parameters, RefusesSmallRingsUnlessMarkedInsecure) {
  ParametersSpec spec;
  spec.name = "tiny";
  spec.log_n = 12;
  spec.chain = {{LevelRole::kBase, 1, 30}};
  spec.special_primes = 1;
  spec.log_special_prime = 30;
  spec.log_encapsulation_prime = 30;
  EXPECT_EQ(Parameters::Create(spec).error().code, ErrorCode::kSecurity);
  spec.insecure_for_tests = true;
  const auto params = Parameters::Create(spec);
  ASSERT_TRUE(params.ok()) << params.error().message;
  EXPECT_EQ((*params)->Describe().rfind("INSECURE", 0), 0u) << (*params)->Describe();
}

TEST(Parameters, RefusesASparseSecretBelow32) {
  ParametersSpec spec = FindParameters("fast16").value();
  spec.sparse_hamming_weight = 31;
  EXPECT_EQ(Parameters::Create(spec).error().code, ErrorCode::kSecurity);
}

// The rows of ePrint 2024/463, table 5.2: ternary secret, 128 bits, classical.
TEST(Parameters, BoundsAreThoseOfTheGuidelines) {
  const int bounds[] = {26, 53, 106, 214, 430, 868, 1747, 3523};
  for (int log_n = 10; log_n <= 17; ++log_n) EXPECT_EQ(MaxLogQp(log_n), bounds[log_n - 10]);
  EXPECT_EQ(MaxLogQp(9), 0);
  EXPECT_EQ(MaxLogQp(18), 0);
}

// A small modulus: one base prime, a special prime of the same size.
ParametersSpec SparseSpec(int log_n, int log_prime) {
  ParametersSpec spec;
  spec.name = "sparse";
  spec.log_n = log_n;
  spec.chain = {{LevelRole::kBase, 1, log_prime}};
  spec.special_primes = 1;
  spec.log_special_prime = spec.log_encapsulation_prime = log_prime;
  return spec;
}

// What the ternary secret allows the sparse one may not: at N = 2^13 and 100 bits it has 2^104.
TEST(Parameters, TheSparseSecretIsBoundedByTheRing) {
  const auto refused = [](const ParametersSpec& spec) {
    const auto result = Parameters::Create(spec);
    EXPECT_FALSE(result.ok()) << spec.log_n;
    if (result.ok()) return std::string();
    EXPECT_EQ(result.error().code, ErrorCode::kSecurity);
    return result.error().message;
  };
  for (int log_n = 13; log_n <= 17; ++log_n) {
    const int bound = MaxLogEncapsulationModulus(log_n);
    ParametersSpec spec = SparseSpec(log_n, 50);
    ASSERT_LE(100, MaxLogQp(log_n));
    if (bound >= 100) {
      const auto params = Parameters::Create(spec);
      ASSERT_TRUE(params.ok()) << params.error().message;
      const std::string text = (*params)->Describe();
      EXPECT_NE(text.find(fmt::format("100.0 <= {} bits", bound)), std::string::npos) << text;
      EXPECT_NE(text.find("circular security assumed"), std::string::npos) << text;
      continue;
    }
    const std::string message = refused(spec);
    EXPECT_NE(message.find(fmt::format("2^{}", log_n)), std::string::npos) << message;
    EXPECT_NE(message.find("100.00"), std::string::npos) << message;
    spec.insecure_for_tests = true;
    EXPECT_TRUE(Parameters::Create(spec).ok());
  }
  EXPECT_EQ(MaxLogEncapsulationModulus(12), 0);
  EXPECT_EQ(MaxLogEncapsulationModulus(18), 0);
  EXPECT_GE(MaxLogEncapsulationModulus(16), 2 * ring::kMaxModulusBits);  // every spec's
}

TEST(Parameters, NamesTheBadField) {
  const auto message = [](auto&& change) {
    ParametersSpec spec = FindParameters("test10").value();
    change(spec);
    const auto result = Parameters::Create(spec);
    EXPECT_FALSE(result.ok());
    return result.ok() ? std::string() : result.error().message;
  };
  EXPECT_NE(message([](auto& s) { s.log_n = 9; }).find("log_n = 9"), std::string::npos);
  EXPECT_NE(message([](auto& s) { s.chain[1].log_prime = 51; }).find("= 51"), std::string::npos);
  EXPECT_NE(message([](auto& s) { s.chain[1].count = -1; }).find("= -1"), std::string::npos);
  EXPECT_NE(message([](auto& s) { s.chain[2].count = 1000000; }).find("1000000"),
            std::string::npos);
  EXPECT_NE(message([](auto& s) { s.special_primes = 0; }).find("special_primes"),
            std::string::npos);
  EXPECT_NE(message([](auto& s) { s.chain.clear(); }).find("base"), std::string::npos);
  // Digits larger than P would drown key switching in noise.
  EXPECT_NE(message([](auto& s) {
              s.special_primes = 1;
              s.log_special_prime = 40;
            }).find("log2(P)"),
            std::string::npos);
}

TEST(Parameters, DigestNamesTheParameters) {
  const auto a = Parameters::Create(FindParameters("test10").value()).value();
  const auto b = Parameters::Create(FindParameters("test10").value()).value();
  ParametersSpec spec = FindParameters("test10").value();
  spec.chain[2].count -= 1;
  const auto c = Parameters::Create(spec).value();
  EXPECT_EQ(a->digest(), b->digest());
  EXPECT_NE(a->digest(), c->digest());
}

TEST(Parameters, UnknownNameListsTheKnownOnes) {
  const auto result = FindParameters("decode17");
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_NE(result.error().message.find("decode16"), std::string::npos);
}

}  // namespace
}  // namespace polyveil::ckks
