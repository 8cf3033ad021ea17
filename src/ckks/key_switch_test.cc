// Rotations, hoisting, truncated and seeded keys, ModRaise.
#include "ckks/key_switch.h"

#include "ckks/scheme_test_util.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

KeyRequest RotationKeys(const std::string& name) {
  const auto params = Parameters::Create(FindParameters(name).value()).value();
  KeyRequest request;
  const int slots = params->slots();
  for (const int r : {1, 2, 3, -1, 5, slots / 2})
    request.AddRotation(r, slots, params->max_level());
  request.AddConjugation(params->max_level());
  request.encapsulation = true;
  return request;
}

Slots Rotated(const Slots& values, int rotation) {
  const int count = static_cast<int>(values.size());
  Slots result(values.size());
  for (int j = 0; j < count; ++j) result[j] = values[((j + rotation) % count + count) % count];
  return result;
}

class KeySwitchTest : public testing::TestWithParam<std::string> {
 protected:
  static const Scheme& Get(const std::string& name) {
    static std::map<std::string, std::unique_ptr<Scheme>> schemes;
    auto& scheme = schemes[name];
    if (!scheme) scheme = std::make_unique<Scheme>(name, RotationKeys(name));
    return *scheme;
  }
  KeySwitchTest() : s(Get(GetParam())), params(*s.params), a(RandomSlots(params.slots(), 1)) {}

  // One level in each digit, its boundaries, and both ends.
  std::vector<int> Levels() const { return {0, 1, 8, 9, 10, 18, 19, params.max_level()}; }
  double Bound(int level, double scale) const {
    return WorstSlot(params, std::hypot(FreshNoise(), KeySwitchNoise(params, level)), scale) +
           1e-11;
  }

  const Scheme& s;
  const Parameters& params;
  const Slots a;
};

TEST_P(KeySwitchTest, RotationNoiseWithinBound) {
  for (const int level : Levels())
    for (const int r : {1, 3, -1, params.slots() / 2}) {
      const Ciphertext y = s.evaluator.Rotate(s.Encrypt(a, level, 0x1p40), r).value();
      EXPECT_EQ(y.level, level);
      EXPECT_EQ(y.scale, 0x1p40);
      EXPECT_LT(MaxError(s.Decrypt(y), Rotated(a, r)), Bound(level, 0x1p40)) << level << " " << r;
    }
}

TEST_P(KeySwitchTest, RotationsCompose) {
  const Ciphertext x = s.Encrypt(a, 12, 0x1p40);
  const auto& e = s.evaluator;
  const Ciphertext y = e.Rotate(e.Rotate(x, 2).value(), 3).value();
  EXPECT_LT(MaxError(s.Decrypt(y), Rotated(a, 5)), 2 * Bound(12, 0x1p40));
  EXPECT_LT(MaxError(s.Decrypt(y), s.Decrypt(e.Rotate(x, 5).value())), 3 * Bound(12, 0x1p40));
  const Ciphertext back = e.Rotate(e.Rotate(x, 1).value(), -1).value();
  EXPECT_LT(MaxError(s.Decrypt(back), a), 2 * Bound(12, 0x1p40));
  EXPECT_LT(MaxError(s.Decrypt(e.Rotate(x, params.slots()).value()), a), Bound(12, 0x1p40));
}

TEST_P(KeySwitchTest, Conjugation) {
  for (const int level : Levels()) {
    const Ciphertext y = s.evaluator.Conjugate(s.Encrypt(a, level, 0x1p40)).value();
    Slots expected = a;
    for (Complex& value : expected) value = std::conj(value);
    EXPECT_LT(MaxError(s.Decrypt(y), expected), Bound(level, 0x1p40)) << level;
  }
}

TEST_P(KeySwitchTest, HoistedEqualsPlainRotation) {
  for (const int level : Levels()) {
    const Ciphertext x = s.Encrypt(a, level, 0x1p40);
    const HoistedDigits digits = s.evaluator.Decompose(x).value();
    for (const int r : {0, 1, 2, 5}) {
      const Ciphertext y = s.evaluator.RotateHoisted(x, digits, r).value();
      const Ciphertext z = s.evaluator.Rotate(x, r).value();
      EXPECT_LT(MaxError(s.Decrypt(y), Rotated(a, r)), Bound(level, 0x1p40)) << level << " " << r;
      // c1 comes from the same digits and the same key.
      EXPECT_TRUE(std::ranges::equal(y.parts[1].limb(0), z.parts[1].limb(0)));
    }
  }
}

// sum_i plain_i * rotate(x, i), then a giant step, all over QP, one ModDown with the rescale.
TEST_P(KeySwitchTest, DoubleHoistedLinearMap) {
  const int level = 12;
  const auto& e = s.evaluator;
  const double prime = static_cast<double>(params.q(level).q);
  const Ciphertext x = s.Encrypt(a, level, 0x1p40);
  const HoistedDigits digits = e.Decompose(x).value();
  std::vector<ExtendedCiphertext> rotated;
  std::vector<Plaintext> plain;
  Slots inner(a.size());
  for (const int r : {0, 1, 2}) {
    const Slots diagonal = RandomSlots(params.slots(), 30 + r);
    rotated.push_back(e.RotateHoistedLazy(x, digits, r).value());
    plain.push_back(s.encoder.Encode(diagonal, level, prime, true).value());  // P of level 12
    const Slots turned = Rotated(a, r);
    for (size_t j = 0; j < a.size(); ++j) inner[j] += diagonal[j] * turned[j];
  }
  const ExtendedCiphertext* terms[] = {&rotated[0], &rotated[1], &rotated[2]};
  const Plaintext* plains[] = {&plain[0], &plain[1], &plain[2]};
  const ExtendedCiphertext baby = e.MulPlainSum(terms, plains).value();

  ExtendedCiphertext one_by_one = e.MulPlainSum({terms, 1}, {plains, 1}).value();
  for (int i = 1; i < 3; ++i)
    ASSERT_TRUE(e.MulPlainAccumulate(one_by_one, rotated[i], plain[i]).ok());
  for (size_t j = 0; j < baby.c1.limbs(); ++j)
    EXPECT_TRUE(std::ranges::equal(baby.c1.limb(j), one_by_one.c1.limb(j)));

  ExtendedCiphertext sum = baby;
  ASSERT_TRUE(e.RotateAccumulate(sum, baby, 5).ok());
  const Ciphertext y = e.ModDownRescale(sum).value();
  EXPECT_EQ(y.level, level - 1);
  EXPECT_DOUBLE_EQ(y.scale, 0x1p40);
  const Slots giant = Rotated(inner, 5);
  Slots expected = inner;
  for (size_t j = 0; j < a.size(); ++j) expected[j] += giant[j];
  // Six terms of at most sqrt 2, each with the noise of a switch, and the roundings of a ModDown at
  // the giant step, and of the result.
  EXPECT_LT(MaxError(s.Decrypt(y), expected), 12 * Bound(level, 0x1p40));
  Ciphertext two_steps = e.ModDown(sum);
  ASSERT_TRUE(e.RescaleInplace(two_steps).ok());
  EXPECT_LT(MaxError(s.Decrypt(two_steps), expected), 12 * Bound(level, 0x1p40));
}

TEST_P(KeySwitchTest, ExtendThenModDownIsTheIdentity) {
  const Ciphertext x = s.Encrypt(a, 10, 0x1p40);
  const Ciphertext y = s.evaluator.ModDown(s.evaluator.Extend(x));
  for (int k = 0; k < 2; ++k)
    for (int j = 0; j < params.limbs(10); ++j)
      EXPECT_TRUE(std::ranges::equal(x.parts[k].limb(j), y.parts[k].limb(j)));
}

TEST_P(KeySwitchTest, MissingKeysAndLevelsAreNamed) {
  KeyRequest request;
  request.AddRotation(1, params.slots(), 4);
  const EvaluationKeys keys = KeyGenerator(s.key).Generate(request).value();
  const Evaluator evaluator(s.params, &keys);
  const auto missing = evaluator.Rotate(s.Encrypt(a, 4, 0x1p40), 7);
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kMissingKey);
  EXPECT_NE(missing.error().message.find("rotation 7"), std::string::npos);
  const auto above = evaluator.Rotate(s.Encrypt(a, 5, 0x1p40), 1);
  ASSERT_FALSE(above.ok());
  EXPECT_NE(above.error().message.find("level 4 < needed 5"), std::string::npos)
      << above.error().message;
  // At and below its level a truncated key works.
  for (const int level : {0, 3, 4})
    EXPECT_LT(MaxError(s.Decrypt(evaluator.Rotate(s.Encrypt(a, level, 0x1p40), 1).value()),
                       Rotated(a, 1)),
              Bound(level, 0x1p40));
  EXPECT_EQ(evaluator.Conjugate(s.Encrypt(a, 0, 0x1p40)).error().code, ErrorCode::kMissingKey);
  EXPECT_FALSE(keys.Covers(params, RotationKeys(GetParam())).ok());
  EXPECT_TRUE(keys.Covers(params, request).ok());
}

// Keys of every class of special primes at every level below, hoisted and not.
TEST_P(KeySwitchTest, KeysOfEveryLevelServeTheLevelsBelow) {
  KeyRequest request;
  for (const int level : {2, 7, 12, 18, 19, 22, params.max_level() - 1, params.max_level()}) {
    request.AddRotation(level, params.slots(), level);
    request.AddRelinearization(level);
  }
  const EvaluationKeys keys = KeyGenerator(s.key).Generate(request).value();
  const Evaluator e(s.params, &keys);
  for (const auto& [rotation, key_level] : request.rotations)
    for (const int level : {0, 1, key_level / 2, key_level}) {
      const Ciphertext x = s.Encrypt(a, level, 0x1p40);
      const double noise = std::hypot(FreshNoise(), KeySwitchNoise(params, level, key_level));
      const double bound = WorstSlot(params, noise, 0x1p40) + 1e-11;
      EXPECT_LT(MaxError(s.Decrypt(e.Rotate(x, rotation).value()), Rotated(a, rotation)), bound)
          << key_level << " at " << level;
      const HoistedDigits digits = e.Decompose(x, key_level).value();
      const Ciphertext y = e.RotateHoisted(x, digits, rotation).value();
      EXPECT_LT(MaxError(s.Decrypt(y), Rotated(a, rotation)), bound) << key_level << " " << level;
    }
  EXPECT_EQ(e.Decompose(s.Encrypt(a, 5, 0x1p40), 4).error().code, ErrorCode::kMismatch);
  for (const int level : request.relinearization_levels) {
    const Ciphertext x = s.Encrypt(a, level, 0x1p40);
    Slots squares = a;
    for (Complex& value : squares) value *= value;
    const double noise =
        std::hypot(4 * 0x1p40 * FreshNoise(), KeySwitchNoise(params, level, level));
    EXPECT_LT(MaxError(s.Decrypt(e.Square(x).value()), squares),
              WorstSlot(params, noise, 0x1p80) + 1e-11);
  }
}

TEST_P(KeySwitchTest, SeveralKeysForOneRotationTheFastestIsFound) {
  KeyRequest request;
  for (const int level : {2, 8, params.max_level()}) request.AddRotation(1, params.slots(), level);
  request.AddRotation(2, params.slots(), params.max_level());
  EXPECT_EQ(request.count(), 4);
  const EvaluationKeys keys = KeyGenerator(s.key).Generate(request).value();
  const auto found = [&](int level, int special = 0) {
    return keys.FindRotation(params, 1, level, special).value()->level;
  };
  for (int level = 0; level <= params.max_level(); ++level) {
    const int best = params.special_primes(found(level));
    for (const int key_level : {2, 8, params.max_level()}) {
      if (key_level < level) continue;
      EXPECT_LE(KeySwitchCost(params, level, best),
                KeySwitchCost(params, level, params.special_primes(key_level)));
    }
  }
  EXPECT_EQ(found(2), 2);
  EXPECT_EQ(found(8), 8);
  EXPECT_EQ(found(9), params.max_level());
  EXPECT_EQ(found(1, params.special_primes(8)), 8);
  const auto none = keys.FindRotation(params, 2, 8, params.special_primes(8));
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find(fmt::format("has {} special primes, needed {}",
                                                  params.special_primes(params.max_level()),
                                                  params.special_primes(8))),
            std::string::npos)
      << none.error().message;
  // Digits without a key level take the class in which most rotations have a key.
  const Evaluator e(s.params, &keys);
  const Ciphertext x = s.Encrypt(a, 8, 0x1p40);
  EXPECT_EQ(e.Decompose(x).value().special, params.special_primes(params.max_level()));
  const HoistedDigits own = e.Decompose(x, 8).value();
  EXPECT_TRUE(e.RotateHoisted(x, own, 1).ok());
  EXPECT_EQ(e.RotateHoisted(x, own, 2).error().code, ErrorCode::kMissingKey);
  // Sums over different P do not mix.
  ExtendedCiphertext sum = e.Extend(x);
  EXPECT_EQ(e.AddInplace(sum, e.Extend(x, params.max_level())).error().code, ErrorCode::kMismatch);
}

TEST_P(KeySwitchTest, TruncatedKeysAreSmaller) {
  const KeyGenerator generator(s.key);
  const KeySwitchKey low = generator.Rotation(1, 2),
                     high = generator.Rotation(1, params.max_level());
  EXPECT_EQ(low.b.size(), 1u);
  EXPECT_EQ(low.bytes(), size_t{3 + 3} * params.n() * 8);
  EXPECT_EQ(high.b.size(), 2u);
  EXPECT_EQ(high.bytes(), size_t{2} * params.extended_limbs(params.max_level()) * params.n() * 8);
  EXPECT_EQ(low.bytes(), ShapeOf(params, KeyKind::kGadget, 2).seeded_bytes(params.n()));
  EXPECT_NE(low.seed, high.seed);
}

bool SameWords(const ring::RnsPoly& x, const ring::RnsPoly& y) {
  return x.limbs() == y.limbs() && std::equal(x.data(), x.data() + x.limbs() * x.n(), y.data());
}

TEST_P(KeySwitchTest, CompactKeysGiveTheSameWords) {
  EvaluationKeys keys = s.keys;
  CompactKeys(keys);
  EXPECT_EQ(2 * keys.bytes(), s.keys.bytes());
  const Evaluator compact(s.params, &keys);
  const auto expect_same = [&](const Evaluator& e, auto&& operation) {
    const auto x = operation(e), y = operation(compact);
    for (size_t k = 0; k < x.parts.size(); ++k) EXPECT_TRUE(SameWords(x.parts[k], y.parts[k]));
  };
  for (const int level : {0, 9, params.max_level()}) {
    const Ciphertext x = s.Encrypt(a, level, 0x1p40);
    expect_same(s.evaluator, [&](const Evaluator& e) { return e.Rotate(x, -1).value(); });
    expect_same(s.evaluator, [&](const Evaluator& e) { return e.Conjugate(x).value(); });
    expect_same(s.evaluator, [&](const Evaluator& e) {
      return e.RotateHoisted(x, e.Decompose(x).value(), 3).value();
    });
    expect_same(s.evaluator, [&](const Evaluator& e) {
      ExtendedCiphertext sum = e.Extend(x, params.max_level());
      EXPECT_TRUE(e.RotateAccumulate(sum, e.Extend(x, params.max_level()), 2).ok());
      return e.ModDown(sum);
    });
    if (level == 0)
      expect_same(s.evaluator, [&](const Evaluator& e) { return e.ModRaise(x).value(); });
  }
  EXPECT_TRUE(ExpandKeys(params, keys).ok());
  EXPECT_EQ(keys.bytes(), s.keys.bytes());
}

// Several ciphertexts at once, every scale their own.
TEST_P(KeySwitchTest, BatchesEqualSingleOperations) {
  for (const int level : {1, 9, params.max_level()}) {
    std::vector<Ciphertext> inputs;
    std::vector<const Ciphertext*> pointers;
    for (int k = 0; k < 3; ++k)
      inputs.push_back(s.Encrypt(RandomSlots(params.slots(), 40 + k), level, std::exp2(38 + k)));
    for (const Ciphertext& x : inputs) pointers.push_back(&x);
    for (const int r : {0, 3, -1}) {
      const auto batch = s.evaluator.RotateMany(pointers, r).value();
      ASSERT_EQ(batch.size(), inputs.size());
      for (size_t k = 0; k < batch.size(); ++k) {
        const Ciphertext one = s.evaluator.Rotate(inputs[k], r).value();
        EXPECT_EQ(batch[k].level, one.level);
        EXPECT_EQ(batch[k].scale, one.scale);
        for (size_t part = 0; part < 2; ++part)
          EXPECT_TRUE(SameWords(batch[k].parts[part], one.parts[part]));
      }
    }
    inputs[2] = s.Encrypt(a, 0, 0x1p40);
    EXPECT_EQ(s.evaluator.RotateMany(pointers, 1).error().code, ErrorCode::kMismatch);
  }
  EXPECT_TRUE(s.evaluator.RotateMany({}, 1).value().empty());
}

TEST_P(KeySwitchTest, SeededExpansionIsDeterministicAndInRange) {
  const KeyGenerator generator(s.key);
  KeySwitchKey first = generator.ToDense();
  KeySwitchKey second = first;
  ASSERT_TRUE(ExpandKey(params, first).ok());
  ASSERT_TRUE(ExpandKey(params, second).ok());
  const KeyShape shape = ShapeOf(params, KeyKind::kToDense, 0);
  for (size_t j = 0; j < shape.limbs(); ++j) {
    EXPECT_TRUE(std::ranges::equal(first.a[0].limb(j), second.a[0].limb(j)));
    for (u64 word : first.a[0].limb(j)) ASSERT_LT(word, shape.tables[j]->modulus().q);
  }
  KeySwitchKey wrong = generator.ToSparse();
  wrong.b[0].Truncate(1);
  EXPECT_EQ(ExpandKey(params, wrong).error().code, ErrorCode::kMismatch);
  wrong.level = 99;
  EXPECT_EQ(ExpandKey(params, wrong).error().code, ErrorCode::kOutOfRange);

  SeededCiphertext seeded = Encryptor(s.key).Encrypt(s.encoder.Encode(a, 3, 0x1p40).value());
  const Ciphertext x = Expand(params, seeded).value(), y = Expand(params, seeded).value();
  EXPECT_TRUE(std::ranges::equal(x.parts[1].limb(3), y.parts[1].limb(3)));
  seeded.level = 2;
  EXPECT_EQ(Expand(params, seeded).error().code, ErrorCode::kMismatch);
  seeded.level = -1;
  EXPECT_EQ(Expand(params, seeded).error().code, ErrorCode::kOutOfRange);
}

TEST_P(KeySwitchTest, GenerateRefusesImpossibleLevelsAndStopsWhenCancelled) {
  KeyRequest request;
  request.AddRotation(1, params.slots(), params.max_level() + 1);
  EXPECT_EQ(KeyGenerator(s.key).Generate(request).error().code, ErrorCode::kOutOfRange);
  Progress progress;
  progress.Cancel();
  EXPECT_EQ(KeyGenerator(s.key).Generate(RotationKeys(GetParam()), &progress).error().code,
            ErrorCode::kCancelled);
}

TEST_P(KeySwitchTest, SecretKeyComesBackFromItsSeed) {
  const SecretKey again = SecretKey::FromSeed(s.params, s.key.seed());
  const Plaintext plain = Decryptor(again).Decrypt(s.Encrypt(a, 2, 0x1p40));
  EXPECT_LT(MaxError(s.encoder.Decode(plain, params.slots()), a), Bound(0, 0x1p40));
}

// The plaintext after ModRaise is m + q0 I with |I| <= (h + 1) / 2: read mod q0 it is the message,
// and its quotient by q0 is a small integer.
TEST_P(KeySwitchTest, ModRaiseAddsASmallMultipleOfTheBase) {
  const double scale = params.scale(0);
  const Ciphertext low = s.Encrypt(a, 0, scale);
  const Ciphertext high = s.evaluator.ModRaise(low).value();
  EXPECT_EQ(high.level, params.max_level());
  EXPECT_EQ(high.scale, scale);
  Ciphertext reduced = high;
  ASSERT_TRUE(s.evaluator.DropLevelInplace(reduced, 0).ok());
  const double noise = std::hypot(FreshNoise(), ModRaiseNoise(params));
  EXPECT_LT(MaxError(s.Decrypt(reduced), a), WorstSlot(params, noise, scale) + 1e-11);

  const Plaintext plain = Decryptor(s.key).Decrypt(high);
  const ring::Modulus &q0 = params.q(0), &q1 = params.q(1);
  ring::RnsPoly coefficients(2, params.n());
  for (int j = 0; j < 2; ++j)
    ring::ActiveKernels().inverse_ntt(coefficients.ptr(j), plain.poly.ptr(j), params.q_table(j), 1);
  i64 largest = 0;
  const u64 inverse = q1.Inverse(q1.Reduce(q0.q));
  for (int i = 0; i < params.n(); ++i) {
    const i64 message = q0.Centred(coefficients.limb(0)[i]);
    const u64 difference = q1.Sub(coefficients.limb(1)[i], q1.ReduceSigned(message));
    largest = std::max(largest, std::abs(q1.Centred(q1.Mul(difference, inverse))));
  }
  EXPECT_LE(largest, (params.spec().sparse_hamming_weight + 1) / 2);
  EXPECT_GE(largest, 1);
}

TEST_P(KeySwitchTest, ModRaiseRefusesWhatItCannotRaise) {
  EXPECT_EQ(s.evaluator.ModRaise(s.Encrypt(a, 1, 0x1p40)).error().code, ErrorCode::kMismatch);
  const EvaluationKeys none;
  const Evaluator without(s.params, &none);
  EXPECT_EQ(without.ModRaise(s.Encrypt(a, 0, 0x1p40)).error().code, ErrorCode::kMissingKey);
}

INSTANTIATE_TEST_SUITE_P(Rings, KeySwitchTest, testing::Values("test10", "test12", "test13"));

}  // namespace
}  // namespace polyveil::ckks
