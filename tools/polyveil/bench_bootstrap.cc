#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "circuits/client/bootstrap_bench.h"
#include "polyveil/bench_commands.h"
#include "polyveil/progress_bar.h"
#include "polyveil/run_report.h"
#include "polyveil/terminal.h"
#include "version.h"

namespace polyveil::tools {
namespace {

using nlohmann::json;

struct BootstrapBenchArguments {
  std::string parameters = "full16", json;
  bool complex_slots = false, two_passes = false;
  int log_period = -1, runs = 3;
  u64 seed = 1;
  size_t threads = 0;
};

json ToJson(const circuits::BootstrapReport& r) {
  json precision = json::array();
  for (const auto& p : r.precision) {
    precision.push_back(
        {{"input", p.input}, {"worst_bits", p.worst_bits}, {"mean_bits", p.mean_bits}});
  }
  return {{"format", "polyveil-bench-bootstrap/1"},
          {"parameters", r.parameters},
          {"insecure", r.insecure},
          {"log_n", r.log_n},
          {"log_period", r.log_period},
          {"complex", r.complex_slots},
          {"log_qp", r.log_qp},
          {"runs", r.runs},
          {"seconds", r.seconds},
          {"steps",
           {{"slots_to_coeffs", r.times.stc},
            {"mod_raise", r.times.mod_raise},
            {"trace", r.times.trace},
            {"coeffs_to_slots", r.times.cts},
            {"eval_mod", r.times.eval_mod}}},
          {"precision", precision},
          {"worst_bits", r.worst_bits},
          {"escapes", r.escapes},
          {"output_level", r.output_level},
          {"usable_levels", r.usable_levels},
          {"threads", r.threads},
          {"backend", r.backend},
          {"key_count", r.key_count},
          {"key_bytes", r.key_bytes},
          {"seeded_key_bytes", r.seeded_key_bytes},
          {"plaintext_bytes", r.plaintext_bytes},
          {"peak_rss_bytes", r.peak_rss_bytes},
          {"passes", r.passes},
          {"create_seconds", r.create_seconds},
          {"keygen_seconds", r.keygen_seconds},
          {"cpu", CpuName()},
          {"commit", POLYVEIL_COMMIT}};
}

void Print(const circuits::BootstrapReport& r) {
  std::printf("%s\nperiod 2^%d%s%s, %zu threads, %s\n", r.parameters.c_str(), r.log_period,
              r.complex_slots ? ", complex" : "", r.passes == 2 ? ", two passes" : "", r.threads,
              r.backend.c_str());
  std::printf(
      "bootstrap        %.3f s (StC %.3f, ModRaise %.3f, trace %.3f, CtS %.3f, EvalMod %.3f)\n",
      r.seconds, r.times.stc, r.times.mod_raise, r.times.trace, r.times.cts, r.times.eval_mod);
  for (const auto& p : r.precision) {
    std::printf("  %-14s worst slot %.1f bits, mean %.1f bits\n", p.input.c_str(), p.worst_bits,
                p.mean_bits);
  }
  std::printf("worst slot       %.1f bits, %zu escapes; output level %d, %d levels usable\n",
              r.worst_bits, r.escapes, r.output_level, r.usable_levels);
  std::printf("keys             %d: %s, seeded %s, made in %.1f s; diagonals %s in %.1f s\n",
              r.key_count, Bytes(r.key_bytes).c_str(), Bytes(r.seeded_key_bytes).c_str(),
              r.keygen_seconds, Bytes(r.plaintext_bytes).c_str(), r.create_seconds);
  std::printf("peak memory      %s\n", Bytes(r.peak_rss_bytes).c_str());
}

Result<circuits::BootstrapReport> Measure(const BootstrapBenchArguments& arguments) {
  circuits::BootstrapBenchOptions options;
  PV_ASSIGN_OR_RETURN(const auto spec, ckks::FindParameters(arguments.parameters));
  PV_ASSIGN_OR_RETURN(options.params, ckks::Parameters::Create(spec));
  const int log_slots = options.params->log_slots();
  options.spec = {arguments.log_period < 0 ? log_slots : arguments.log_period,
                  arguments.complex_slots};
  options.runs = {arguments.runs, arguments.seed, arguments.two_passes ? 2 : 1};
  ProgressBar bar("bootstraps", 0);
  Progress progress([&](const ProgressReport& report) {
    bar.Update(
        report.total ? static_cast<double>(report.done) / static_cast<double>(report.total) : 0,
        report.label);
  });
  return circuits::RunBootstrapBench(options, &progress);
}

Status Run(const BootstrapBenchArguments& arguments) {
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const auto report, Measure(arguments));
  Print(report);
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, ToJson(report).dump(1) + "\n");
}

}  // namespace

Command DescribeBenchBootstrap(Options& app) {
  auto arguments = std::make_shared<BootstrapBenchArguments>();
  app.add_option("--parameters", arguments->parameters, "parameter set")->capture_default_str();
  AddNumber(app, "--log-period", arguments->log_period, {-1, 16},
            "slots repeat with period 2^k; -1 for full slots");
  app.add_flag("--complex", arguments->complex_slots, "data in both parts of the slots");
  app.add_flag("--two-passes", arguments->two_passes,
               "bootstrap the error once more: more precision, one level less");
  AddNumber(app, "--runs", arguments->runs, {1, 100000}, "bootstraps to measure");
  AddSeed(app, arguments->seed, "of the random inputs");
  AddThreads(app, arguments->threads);
  AddOutputFile(app, "--json", arguments->json, "also write the report to this file");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
