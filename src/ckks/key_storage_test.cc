// Which keys are expanded: budgets, order, and the same bytes and limbs as the keys themselves
// have.
#include "ckks/key_storage.h"

#include <gtest/gtest.h>

#include "ckks/key_shape.h"

namespace polyveil::ckks {
namespace {

class KeyStorageTest : public testing::Test {
 protected:
  KeyStorageTest() : params(Parameters::Create(FindParameters("test12").value()).value()) {
    const int slots = params->slots(), top = params->max_level();
    uses.AddRotation(1, slots, top, 20);
    uses.AddRotation(2, slots, top, 1);
    uses.AddRotation(3, slots, 2, 5);
    uses.AddRelinearization(top, 7);
    uses.AddConjugation(top, 2);
    uses.mod_raises = 3;
    uses.required.encapsulation = true;
    request = PlanKeys(*params, uses, 0);
  }
  size_t Bytes(const KeyRequest& expanded) const {
    return KeyMemoryBytes(*params, request, expanded);
  }
  double Limbs(const KeyRequest& expanded) const {
    return LimbsToExpand(*params, request, expanded, uses);
  }
  KeyRequest Choose(KeyStorage storage, size_t budget) const {
    return KeysToExpand(*params, request, uses, storage, budget);
  }

  ParametersPtr params;
  KeyUses uses;
  KeyRequest request;
};

TEST_F(KeyStorageTest, AllOrNone) {
  EXPECT_EQ(Choose(KeyStorage::kExpanded, 0), request);
  EXPECT_EQ(Choose(KeyStorage::kCompact, size_t{1} << 50), KeyRequest());
  EXPECT_EQ(Choose(KeyStorage::kAuto, Bytes(request)), request);
  EXPECT_EQ(Choose(KeyStorage::kAuto, Bytes({})), KeyRequest());
  EXPECT_EQ(Bytes(request), 2 * Bytes({}));
  EXPECT_EQ(Limbs(request), 0);
}

TEST_F(KeyStorageTest, EveryReadIsCounted) {
  const auto limbs = [&](int level) {
    const int special = params->special_primes(level);
    return params->digits(level, special) * params->extended_limbs(level, special);
  };
  const double encapsulation = 2 + params->limbs(params->max_level()) + 1;
  EXPECT_EQ(Limbs({}),
            (20 + 1 + 7 + 2) * limbs(params->max_level()) + 5 * limbs(2) + 3 * encapsulation);
  // A use at a low level reads as many limbs of a higher key as it has itself.
  KeyUses low;
  low.AddRotation(1, params->slots(), 2, 4);
  EXPECT_EQ(LimbsToExpand(*params, request, {}, low) / 4,
            params->digits(2, params->special_primes(params->max_level())) *
                params->extended_limbs(2, params->special_primes(params->max_level())));
}

TEST_F(KeyStorageTest, MoreMemoryExpandsHotterKeysFirst) {
  double limbs = Limbs({});
  for (double share = 0; share <= 1.01; share += 0.05) {
    const auto budget = static_cast<size_t>((1 + share) * static_cast<double>(Bytes({})));
    const KeyRequest expanded = Choose(KeyStorage::kAuto, budget);
    EXPECT_LE(Bytes(expanded), std::max(budget, Bytes({})));
    EXPECT_LE(Limbs(expanded), limbs);
    limbs = Limbs(expanded);
  }
  EXPECT_EQ(limbs, 0);
  // Room for one key of the top: the rotation that is used most.
  const size_t one =
      ShapeOf(*params, KeyKind::kGadget, params->max_level()).seeded_bytes(params->n());
  const KeyRequest expanded = Choose(KeyStorage::kAuto, Bytes({}) + one);
  EXPECT_TRUE(expanded.rotations.contains({1, params->max_level()}));
}

TEST_F(KeyStorageTest, Names) {
  for (const auto storage : {KeyStorage::kAuto, KeyStorage::kExpanded, KeyStorage::kCompact})
    EXPECT_EQ(ParseKeyStorage(KeyStorageName(storage)).value(), storage);
  EXPECT_EQ(ParseKeyStorage("packed").error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace polyveil::ckks
