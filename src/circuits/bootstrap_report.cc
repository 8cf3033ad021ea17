#include "circuits/bootstrap_report.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "base/system.h"
#include "base/thread_pool.h"
#include "base/worst.h"
#include "ring/kernels.h"

namespace polyveil::circuits {
namespace {

constexpr double kEscapeError = 0x1p-6;
const char* const kInputs[] = {"random", "constant", "alternating", "zero", "extreme", "sparse"};
static_assert(std::size(kInputs) == kBootstrapInputs);

std::vector<Complex> MakeInput(int kind, const BootstrapSpec& spec, std::mt19937_64& rng) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<Complex> values(size_t{1} << spec.log_period);
  for (size_t j = 0; j < values.size(); ++j) {
    const double sign = j % 2 ? -1 : 1;
    double re = 0, im = 0;
    switch (kind) {
      case 0:
        re = uniform(rng), im = uniform(rng);
        break;
      case 1:
        re = 1, im = 1;
        break;
      case 2:
        re = sign, im = -sign;
        break;
      case 3:
        break;
      case 5:  // one slot of all
        if (j == values.size() / 2) re = -1, im = 1;
        break;
      default:
        re = rng() % 2 ? 1 : -1, im = rng() % 2 ? 1 : -1;
    }
    values[j] = Complex(re, spec.complex_slots ? im : 0);
  }
  return values;
}

struct Errors {
  double worst = 0, sum = 0;
  size_t count = 0, escapes = 0;
};

void AddErrors(std::span<const Complex> expected, std::span<const Complex> got, Errors& errors) {
  for (size_t j = 0; j < got.size(); ++j) {
    const Complex d = got[j] - expected[j % expected.size()];
    const double error = Worse(std::fabs(d.real()), std::fabs(d.imag()));
    errors.worst = Worse(errors.worst, error);
    errors.sum += error;
    ++errors.count;
    errors.escapes += !(error <= kEscapeError);
  }
}

double Bits(double error) { return error > 0 ? -std::log2(error) : 53; }

size_t SeededBytes(const ckks::KeySwitchKey& key) {
  size_t bytes = sizeof(key.seed);
  for (const auto& row : key.b) bytes += row.bytes();
  return bytes;
}

void AddKeySizes(const ckks::EvaluationKeys& keys, BootstrapReport& report) {
  report.key_bytes = keys.bytes();
  keys.ForEach([&](const ckks::KeySwitchKey& key) {
    report.seeded_key_bytes += SeededBytes(key);
    ++report.key_count;
  });
}

BootstrapReport Describe(const ckks::Evaluator& evaluator, const Bootstrapper& bootstrapper) {
  const ckks::Parameters& params = evaluator.params();
  BootstrapReport report;
  report.parameters = params.Describe();
  report.insecure = params.insecure();
  report.log_n = params.log_n();
  report.log_qp = params.log_qp();
  report.log_period = bootstrapper.spec().log_period;
  report.complex_slots = bootstrapper.spec().complex_slots;
  report.output_level = bootstrapper.output_level();
  report.usable_levels = bootstrapper.output_level() - bootstrapper.input_level();
  report.threads = Threads();
  report.backend = ring::ActiveKernels().name;
  report.plaintext_bytes = bootstrapper.plaintext_bytes();
  if (evaluator.keys()) AddKeySizes(*evaluator.keys(), report);
  return report;
}

void Scale(BootstrapTimes& times, double factor) {
  for (double* step : {&times.stc, &times.mod_raise, &times.trace, &times.cts, &times.eval_mod})
    *step *= factor;
}

void AddPrecision(const Errors (&errors)[kBootstrapInputs], BootstrapReport& report) {
  double worst = 0;
  for (int kind = 0; kind < kBootstrapInputs; ++kind) {
    const Errors& e = errors[kind];
    if (e.count == 0) continue;
    report.precision.push_back({kInputs[kind], Bits(e.worst), Bits(e.sum / double(e.count))});
    report.escapes += e.escapes;
    worst = Worse(worst, e.worst);
  }
  report.worst_bits = Bits(worst);
}

}  // namespace

Result<BootstrapReport> MeasureBootstraps(const ckks::Evaluator& evaluator,
                                          const Bootstrapper& bootstrapper,
                                          const BootstrapClient& client, const BootstrapRuns& runs,
                                          Progress* progress) {
  if (runs.count < 1)
    return MakeError(ErrorCode::kInvalidArgument, "bootstrap runs = {} < 1", runs.count);
  if (runs.passes != 1 && runs.passes != 2)
    return MakeError(ErrorCode::kInvalidArgument, "bootstrap passes = {}, expected 1 or 2",
                     runs.passes);
  BootstrapReport report = Describe(evaluator, bootstrapper);
  report.runs = runs.count;
  report.passes = runs.passes;
  report.usable_levels -= runs.passes - 1;
  report.output_level -= runs.passes - 1;
  std::mt19937_64 rng(runs.seed);
  Errors errors[kBootstrapInputs];
  if (progress) progress->Start(runs.count, "bootstraps");
  for (int run = 0; run < runs.count; ++run) {
    const int kind = run % kBootstrapInputs;
    const auto values = MakeInput(kind, bootstrapper.spec(), rng);
    PV_ASSIGN_OR_RETURN(const auto x, client.encrypt(values, bootstrapper.input_level()));
    if (run == 1) report.times = {};
    PV_ASSIGN_OR_RETURN(const auto y, runs.passes == 2
                                          ? bootstrapper.BootstrapTwice(evaluator, x, &report.times)
                                          : bootstrapper.Bootstrap(evaluator, x, &report.times));
    PV_ASSIGN_OR_RETURN(const auto slots, client.decrypt(y));
    AddErrors(values, slots, errors[kind]);
    if (!progress) continue;
    progress->Advance();
    PV_RETURN_IF_ERROR(progress->Check());
  }
  Scale(report.times, 1.0 / std::max(1, runs.count - 1));
  report.seconds = report.times.total();
  AddPrecision(errors, report);
  report.peak_rss_bytes = PeakRssBytes();
  return report;
}

}  // namespace polyveil::circuits
