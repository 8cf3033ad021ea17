#include "circuits/bootstrapper.h"

#include "circuits/context_test.h"

namespace polyveil::circuits {
namespace {

// Error budget of one bootstrap in units of the message (|slot| <= 1), E = OperationNoise() (6 sigma, worst slot):
//   2^-18    sine's cubic term, spread by the gain (2^-19.3), and the polynomial's fit (2^-19)
//   StC      E / 2^40 for each of its levels
//   CtS      u = x / K carries 2 E / 2^50 of noise, K * ratio = 2^14 times as large in the message
//   EvalMod  2^9 E / 2^50: the polynomial's error (about 8 operations) through the double angles (derivative <= 41)
//            and the output's gain ratio / 4 pi = 2^6.4
//   out      4 E / 2^40, the last squarings
double Bound(const TestContext& context) {
  const double e = context.OperationNoise();
  return 0x1p-18 + e * (7 * 0x1p-40 + (0x1p15 + 0x1p14) * 0x1p-50);
}

class BootstrapperTest : public ::testing::TestWithParam<BootstrapSpec> {
 protected:
  static TestContext* NewContext(const std::string& name, const BootstrapSpec& spec) {
    auto* context = new TestContext(name);
    context->MakeKeys(Bootstrapper::Keys(*context->params(), spec).value());
    return context;
  }
};

void Check(const TestContext& context, const Bootstrapper& bootstrapper,
           const std::vector<Complex>& values, const std::vector<Complex>& expected, int level,
           const char* what) {
  const auto x = context.Encrypt(values, level);
  const auto y = bootstrapper.Bootstrap(context.evaluator(), x);
  ASSERT_TRUE(y.ok()) << y.error().message;
  EXPECT_EQ(y->level, bootstrapper.output_level());
  EXPECT_EQ(y->scale, bootstrapper.output_scale());
  const double error =
      WorstError(context.Decrypt(*y), Repeat(expected, context.params()->slots()));
  EXPECT_LT(error, Bound(context)) << what;
  ::testing::Test::RecordProperty(std::string("bits_") + what, fmt::format("{:.2f}", -std::log2(error)));
  fmt::print("[ {:>20} ] worst slot {:.2f} bits, bound {:.2f}\n", what, -std::log2(error),
             -std::log2(Bound(context)));
}

TEST_P(BootstrapperTest, WorstSlotWithinBound) {
  const BootstrapSpec spec = GetParam();
  std::unique_ptr<TestContext> owner(NewContext("test11", spec));
  const auto bootstrapper = Bootstrapper::Create(owner->params(), owner->encoder(), spec);
  ASSERT_TRUE(bootstrapper.ok()) << bootstrapper.error().message;
  const size_t period = size_t{1} << spec.log_period;
  const double im = spec.complex_slots ? 1 : 0;
  const int level = bootstrapper->input_level();
  const auto random = RandomSlots(period, spec.complex_slots, 3);
  Check(*owner, *bootstrapper, random, random, level, "random");
  Check(*owner, *bootstrapper, random, random, level + 5, "adjusted");
  std::vector<Complex> values(period, Complex(1, im));
  Check(*owner, *bootstrapper, values, values, level, "constant");
  for (size_t j = 0; j < period; ++j) values[j] = (j % 2 ? -1.0 : 1.0) * Complex(1, -im);
  Check(*owner, *bootstrapper, values, values, level, "alternating");
  values.assign(period, 0);
  Check(*owner, *bootstrapper, values, values, level, "zero");
  values[period / 2] = Complex(-1, im);
  Check(*owner, *bootstrapper, values, values, level, "one slot");
  if (!spec.complex_slots) {
    auto with_imaginary = random;
    for (Complex& v : with_imaginary) v += Complex(0, 0.5);
    Check(*owner, *bootstrapper, with_imaginary, random, level, "imaginary discarded");
  }
}

INSTANTIATE_TEST_SUITE_P(Specs, BootstrapperTest,
                         ::testing::Values(BootstrapSpec{10, false}, BootstrapSpec{10, true},
                                           BootstrapSpec{7, false}, BootstrapSpec{7, true},
                                           BootstrapSpec{9, true}, BootstrapSpec{3, false},
                                           BootstrapSpec{1, false}, BootstrapSpec{0, false},
                                           BootstrapSpec{0, true}));

}  // namespace
}  // namespace polyveil::circuits
