#include "ckks/encoder.h"

#include <numbers>

#include "ckks/scheme_test_util.h"
#include "ring/kernels.h"

namespace polyveil::ckks {
namespace {

ParametersPtr Params(const std::string& name) {
  return Parameters::Create(FindParameters(name).value()).value();
}

TEST(Encoder, TransformIsEvaluationAtPowersOfFive) {
  const Encoder encoder(Params("test10"));
  const size_t slots = 16;
  const Slots coefficients = RandomSlots(slots, 1);
  Slots values = coefficients;
  encoder.CoefficientsToSlots(values);
  size_t power = 1;
  for (size_t j = 0; j < slots; ++j) {
    // Real coefficient k at X^k, imaginary part at X^(k + slots), zeta of order 4 slots.
    Complex sum = 0;
    for (size_t k = 0; k < slots; ++k) {
      const double angle = 2 * std::numbers::pi * static_cast<double>(power * k % (4 * slots)) /
                           static_cast<double>(4 * slots);
      const Complex zeta = std::polar(1.0, angle);
      const Complex quarter = std::polar(1.0, std::numbers::pi / 2 * static_cast<double>(power));
      sum += zeta * (coefficients[k].real() + quarter * coefficients[k].imag());
    }
    EXPECT_LT(std::abs(values[j] - sum), 1e-12) << j;
    power = power * 5 % (4 * slots);
  }
}

TEST(Encoder, InverseUndoesForward) {
  const Encoder encoder(Params("test13"));
  for (size_t slots = 1; slots <= 4096; slots *= 4) {
    const Slots values = RandomSlots(slots, 2);
    Slots copy = values;
    encoder.SlotsToCoefficients(copy);
    encoder.CoefficientsToSlots(copy);
    EXPECT_LT(MaxError(copy, values), 1e-13);
  }
}

// Rounding to integers is the only error: 1/sqrt(12) per coefficient.
TEST(Encoder, DecodeReturnsThePeriodicRepetition) {
  for (const char* name : {"test10", "test12"}) {
    const auto params = Params(name);
    const Encoder encoder(params);
    for (int log_count = 0; log_count <= params->log_slots(); ++log_count)
      for (const int level : {0, 1, params->max_level()}) {
        const Slots values = RandomSlots(size_t{1} << log_count, 3 + log_count);
        const double scale = 0x1p40;
        const Plaintext plaintext = encoder.Encode(values, level, scale).value();
        EXPECT_EQ(plaintext.poly.limbs(), static_cast<size_t>(params->limbs(level)));
        const Slots decoded = encoder.Decode(plaintext, params->slots());
        EXPECT_LT(MaxError(decoded, values), WorstSlot(*params, 0.3, scale) + 1e-11)
            << name << " " << log_count << " " << level;
      }
  }
}

TEST(Encoder, SparseTransformEqualsTheFullOne) {
  const auto params = Params("test10");
  const Encoder encoder(params);
  const Slots values = RandomSlots(16, 9);
  Slots repeated(params->slots());
  for (size_t j = 0; j < repeated.size(); ++j) repeated[j] = values[j % 16];
  const int level = params->max_level();
  const Plaintext a = encoder.Encode(values, level, 0x1p40, true).value();
  const Plaintext b = encoder.Encode(repeated, level, 0x1p40, true).value();
  ASSERT_EQ(a.poly.limbs(), static_cast<size_t>(params->extended_limbs(level)));
  // Both round the same coefficients; the FFTs differ in the last bits of a double.
  size_t different = 0;
  for (size_t j = 0; j < a.poly.limbs(); ++j)
    for (int i = 0; i < params->n(); ++i) different += a.poly.limb(j)[i] != b.poly.limb(j)[i];
  EXPECT_EQ(different, 0u);
}

TEST(Encoder, ConstantIsTheIntegerInEveryWord) {
  const auto params = Params("test10");
  const Encoder encoder(params);
  const Slots values = {Complex(-3, 0)};
  const Plaintext plaintext = encoder.Encode(values, 2, 1024).value();
  for (int j = 0; j < 3; ++j)
    for (u64 word : plaintext.poly.limb(j)) EXPECT_EQ(word, params->q(j).q - 3072);
}

TEST(Encoder, LargeScalesAreExactAboveTheVectorPath) {
  const auto params = Params("test10");
  const Encoder encoder(params);
  for (const double scale : {0x1p45, 0x1p49, 0x1p55, 0x1p60}) {
    const Slots values = RandomSlots(params->slots(), 4);
    const Plaintext plaintext = encoder.Encode(values, 5, scale).value();
    EXPECT_LT(MaxError(encoder.Decode(plaintext, params->slots()), values), 1e-9) << scale;
  }
}

TEST(Encoder, DistinctValuesAreWhatALimbRepeats) {
  const auto params = Params("test13");
  const Encoder encoder(params);
  const int level = 3;
  // The last one is of a ring that has tables of its own.
  for (const size_t period : {size_t{1}, size_t{16}, size_t{512}}) {
    const Slots values = RandomSlots(period, 7);
    const auto whole = encoder.Encode(values, level, params->scale(level), true).value();
    const auto plain = encoder.Encode(values, level, params->scale(level)).value();
    const auto back = encoder.Decode(plain, static_cast<int>(period));
    for (size_t i = 0; i < period; ++i) ASSERT_LT(std::abs(back[i] - values[i]), 1e-8) << i;
    const auto distinct = encoder.EncodeDistinct(values, level, params->scale(level)).value();
    ASSERT_EQ(distinct.limbs(), whole.poly.limbs());
    const size_t copies = params->n() / (2 * period);
    for (size_t i = 0; i < distinct.limbs(); ++i)
      for (size_t j = 0; j < whole.poly.limb(i).size(); ++j)
        ASSERT_EQ(distinct.limb(i)[j / copies], whole.poly.limb(i)[j]) << period << " " << j;
  }
  EXPECT_FALSE(encoder.EncodeDistinct(RandomSlots(1024, 7), level, params->scale(level)).ok());
}

TEST(Encoder, RefusesWhatDoesNotFit) {
  const auto params = Params("test10");
  const Encoder encoder(params);
  const auto code = [&](const Slots& values, int level, double scale) {
    const auto result = encoder.Encode(values, level, scale);
    return result.ok() ? std::optional<ErrorCode>() : result.error().code;
  };
  EXPECT_EQ(code(Slots(3), 0, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Slots(), 0, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Slots(params->n()), 0, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Slots(1), -1, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Slots(1), params->max_level() + 1, 1), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Slots(1), 0, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(Slots(1), 0, NAN), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code({Complex(NAN, 0)}, 0, 1), ErrorCode::kOutOfRange);
  EXPECT_EQ(code({Complex(1, 0)}, 0, 0x1p49), ErrorCode::kOutOfRange);  // Q/2 at level 0
  EXPECT_EQ(code({Complex(1, 0)}, 0, 0x1p48), std::nullopt);
  EXPECT_EQ(code({Complex(1, 0)}, 5, 0x1p62), ErrorCode::kOutOfRange);
}

}  // namespace
}  // namespace polyveil::ckks
