// Drafts by hand: what is looked up, what is counted, and passes that add up to the text.
#include "eval/drafts.h"

#include <gtest/gtest.h>

#include <random>

namespace polyveil::model {
namespace {

using TokenIds = std::vector<TokenId>;

TEST(Drafts, LooksUpTheLongestRunThatStoodBefore) {
  const LookupDrafter drafter;
  EXPECT_EQ(drafter.Draft(TokenIds{1, 2, 3, 9, 2, 4, 1, 2}), 3);  // behind 1 2, not behind 2
  EXPECT_EQ(drafter.Draft(TokenIds{1, 5, 1, 6, 1}), 6);           // the last of equals
  EXPECT_EQ(drafter.Draft(TokenIds{1, 2, 3}), -1);
  EXPECT_EQ(drafter.Draft(TokenIds{1}), -1);
  EXPECT_EQ(drafter.Draft(TokenIds{}), -1);
  EXPECT_EQ(LookupDrafter(2).Draft(TokenIds{1, 5, 1}), -1);  // one token in common is too little
  EXPECT_EQ(LookupDrafter(2).Draft(TokenIds{2, 1, 5, 2, 1}), 5);
}

TEST(Drafts, CountsTheCommonestOfTheLongestKnownRun) {
  const CountDrafter drafter(TokenIds{1, 2, 3, 1, 2, 3, 1, 2, 4, 7, 2, 5, 7, 2, 5});
  EXPECT_EQ(drafter.Draft(TokenIds{1, 2}), 3);
  EXPECT_EQ(drafter.Draft(TokenIds{7, 2}), 5);
  EXPECT_EQ(drafter.Draft(TokenIds{9, 1}), 2);  // "9 1" is new, "1" is known
  EXPECT_EQ(drafter.Draft(TokenIds{9}), -1);
  EXPECT_EQ(drafter.Draft(TokenIds{}), -1);
  EXPECT_EQ(CountDrafter(TokenIds{}).Draft(TokenIds{1}), -1);
}

TEST(Drafts, LooksUpBeforeItCounts) {
  const LookupDrafter lookup;
  const CountDrafter counts(TokenIds{1, 8, 2, 3});
  const LookupOrCountDrafter both(lookup, counts);
  EXPECT_EQ(both.Draft(TokenIds{1, 9, 1}), 9);
  EXPECT_EQ(both.Draft(TokenIds{5, 2}), 3);
}

TEST(Drafts, PassesYieldTheWholeText) {
  const LookupDrafter drafter;
  const TokenIds repeated = {1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3};
  // Behind "1 2 3 1" all is known: four tokens, then the last four.
  const DraftedPasses passes = CountPasses(repeated, 4, 4, drafter);
  EXPECT_EQ(passes.tokens, 8);
  EXPECT_EQ(passes.passes, 2);
  EXPECT_EQ(CountPasses(repeated, 4, 1, drafter).passes, 8);
  EXPECT_EQ(CountPasses(repeated, repeated.size(), 4, drafter).passes, 0);
  std::mt19937 random(1);
  for (int run = 0; run < 50; ++run) {
    TokenIds text(2 + random() % 40);
    for (TokenId& token : text) token = static_cast<TokenId>(random() % 4);
    std::int64_t before = static_cast<std::int64_t>(text.size()) - 1;
    for (int width = 1; width <= 8; ++width) {
      const DraftedPasses each = CountPasses(text, 1, width, drafter);
      EXPECT_EQ(each.tokens, static_cast<std::int64_t>(text.size()) - 1);
      EXPECT_GE(each.passes * width, each.tokens);
      if (width == 1) {
        EXPECT_EQ(each.passes, before);
      }
    }
  }
}

}  // namespace
}  // namespace polyveil::model
