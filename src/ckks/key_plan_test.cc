#include "ckks/key_plan.h"

#include <gtest/gtest.h>

namespace polyveil::ckks {
namespace {

class KeyPlanTest : public testing::Test {
 protected:
  KeyUses Typical() const {
    KeyUses uses;
    for (int r = 1; r < slots; r *= 2)
      for (const int level : {3, 6, 9, 12, 15, 18}) uses.AddRotation(r, slots, level, 2);
    for (const int level : {4, 10, 18, top - 2}) uses.AddRelinearization(level, 5);
    for (int r = 1; r < 16; ++r) uses.required.AddRotation(r, slots, params->max_level());
    uses.required.AddRotation(3, slots, 2);
    uses.required.AddRotation(3, slots, 1);
    uses.required.AddConjugation(top - 1);
    uses.required.encapsulation = true;
    return uses;
  }
  // Every use has a key of its level or above.
  void ExpectCovered(const KeyRequest& keys, const KeyUses& uses) const {
    for (const auto& [use, count] : uses.rotations) {
      const auto key = keys.rotations.lower_bound(use);
      EXPECT_TRUE(key != keys.rotations.end() && key->first == use.first)
          << use.first << " at " << use.second;
    }
    for (const auto& [level, count] : uses.relinearizations)
      EXPECT_GE(*keys.relinearization_levels.rbegin(), level);
  }

  const ParametersPtr params = Parameters::Create(FindParameters("test10").value()).value();
  const int slots = params->slots(), top = params->max_level();
};

TEST_F(KeyPlanTest, OneKeyPerClassServesARequest) {
  KeyRequest request;
  for (const int level : {top - 1, top}) request.AddRotation(1, slots, level);  // of one class
  for (const int level : {1, 2}) request.AddRotation(2, slots, level);
  request.AddRotation(1, slots, 18);
  request.AddRelinearization(top - 2);
  request.AddRelinearization(top);
  const KeyRequest planned = PlanKeys(*params, request);
  EXPECT_TRUE(planned.rotations.contains({1, top}));
  EXPECT_FALSE(planned.rotations.contains({1, top - 1}));
  EXPECT_TRUE(planned.rotations.contains({1, 18}));
  EXPECT_TRUE(planned.rotations.contains({2, 2}));
  EXPECT_EQ(planned.relinearization_levels, std::set<int>{top});
  EXPECT_EQ(PlanKeys(*params, planned), planned);
}

TEST_F(KeyPlanTest, WithoutBudgetOnlyWhatIsNeeded) {
  const KeyUses uses = Typical();
  const KeyRequest keys = PlanKeys(*params, uses, 0);
  ExpectCovered(keys, uses);
  EXPECT_EQ(keys.relinearization_levels, std::set<int>{top - 2});
  EXPECT_TRUE(keys.rotations.contains({1, top}));
  EXPECT_FALSE(keys.rotations.contains({1, 18}));  // the required key reaches it
  EXPECT_TRUE(keys.rotations.contains({16, 18}));
  EXPECT_TRUE(keys.rotations.contains({3, 2}));  // a class of its own, pinned
  EXPECT_TRUE(keys.encapsulation);
}

TEST_F(KeyPlanTest, BudgetBuysTimeAndIsKept) {
  const KeyUses uses = Typical();
  const size_t least = ExpandedKeyBytes(*params, PlanKeys(*params, uses, 0));
  size_t last = least;
  for (const double factor : {1.1, 1.5, 100.0}) {
    const size_t budget = static_cast<size_t>(factor * static_cast<double>(least));
    const KeyRequest keys = PlanKeys(*params, uses, budget);
    ExpectCovered(keys, uses);
    const size_t bytes = ExpandedKeyBytes(*params, keys);
    EXPECT_LE(bytes, budget);
    EXPECT_GE(bytes, last);
    last = bytes;
  }
  EXPECT_GT(last, least);
  EXPECT_EQ(PlanKeys(*params, uses, least * 2), PlanKeys(*params, uses, least * 2));
}

TEST_F(KeyPlanTest, RotationsByNothingNeedNoKey) {
  KeyUses uses;
  uses.AddRotation(0, slots, 5);
  uses.AddRotation(-slots, slots, 5);
  EXPECT_EQ(PlanKeys(*params, uses, size_t{1} << 40).count(), 0);
  uses.AddRotation(-1, slots, 5);
  EXPECT_TRUE(PlanKeys(*params, uses, 0).rotations.contains({slots - 1, 5}));
}

}  // namespace
}  // namespace polyveil::ckks
