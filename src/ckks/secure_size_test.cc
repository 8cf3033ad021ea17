// The production ring once: the same properties as on the small rings, at N = 2^16.
#include "ckks/scheme_test_util.h"

namespace polyveil::ckks {
namespace {

TEST(SecureSize, RotateMultiplyAndRaise) {
  const ParametersSpec spec = FindParameters("decode16").value();
  const auto params = Parameters::Create(spec).value();
  const int level = params->working_level(), slots = params->slots();
  KeyRequest request;
  request.AddRotation(-7, slots, params->max_level());
  request.AddRelinearization(level);
  request.encapsulation = true;
  const Scheme s(spec, request);
  const Slots a = RandomSlots(slots, 1), b = RandomSlots(slots, 2);
  const double scale = 0x1p40;

  for (const int at : {params->max_level(), 2}) {
    Slots expected(slots);
    for (int j = 0; j < slots; ++j) expected[j] = a[(j - 7 + slots) % slots];
    const Ciphertext rotated = s.evaluator.Rotate(s.Encrypt(a, at, scale), -7).value();
    EXPECT_LT(MaxError(s.Decrypt(rotated), expected),
              WorstSlot(*params, std::hypot(FreshNoise(), KeySwitchNoise(*params, at)), scale));
  }

  Slots products(slots);
  for (int j = 0; j < slots; ++j) products[j] = a[j] * b[j];
  const Ciphertext product =
      s.evaluator.MulRescale(s.Encrypt(a, level), s.Encrypt(b, level)).value();
  EXPECT_TRUE(SameScale(product.scale, params->scale(level - 1)));
  EXPECT_LT(
      MaxError(s.Decrypt(product), products),
      WorstSlot(*params, std::hypot(4 * FreshNoise(), RoundingNoise(*params)), product.scale));

  Ciphertext raised = s.evaluator.ModRaise(s.Encrypt(a, 0)).value();
  ASSERT_TRUE(s.evaluator.DropLevelInplace(raised, 0).ok());
  EXPECT_LT(MaxError(s.Decrypt(raised), a),
            WorstSlot(*params, std::hypot(FreshNoise(), ModRaiseNoise(*params)), raised.scale));

  KeySwitchKey key = KeyGenerator(s.key).Rotation(1, level);
  EXPECT_EQ(key.bytes(), ShapeOf(*params, KeyKind::kGadget, level).seeded_bytes(params->n()));
}

}  // namespace
}  // namespace polyveil::ckks
