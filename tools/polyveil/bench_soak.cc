// Bootstraps over all kinds of input until the time is up. One set of keys; new inputs every round.
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "base/worst.h"
#include "bench/bootstrap_setup.h"
#include "polyveil/bench_commands.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"
#include "version.h"

namespace polyveil::tools {
namespace {

constexpr unsigned kRoundSeconds = 30;

struct SoakBenchArguments {
  std::string parameters = "decode16", json;
  bool complex_slots = false;
  int log_period = 7;
  double seconds = 60;
  u64 seed = 1;
  size_t threads = 0;
};

struct Soak {
  std::string parameters;
  int bootstraps = 0;
  double seconds = 0, worst_bits = 53, slots = 0;
  size_t escapes = 0;
  std::map<std::string, double> worst_bits_by_input;

  void Add(const circuits::BootstrapReport& round) {
    bootstraps += round.runs;
    escapes += round.escapes;
    worst_bits = WorseMargin(worst_bits, round.worst_bits);
    slots += static_cast<double>(round.runs) * std::ldexp(1.0, round.log_n - 1);
    for (const auto& p : round.precision) {
      const auto [entry, added] = worst_bits_by_input.try_emplace(p.input, p.worst_bits);
      entry->second = WorseMargin(entry->second, p.worst_bits);
    }
  }
};

Result<Soak> Measure(const SoakBenchArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const auto spec, ckks::FindParameters(arguments.parameters));
  PV_ASSIGN_OR_RETURN(const auto params, ckks::Parameters::Create(spec));
  const circuits::BootstrapSpec bootstrap{
      arguments.log_period < 0 ? params->log_slots() : arguments.log_period,
      arguments.complex_slots};
  ProgressBar bar("soak", arguments.seconds);
  bar.Update(0, "keys");
  PV_ASSIGN_OR_RETURN(const auto setup, bench::BootstrapSetup::Create(params, bootstrap));
  Soak soak;
  soak.parameters = params->Describe();
  const Timer timer;
  for (u64 round = 0; timer.Seconds() < arguments.seconds && !Interrupted(); ++round) {
    PV_ASSIGN_OR_RETURN(const auto report, setup->Measure({.count = circuits::kBootstrapInputs,
                                                           .seed = arguments.seed + round}));
    soak.Add(report);
    bar.Update(std::min(1.0, timer.Seconds() / arguments.seconds),
               fmt::format("{} bootstraps, worst {:.1f} bits", soak.bootstraps, soak.worst_bits));
  }
  soak.seconds = timer.Seconds();
  return soak;
}

void Print(const Soak& soak) {
  std::printf("%s\n%d bootstraps of %.3g slots in all, %.1f s: worst slot %.2f bits, %zu escapes\n",
              soak.parameters.c_str(), soak.bootstraps, soak.slots, soak.seconds, soak.worst_bits,
              soak.escapes);
  for (const auto& [input, bits] : soak.worst_bits_by_input)
    std::printf("  %-14s worst slot %.2f bits\n", input.c_str(), bits);
}

nlohmann::json ToJson(const SoakBenchArguments& arguments, const Soak& soak) {
  return {{"format", "polyveil-bench-soak/1"},
          {"parameters", soak.parameters},
          {"log_period", arguments.log_period},
          {"complex", arguments.complex_slots},
          {"seed", arguments.seed},
          {"bootstraps", soak.bootstraps},
          {"slots", soak.slots},
          {"seconds", soak.seconds},
          {"worst_bits", soak.worst_bits},
          {"worst_bits_by_input", soak.worst_bits_by_input},
          {"escapes", soak.escapes},
          {"commit", POLYVEIL_COMMIT}};
}

Status Run(const SoakBenchArguments& arguments) {
  SetThreads(arguments.threads);
  const OrderlyEnd end(kRoundSeconds);  // what was measured until then is told
  PV_ASSIGN_OR_RETURN(const Soak soak, Measure(arguments));
  Print(soak);
  if (!arguments.json.empty())
    PV_RETURN_IF_ERROR(WriteFile(arguments.json, ToJson(arguments, soak).dump(1) + "\n"));
  if (soak.escapes == 0 && Interrupted())
    return MakeError(ErrorCode::kCancelled, "interrupted after {} bootstraps", soak.bootstraps);
  if (soak.escapes == 0) return {};
  return MakeError(ErrorCode::kOutOfRange, "soak: {} slots escaped in {} bootstraps", soak.escapes,
                   soak.bootstraps);
}

}  // namespace

Command DescribeBenchSoak(Options& app) {
  auto arguments = std::make_shared<SoakBenchArguments>();
  app.add_option("--parameters", arguments->parameters, "parameter set")->capture_default_str();
  AddNumber(app, "--seconds", arguments->seconds, {0, 1e7}, "how long");
  AddNumber(app, "--log-period", arguments->log_period, {-1, 16},
            "slots repeat with period 2^k; -1 for full slots");
  app.add_flag("--complex", arguments->complex_slots, "data in both parts of the slots");
  AddSeed(app, arguments->seed, "of the random inputs");
  AddThreads(app, arguments->threads);
  AddOutputFile(app, "--json", arguments->json, "also write the report to this file");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
