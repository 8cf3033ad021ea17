// Measured errors against the estimator: within a factor of 4 both ways, the root mean square and
// the worst slot, for every operation.
#include "ckks/noise_estimator.h"

#include <cmath>

#include "ckks/scheme_test_util.h"

namespace polyveil::ckks {
namespace {

constexpr double kFactor = 4;
// Decode works in double precision: errors below this are not the scheme's.
constexpr double kDecodeError = 0x1p-46;

class NoiseEstimatorTest : public testing::TestWithParam<std::string> {
 protected:
  // One key per operation, truncated at `top`: small enough for 2^16.
  static KeyRequest Request(const Parameters& params, int top) {
    KeyRequest request;
    request.AddRotation(1, params.slots(), top);
    request.AddRotation(3, params.slots(), top);
    request.AddRelinearization(top);
    request.AddConjugation(top);
    request.encapsulation = true;
    return request;
  }
  static int TopOf(const Parameters& params) {
    return params.log_n() < 16 ? params.max_level() : 10;
  }
  static const Scheme& Get(const std::string& name) {
    static std::map<std::string, std::unique_ptr<Scheme>> schemes;
    auto& scheme = schemes[name];
    if (!scheme) {
      const auto params = Parameters::Create(FindParameters(name).value()).value();
      scheme = std::make_unique<Scheme>(name, Request(*params, TopOf(*params)));
    }
    return *scheme;
  }

  NoiseEstimatorTest()
      : s(Get(GetParam())),
        params(*s.params),
        estimator(params, TopOf(params)),
        a(RandomSlots(params.slots(), 1)),
        b(RandomSlots(params.slots(), 2)) {
    const int top = TopOf(params);
    if (params.log_n() < 16) levels = {1, 9, params.working_level(), top};
    if (params.log_n() == 16) levels = {2, top};
  }

  // Independent errors: the operands' own ones are part of every measurement, as in use.
  NoisyValue In(int level, double scale) const {
    return estimator.Encrypted(level, scale, std::sqrt(2.0 / 3));
  }
  template <typename Fn>
  Slots Each(Fn&& fn) const {
    Slots result(a.size());
    for (size_t j = 0; j < a.size(); ++j) result[j] = fn(j);
    return result;
  }
  void Check(const char* what, const Ciphertext& actual, const Slots& expected,
             const NoisyValue& estimate, NoiseTail tail = NoiseTail::kProduct) const {
    EXPECT_EQ(actual.level, estimate.level) << what;
    EXPECT_TRUE(SameScale(actual.scale, estimate.scale)) << what;
    Compare(what, s.Decrypt(actual), expected, estimate.error, tail);
  }
  void Compare(const char* what, const Slots& actual, const Slots& expected, double error,
               NoiseTail tail) const {
    double sum = 0;
    for (size_t j = 0; j < actual.size(); ++j) sum += std::norm(actual[j] - expected[j]);
    const double measured = std::sqrt(sum / static_cast<double>(actual.size()));
    const double predicted = std::hypot(error, kDecodeError);
    Within(what, "rms", measured, predicted);
    Within(what, "worst", MaxError(actual, expected),
           NoiseEstimator::Worst(predicted, static_cast<double>(actual.size()), tail));
  }
  static void Within(const char* what, const char* which, double measured, double predicted) {
    EXPECT_LT(measured, kFactor * predicted) << what << " " << which;
    EXPECT_GT(measured, predicted / kFactor) << what << " " << which;
  }

  const Scheme& s;
  const Parameters& params;
  const NoiseEstimator estimator;
  const Slots a, b;
  std::vector<int> levels;
};

TEST_P(NoiseEstimatorTest, EncodeAndEncrypt) {
  const double scale = 0x1p30;
  const Slots encoded = s.encoder.Decode(s.encoder.Encode(a, 1, scale).value(), params.slots());
  Compare("encode", encoded, a, estimator.Encode(scale), NoiseTail::kGaussian);
  const Slots few(a.begin(), a.begin() + 64);
  const Slots periodic = s.encoder.Decode(s.encoder.Encode(few, 1, scale).value(), 64);
  Compare("encode, period 2^6", periodic, few, estimator.Encode(scale, 6), NoiseTail::kGaussian);
  for (const int level : levels)
    Check("encrypt", s.Encrypt(a, level, scale), a, In(level, scale), NoiseTail::kGaussian);
}

TEST_P(NoiseEstimatorTest, AdditionsAndPlainProducts) {
  for (const int level : levels) {
    const double scale = params.scale(level);
    const Ciphertext x = s.Encrypt(a, level), y = s.Encrypt(b, level);
    const auto& e = s.evaluator;
    Check("add", e.Add(x, y).value(), Each([&](size_t j) { return a[j] + b[j]; }),
          estimator.Add(In(level, scale), In(level, scale)), NoiseTail::kGaussian);
    for (const double plain_scale : {0x1p15, 0x1p40}) {  // the plaintext's rounding leads, or not
      const Plaintext plain = s.encoder.Encode(b, level, plain_scale).value();
      Check("ct x pt", e.MulPlain(x, plain).value(), Each([&](size_t j) { return a[j] * b[j]; }),
            estimator.MulPlain(In(level, scale), std::sqrt(2.0 / 3), plain_scale));
    }
    Ciphertext z = e.MulPlain(x, s.encoder.Encode(b, level, 0x1p40).value()).value();
    ASSERT_TRUE(e.RescaleInplace(z).ok());
    Check("ct x pt + rescale", z, Each([&](size_t j) { return a[j] * b[j]; }),
          estimator.Rescale(estimator.MulPlain(In(level, scale), std::sqrt(2.0 / 3), 0x1p40)));
    Check("constant", e.MulConstant(x, 0.3, 0x1p20), Each([&](size_t j) { return 0.3 * a[j]; }),
          estimator.MulConstant(In(level, scale), 0.3, 0x1p20));
  }
}

TEST_P(NoiseEstimatorTest, ProductsOfCiphertexts) {
  for (const int level : levels) {
    const Ciphertext x = s.Encrypt(a, level), y = s.Encrypt(b, level);
    const NoisyValue in = In(level, x.scale);
    const Slots product = Each([&](size_t j) { return a[j] * b[j]; });
    Check("ct x ct", s.evaluator.Mul(x, y).value(), product, estimator.Mul(in, in));
    Check("ct x ct + rescale", s.evaluator.MulRescale(x, y).value(), product,
          estimator.MulRescale(in, in));
    Check("square + rescale", s.evaluator.SquareRescale(x).value(),
          Each([&](size_t j) { return a[j] * a[j]; }), estimator.SquareRescale(in));
  }
}

TEST_P(NoiseEstimatorTest, Rotations) {
  const size_t mask = a.size() - 1;
  for (const int level : levels) {
    const Ciphertext x = s.Encrypt(a, level);
    const NoisyValue in = In(level, x.scale), out = estimator.Rotate(in);
    const auto& e = s.evaluator;
    const Slots rotated = Each([&](size_t j) { return a[(j + 1) & mask]; });
    Check("rotate", e.Rotate(x, 1).value(), rotated, out);
    Check("conjugate", e.Conjugate(x).value(), Each([&](size_t j) { return std::conj(a[j]); }),
          out);
    const HoistedDigits digits = e.Decompose(x).value();
    Check("hoisted", e.RotateHoisted(x, digits, 1).value(), rotated, out);
    ExtendedCiphertext sum = e.RotateHoistedLazy(x, digits, 1).value();
    ASSERT_TRUE(e.AddInplace(sum, e.RotateHoistedLazy(x, digits, 3).value()).ok());
    Check("hoisted sum", e.ModDown(sum),
          Each([&](size_t j) { return a[(j + 1) & mask] + a[(j + 3) & mask]; }),
          estimator.SumOfHoistedRotations(in, 2));
  }
}

TEST_P(NoiseEstimatorTest, AdjustTo) {
  for (const int level : levels) {
    const Ciphertext x = s.Encrypt(a, level);
    // A factor near 2^20 is rounded coarsely; a large one is not.
    const double coarse = x.scale * 1.25e6 / static_cast<double>(params.q(level).q);
    for (const double scale : {params.scale(level - 1), coarse}) {
      Check("adjust", s.evaluator.AdjustTo(x, level - 1, scale).value(), a,
            estimator.AdjustTo(In(level, x.scale), level - 1, scale));
    }
  }
}

// Coefficients of the raised plaintext are m + q0 I; those of m are small.
TEST_P(NoiseEstimatorTest, ModRaise) {
  const double q0 = static_cast<double>(params.q(0).q), scale = 0x1p40;
  const Ciphertext x = s.Encrypt(a, 0, scale);
  Slots before = s.Decrypt(x), after = s.Decrypt(s.evaluator.ModRaise(x).value());
  s.encoder.SlotsToCoefficients(before);
  s.encoder.SlotsToCoefficients(after);
  double sum = 0;
  for (size_t j = 0; j < after.size(); ++j) {
    const double re = after[j].real() - before[j].real(), im = after[j].imag() - before[j].imag();
    const double step = q0 / scale;
    sum += std::pow(std::remainder(re, step), 2) + std::pow(std::remainder(im, step), 2);
  }
  const double measured = std::sqrt(sum / static_cast<double>(params.n()));
  Within("ModRaise", "rms", measured, estimator.ModRaiseCoefficient(scale));
}

INSTANTIATE_TEST_SUITE_P(Rings, NoiseEstimatorTest,
                         testing::Values("test12", "test13", "decode16"));

}  // namespace
}  // namespace polyveil::ckks
