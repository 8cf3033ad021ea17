#include "compile/choice_layout.h"

#include <gtest/gtest.h>

namespace polyveil::compile {
namespace {

// A page whose one choice is token 5 of 16, each of its copies with the same sum and certainty.
std::vector<Complex> Page(const ChoiceLayout& layout, double sum, double certainty) {
  const auto size = static_cast<size_t>(layout.block());
  std::vector<Complex> page(static_cast<size_t>(layout.slots));
  for (size_t s = 0; s < size / 2; ++s) {
    const int bit = static_cast<int>(s) % layout.bit_period;
    page[s] = bit < layout.bits ? model::TokenBit(5, bit) : 0;
  }
  for (size_t s = size / 2; s < size; ++s) page[s] = {sum, certainty * sum * sum};
  return page;
}

TEST(ChoiceLayout, EveryCopyMustDecideAndNeedNotAgree) {
  const ChoiceLayout layout = ChoiceLayout::Create(1024, 16, 16, 8).value();
  const auto half = static_cast<size_t>(layout.block()) / 2;
  std::vector<Complex> page = Page(layout, 0.78, 0.9);
  page[half] = {0.80, 0.95 * 0.80 * 0.80};
  const ReadChoice near_a_tie = UnpackChoice(layout, page, 0).value();
  EXPECT_EQ(near_a_tie.token, 5);
  EXPECT_TRUE(near_a_tie.decided());
  EXPECT_NEAR(near_a_tie.certainty, 0.9, 1e-12);
  page[half + 1] = {0.78, 0.4 * 0.78 * 0.78};  // one copy in which no token leads
  EXPECT_FALSE(UnpackChoice(layout, page, 0).value().decided());
  page[half + 1] = {0.001, 0.001};  // or none is there
  EXPECT_FALSE(UnpackChoice(layout, page, 0).value().decided());
  page = Page(layout, 0.78, 0.9);
  page[0] += 0.01;  // a bit's copy
  EXPECT_FALSE(UnpackChoice(layout, page, 0).value().decided());
}

}  // namespace
}  // namespace polyveil::compile
