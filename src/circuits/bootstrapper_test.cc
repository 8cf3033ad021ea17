#include "circuits/bootstrapper.h"

#include <memory>

#include "circuits/context_test.h"
#include "ckks/seeded.h"

namespace polyveil::circuits {
namespace {

// Error budget of one bootstrap in units of the message (|slot| <= 1), E = OperationNoise() (6
// sigma, worst slot):
//   2^-18    sine's cubic term, spread by the gain (2^-19.3), and the polynomial's fit (2^-19)
//   StC      E / scale for each of its levels
//   CtS      the input u = x / K of EvalMod carries 2 E / 2^50, and z = K ratio u = 2^14 u: 2^15 E
//   / 2^50 EvalMod  the rounding r <= E / 2^50 of C_2 = 4 u^2 - 2 moves x - 1/4 by K^2 / (8 |x -
//   1/4|) r, which is largest for
//            x = 0: 2^7 r, in the message 2^17 r; the roundings of C_4, C_8, ... weigh 1/4, 1/16,
//            ...: 3/2 2^17 E / 2^50
//   angles   the polynomial's result y = 2 cos t has the scale s of EvalMod's fit; y^2 - 2 three
//   times
//            gives 2 cos 8 t, whose derivative by y is 8 sin 8t / sin t <= 64, in the message
//            64 ratio / (4 pi) = 2^12.4: 2^12.4 E / s, and half as much for the two roundings
//            between
//   output   5 E / scale: the last squarings, encryption, decryption
// Key switches stand before a rescale, which divides their noise by 2^37 or more.
double Bound(const TestContext& context) {
  const ckks::Parameters& params = *context.params();
  const double e = context.OperationNoise(), scale = params.scale(params.working_level());
  const int stc_levels = params.LevelsWithRole(ckks::LevelRole::kSlotsToCoeffs);
  const double fit_scale = EvalMod::Create(params).value().fit_scale();
  return 0x1p-18 + e * ((stc_levels + 5) / scale + (0x1p15 + 1.5 * 0x1p17) * 0x1p-50 +
                        1.5 * 0x1p12 * 1.32 / fit_scale);
}

void Check(const TestContext& context, const Bootstrapper& bootstrapper,
           const std::vector<Complex>& values, const std::vector<Complex>& expected, int level,
           const char* what) {
  const auto x = context.Encrypt(values, level);
  const auto y = bootstrapper.Bootstrap(context.evaluator(), x);
  ASSERT_TRUE(y.ok()) << y.error().message;
  EXPECT_EQ(y->level, bootstrapper.output_level());
  EXPECT_EQ(y->scale, bootstrapper.output_scale());
  const double error = WorstError(context.Decrypt(*y), Repeat(expected, context.params()->slots()));
  EXPECT_LT(error, Bound(context)) << what;
  fmt::print("[ {:>20} ] worst slot {:.2f} bits, bound {:.2f}\n", what, -std::log2(error),
             -std::log2(Bound(context)));
}

std::unique_ptr<TestContext> NewContext(const std::string& name, const BootstrapSpec& spec) {
  auto context = std::make_unique<TestContext>(name);
  context->MakeKeys(Bootstrapper::Keys(*context->params(), spec).value());
  return context;
}

class BootstrapperTest : public ::testing::TestWithParam<BootstrapSpec> {};

TEST_P(BootstrapperTest, WorstSlotWithinBound) {
  const BootstrapSpec spec = GetParam();
  const auto context = NewContext("test11", spec);
  const auto bootstrapper = Bootstrapper::Create(context->params(), context->encoder(), spec);
  ASSERT_TRUE(bootstrapper.ok()) << bootstrapper.error().message;
  const size_t period = size_t{1} << spec.log_period;
  const double im = spec.complex_slots ? 1 : 0;
  const int level = bootstrapper->input_level();
  const auto random = RandomSlots(period, spec.complex_slots, 3);
  Check(*context, *bootstrapper, random, random, level, "random");
  Check(*context, *bootstrapper, random, random, level + 5, "adjusted");
  std::vector<Complex> values(period, Complex(1, im));
  Check(*context, *bootstrapper, values, values, level, "constant");
  for (size_t j = 0; j < period; ++j) values[j] = (j % 2 ? -1.0 : 1.0) * Complex(1, -im);
  Check(*context, *bootstrapper, values, values, level, "alternating");
  values.assign(period, 0);
  Check(*context, *bootstrapper, values, values, level, "zero");
  values[period / 2] = Complex(-1, im);
  Check(*context, *bootstrapper, values, values, level, "one slot");
  if (!spec.complex_slots) {
    auto with_imaginary = random;
    for (Complex& v : with_imaginary) v += Complex(0, 0.5);
    Check(*context, *bootstrapper, with_imaginary, random, level, "imaginary discarded");
  }
}

INSTANTIATE_TEST_SUITE_P(Specs, BootstrapperTest,
                         ::testing::Values(BootstrapSpec{10, false}, BootstrapSpec{10, true},
                                           BootstrapSpec{7, false}, BootstrapSpec{7, true},
                                           BootstrapSpec{9, true}, BootstrapSpec{3, false},
                                           BootstrapSpec{1, false}, BootstrapSpec{0, false},
                                           BootstrapSpec{0, true}));

// The error of the second pass shrinks with its input; what remains are roundings: of the input, of
// the first result brought down to it, of StC at scale 2^40, of the result brought to its level.
double TwoPassBound(const TestContext& context) {
  const ckks::Parameters& params = *context.params();
  const double scale = params.scale(params.working_level());
  return Bound(context) * 0x1p-12 + context.OperationNoise() * (4 / scale + 0x1p-40);
}

TEST(Bootstrapper, TwoPassesReachTheWorkingScale) {
  for (const BootstrapSpec& spec :
       {BootstrapSpec{10, false}, BootstrapSpec{6, false}, BootstrapSpec{6, true}}) {
    const auto context = NewContext("test11", spec);
    const auto bootstrapper =
        Bootstrapper::Create(context->params(), context->encoder(), spec).value();
    const auto values = RandomSlots(size_t{1} << spec.log_period, spec.complex_slots, 4);
    const auto x = context->Encrypt(values, bootstrapper.input_level() + 3);
    const auto y = bootstrapper.BootstrapTwice(context->evaluator(), x);
    ASSERT_TRUE(y.ok()) << y.error().message;
    EXPECT_EQ(y->level, bootstrapper.output_level() - 1);
    EXPECT_EQ(y->scale, context->params()->scale(y->level));
    auto slots = context->Decrypt(*y);
    if (!spec.complex_slots)  // the second pass sees real parts only
      for (Complex& slot : slots) slot = slot.real();
    const double error = WorstError(slots, Repeat(values, 1024));
    EXPECT_LT(error, TwoPassBound(*context));
    EXPECT_LT(16 * TwoPassBound(*context), Bound(*context));
    fmt::print("[ two passes ] worst slot {:.2f} bits, bound {:.2f}\n", -std::log2(error),
               -std::log2(TwoPassBound(*context)));
  }
}

TEST(Bootstrapper, SmallMessagesLoseLess) {
  const BootstrapSpec spec{6, false};
  const auto context = NewContext("test11", spec);
  const auto bootstrapper =
      Bootstrapper::Create(context->params(), context->encoder(), spec).value();
  auto values = RandomSlots(64, false, 4);
  for (Complex& v : values) v /= 64;
  const auto x = context->Encrypt(values, bootstrapper.input_level());
  const auto y = bootstrapper.BootstrapSmall(context->evaluator(), x, 6).value();
  EXPECT_EQ(y.scale, 64 * bootstrapper.output_scale());
  EXPECT_LT(WorstError(context->Decrypt(y), Repeat(values, 1024)),
            Bound(*context) / 64 + context->OperationNoise() * (1 / x.scale + 0x1p-40));
  for (const int gain : {-1, Bootstrapper::kMaxLogGain + 1})
    EXPECT_EQ(bootstrapper.BootstrapSmall(context->evaluator(), x, gain).error().code,
              ErrorCode::kInvalidArgument);
}

// Values that went through a bootstrap go through another.
TEST(Bootstrapper, RepeatsAfterMultiplications) {
  const BootstrapSpec spec{5, false};
  const auto context = NewContext("test10", spec);
  const auto bootstrapper =
      Bootstrapper::Create(context->params(), context->encoder(), spec).value();
  auto values = RandomSlots(32, false, 8);
  auto x = context->Encrypt(values, bootstrapper.input_level());
  for (int round = 0; round < 4; ++round) {
    x = bootstrapper.Bootstrap(context->evaluator(), x).value();
    x = context->evaluator().SquareRescale(x).value();
    for (Complex& v : values) v *= v;
  }
  // Squaring doubles the error at most (|v| <= 1), as does each round: 2 + 4 + 8 + 16.
  EXPECT_LT(WorstError(context->Decrypt(x), Repeat(values, context->params()->slots())),
            30 * Bound(*context));
}

// Everything that reads a key: linear transforms, relinearisation, conjugation, trace, ModRaise.
TEST(Bootstrapper, CompactKeysGiveTheSameWords) {
  const BootstrapSpec spec{5, true};
  const auto context = NewContext("test10", spec);
  const auto bootstrapper =
      Bootstrapper::Create(context->params(), context->encoder(), spec).value();
  const auto x = context->Encrypt(RandomSlots(32, true, 4), bootstrapper.input_level());
  const auto expanded = bootstrapper.Bootstrap(context->evaluator(), x).value();
  const size_t bytes = context->keys().bytes();
  ckks::CompactKeys(context->keys());
  EXPECT_EQ(2 * context->keys().bytes(), bytes);
  const auto compact = bootstrapper.Bootstrap(context->evaluator(), x).value();
  for (int k = 0; k < 2; ++k)
    EXPECT_TRUE(std::equal(expanded.parts[k].data(),
                           expanded.parts[k].data() + expanded.parts[k].limbs() * x.parts[0].n(),
                           compact.parts[k].data()));
}

// A dense matrix of all slots would fill the memory.
TEST(Bootstrapper, RefusesTransformsOfTooManyDiagonals) {
  const auto params = ckks::Parameters::Create(ckks::FindParameters("decode16").value()).value();
  const auto keys = Bootstrapper::Keys(*params, {params->log_slots(), false});
  ASSERT_FALSE(keys.ok());
  EXPECT_EQ(keys.error().code, ErrorCode::kOutOfRange);
  EXPECT_NE(keys.error().message.find("decode16"), std::string::npos) << keys.error().message;
}

TEST(Bootstrapper, Errors) {
  const BootstrapSpec spec{4, false};
  const TestContext context("test10");
  const auto& params = context.params();
  for (const BootstrapSpec& bad : {BootstrapSpec{-1, false}, BootstrapSpec{10, false}}) {
    EXPECT_EQ(Bootstrapper::Keys(*params, bad).error().code, ErrorCode::kInvalidArgument);
    EXPECT_EQ(Bootstrapper::Create(params, context.encoder(), bad).error().code,
              ErrorCode::kInvalidArgument);
  }
  auto without_eval_mod = ckks::FindParameters("test10").value();
  for (auto& group : without_eval_mod.chain) {
    if (group.role == ckks::LevelRole::kEvalMod) group.count = 7;
  }
  const auto short_params = ckks::Parameters::Create(without_eval_mod).value();
  EXPECT_EQ(Bootstrapper::Keys(*short_params, spec).error().code, ErrorCode::kInvalidArgument);

  const auto bootstrapper = Bootstrapper::Create(params, context.encoder(), spec).value();
  const auto values = RandomSlots(16, false, 1);
  const auto code = [&](const ckks::Ciphertext& x) {
    return bootstrapper.Bootstrap(context.evaluator(), x).error().code;
  };
  const int level = bootstrapper.input_level();
  EXPECT_EQ(code(context.Encrypt(values, level - 1)), ErrorCode::kOutOfRange);
  EXPECT_EQ(code(context.Encrypt(values, level, params->scale(level) / 2)), ErrorCode::kMismatch);
  EXPECT_EQ(code(context.Encrypt(values, level)), ErrorCode::kMissingKey);
}

// Production parameters, 2^7 values: a token's vectors. About 20 s and 5.5 GB, nearly all of it key
// generation.
TEST(Bootstrapper, SecureSizeWithinBound) {
  const BootstrapSpec spec{7, false};
  const auto context = NewContext("decode16", spec);
  EXPECT_FALSE(context->params()->insecure());
  const auto bootstrapper =
      Bootstrapper::Create(context->params(), context->encoder(), spec).value();
  const auto random = RandomSlots(128, false, 3);
  Check(*context, bootstrapper, random, random, bootstrapper.input_level(), "2^16 random");
  const std::vector<Complex> ones(128, 1.0);
  Check(*context, bootstrapper, ones, ones, bootstrapper.input_level(), "2^16 constant");
  EXPECT_LT(Bound(*context), 0x1p-15);
}

}  // namespace
}  // namespace polyveil::circuits
