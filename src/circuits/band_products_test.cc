#include "circuits/band_products.h"

#include "circuits/context_test.h"

namespace polyveil::circuits {
namespace {

// Against one product after the other: the same words.
TEST(BandProducts, EqualTheSumOfSingleProducts) {
  TestContext context("test10");
  context.MakeKeys({});
  const ckks::Parameters& params = *context.params();
  const ckks::Evaluator& evaluator = context.evaluator();
  constexpr int kLevel = 5;
  const double scale = params.scale(kLevel), plain_scale = 0x1p38;
  const auto slots = static_cast<size_t>(params.slots());
  for (const size_t terms : {size_t{1}, size_t{4}, size_t{12}}) {
    std::vector<ckks::Ciphertext> a, b;
    std::vector<CompactPlaintext> plains;
    std::vector<const ckks::Ciphertext*> left, right;
    for (size_t i = 0; i < terms; ++i) {
      a.push_back(context.Encrypt(RandomSlots(slots, true, 3 * i), kLevel, scale));
      b.push_back(context.Encrypt(RandomSlots(slots, true, 3 * i + 1), kLevel, scale));
      // All slots', few in a row, many in a row.
      const size_t period = slots >> (2 * (i % 4));
      plains.push_back(CompactPlaintext::Create(context.encoder(),
                                                RandomSlots(period, true, 3 * i + 2), kLevel,
                                                plain_scale)
                           .value());
    }
    ckks::Ciphertext expected;
    for (size_t i = 0; i < terms; ++i) {
      left.push_back(&a[i]);
      right.push_back(&b[i]);
      const auto product =
          evaluator.MulPlain(a[i], plains[i].Expand(params, kLevel, plain_scale)).value();
      if (i == 0)
        expected = evaluator.MulNoRelin(product, b[i]).value();
      else
        ASSERT_TRUE(evaluator.MulAccumulateNoRelin(expected, product, b[i]).ok());
    }
    const auto sum = MultiplyBand(evaluator, left, plains, plain_scale, right);
    ASSERT_TRUE(sum.ok()) << sum.error().message;
    EXPECT_EQ(sum->level, kLevel);
    EXPECT_TRUE(ckks::SameScale(sum->scale, expected.scale));
    ASSERT_EQ(sum->degree(), 2);
    for (size_t part = 0; part < 3; ++part)
      for (size_t limb = 0; limb < expected.parts[part].limbs(); ++limb)
        ASSERT_TRUE(
            std::ranges::equal(sum->parts[part].limb(limb), expected.parts[part].limb(limb)))
            << terms << " terms, part " << part << ", limb " << limb;
  }
}

TEST(BandProducts, OperandsMustAgree) {
  TestContext context("test10");
  context.MakeKeys({});
  const auto x = context.Encrypt(RandomSlots(16, true, 1), 5, 0x1p40);
  const auto lower = context.Encrypt(RandomSlots(16, true, 1), 4, 0x1p40);
  const auto plain =
      CompactPlaintext::Create(context.encoder(), RandomSlots(16, true, 2), 5, 0x1p38).value();
  const ckks::Ciphertext *const one = &x, *const other = &lower;
  const auto code = [&](const ckks::Ciphertext* a, const ckks::Ciphertext* b) {
    return MultiplyBand(context.evaluator(), {&a, 1}, {&plain, 1}, 0x1p38, {&b, 1}).error().code;
  };
  EXPECT_EQ(code(one, other), ErrorCode::kMismatch);
  const auto squared = context.evaluator().MulNoRelin(x, x).value();
  EXPECT_EQ(code(&squared, one), ErrorCode::kMismatch);
}

}  // namespace
}  // namespace polyveil::circuits
