// Bootstraps: seconds at every number of threads, then precision, levels and sizes.
#include <random>

#include "base/buffer.h"
#include "base/thread_pool.h"
#include "bench/bootstrap_setup.h"
#include "bench/sections.h"
#include "circuits/bootstrap_noise.h"

namespace polyveil::bench {
namespace {

struct Case {
  std::string id, name;
  int log_period;
};

// By what the set is for: full slots with three StC levels, sparse vectors of several periods with
// two, the demo's with one.
std::vector<Case> CasesOf(const ckks::Parameters& params, bool quick) {
  const int stc_levels = params.LevelsWithRole(ckks::LevelRole::kSlotsToCoeffs);
  const int log_slots = params.log_slots();
  if (stc_levels >= 3) {
    if (quick) return {};
    return {{"bootstrap_full", "full bootstrap, real slots", log_slots}};
  }
  if (stc_levels == 1)
    return {{"bootstrap_demo", "the demo's bootstrap, 2^7 values", std::min(7, log_slots)}};
  std::vector<Case> cases;
  for (const int period : {7, 10}) {
    const int log_period = std::min(period, log_slots);
    cases.push_back({fmt::format("bootstrap_sparse_{}", period),
                     fmt::format("sparse bootstrap, 2^{} values", log_period), log_period});
    if (quick) break;
  }
  return cases;
}

std::vector<ckks::Complex> RandomValues(int log_period) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<ckks::Complex> values(size_t{1} << log_period);
  for (auto& value : values) value = uniform(random);
  return values;
}

double Bits(double error) { return error > 0 ? -std::log2(error) : 53; }

Status AddEstimate(const ckks::Parameters& params, const circuits::BootstrapSpec& spec, Row& row) {
  const ckks::NoiseEstimator estimator(params);
  const double input = estimator.Encrypt(params.scale(params.bootstrap_level()));
  PV_ASSIGN_OR_RETURN(const auto noise, circuits::EstimateBootstrap(estimator, spec, input));
  row.details["predicted_worst_bits"] = Bits(noise.worst);
  row.details["predicted_rms_bits"] = Bits(noise.rms);
  return {};
}

void AddReport(const circuits::BootstrapReport& report, Row& row) {
  row.details["worst_bits"] = report.worst_bits;
  row.details["escapes"] = static_cast<double>(report.escapes);
  row.details["usable_levels"] = report.usable_levels;
  row.details["key_bytes"] = static_cast<double>(report.key_bytes);
  row.details["seeded_key_bytes"] = static_cast<double>(report.seeded_key_bytes);
  row.details["key_count"] = report.key_count;
  row.details["plaintext_bytes"] = static_cast<double>(report.plaintext_bytes);
  row.details["keygen_seconds"] = report.keygen_seconds;
  row.details["create_seconds"] = report.create_seconds;
  row.bytes = static_cast<double>(report.key_bytes + report.plaintext_bytes);
}

void AddSteps(const circuits::BootstrapTimes& times, double count, Row& row) {
  row.details["stc_seconds"] = times.stc / count;
  row.details["mod_raise_seconds"] = times.mod_raise / count;
  row.details["trace_seconds"] = times.trace / count;
  row.details["cts_seconds"] = times.cts / count;
  row.details["eval_mod_seconds"] = times.eval_mod / count;
}

Status TimeBootstrap(const Section& section, const BootstrapSetup& setup,
                     const ckks::Ciphertext& input, Row& row) {
  Status status;
  circuits::BootstrapTimes times;
  row.measured = Measure(section.options().quick ? 1 : 5, 1, [&] {
    const auto result = setup.bootstrapper->Bootstrap(setup.evaluator, input, &times);
    if (!result.ok()) status = result.error();
  });
  AddSteps(times, row.measured.repetitions + 1, row);  // the warm-up is among them
  return status;
}

Status MeasureCase(const Section& section, const ckks::ParametersPtr& params, const Case& what) {
  const circuits::BootstrapSpec spec{what.log_period, false};
  SetThreads(section.options().threads.back());
  PV_RETURN_IF_ERROR(section.Begin(what.name + ", keys"));
  PV_ASSIGN_OR_RETURN(const auto setup, BootstrapSetup::Create(params, spec));
  PV_RETURN_IF_ERROR(section.Begin(what.name + ", precision"));
  const int runs = section.options().quick ? 1 : circuits::kBootstrapInputs;
  PV_ASSIGN_OR_RETURN(const auto report, setup->Measure({.count = runs}));
  PV_ASSIGN_OR_RETURN(const auto input,
                      setup->Encrypt(RandomValues(what.log_period), params->bootstrap_level()));
  for (const size_t threads : section.options().threads) {
    SetThreads(threads);
    PV_RETURN_IF_ERROR(section.Begin(fmt::format("{}, {} threads", what.name, threads)));
    Row row;
    row.id = what.id;
    row.name = what.name;
    row.parameters = params->spec().name;
    AddReport(report, row);
    PV_RETURN_IF_ERROR(AddEstimate(*params, spec, row));
    PV_RETURN_IF_ERROR(TimeBootstrap(section, *setup, input, row));
    section.Add(std::move(row));
  }
  return {};
}

}  // namespace

Status MeasureBootstrapRows(const Section& section, const ckks::ParametersPtr& params) {
  for (const Case& what : CasesOf(*params, section.options().quick)) {
    PV_RETURN_IF_ERROR(MeasureCase(section, params, what));
    buffer_pool::Trim();  // its keys
  }
  return {};
}

}  // namespace polyveil::bench
