#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/system.h"
#include "bench/engine_bench.h"
#include "bench/targets.h"
#include "model/bundle.h"
#include "polyveil/bench_commands.h"
#include "polyveil/model_files.h"
#include "polyveil/run_report.h"
#include "polyveil/terminal.h"
#include "runtime/compile_model.h"
#include "version.h"

namespace polyveil::tools {
namespace {

using bench::EngineReport;
using bench::Row;
using nlohmann::json;

struct EngineBenchArguments {
  std::string parameters, model, threads = "both", json;
  bool quick = false;
};

const bench::Ceilings* CeilingsOf(const EngineReport& report, size_t threads) {
  for (const auto& ceilings : report.ceilings)
    if (ceilings.threads == threads) return &ceilings;
  return nullptr;
}

// The fraction of the machine's ceiling that a row reaches; 0 where no floor is stated.
double RooflineFraction(const EngineReport& report, const Row& row) {
  const bench::Ceilings* ceilings = CeilingsOf(report, row.threads);
  if (!ceilings || row.measured.seconds <= 0) return 0;
  return bench::FloorSeconds(row.work, *ceilings) / row.measured.seconds;
}

// Seconds with one thread over seconds with the row's threads; 0 where there is no such row.
double Scaling(const EngineReport& report, const Row& row) {
  if (row.threads == 1 || row.measured.seconds <= 0) return 0;
  for (const Row& other : report.rows)
    if (other.id == row.id && other.parameters == row.parameters && other.threads == 1)
      return other.measured.seconds / row.measured.seconds;
  return 0;
}

json RowToJson(const EngineReport& report, const Row& row) {
  json out = {
      {"id", row.id},           {"name", row.name},   {"parameters", row.parameters},
      {"threads", row.threads}, {"bytes", row.bytes}, {"peak_rss_bytes", row.peak_rss_bytes}};
  if (row.measured.repetitions > 0) {
    out["seconds"] = row.measured.seconds;
    out["least_seconds"] = row.measured.least_seconds;
    out["cpu_seconds"] = row.measured.cpu_seconds;
    out["repetitions"] = row.measured.repetitions;
    out["bytes_per_second"] = row.bytes / row.measured.seconds;
  }
  if (row.work.bytes + row.work.butterflies + row.work.products > 0) {
    out["work"] = {{"butterflies", row.work.butterflies},
                   {"products", row.work.products},
                   {"bytes", row.work.bytes}};
    out["roofline_fraction"] = RooflineFraction(report, row);
  }
  if (const double scaling = Scaling(report, row); scaling > 0) out["scaling"] = scaling;
  if (!row.details.empty()) out["details"] = row.details;
  if (const auto target = bench::FindTarget(row)) {
    out["target"] = target->target;
    out["target_met"] = bench::ValueOf(row) <= target->target;
    out["target_at_clock"] = bench::TargetAtClock(row, *target, report);
    if (target->best_public > 0) out["best_public"] = target->best_public;
    out["best_public_source"] = target->source;
  }
  return out;
}

// Runnable processes of the last minute: a quiet machine has about as many as the benchmark's
// threads.
double LoadAverage() {
  double load = 0;
  return getloadavg(&load, 1) == 1 ? load : 0;
}

json ToJson(const EngineReport& report, const EngineBenchArguments& arguments, double load_before) {
  json ceilings = json::array(), rows = json::array();
  for (const auto& c : report.ceilings) {
    ceilings.push_back({{"threads", c.threads},
                        {"butterflies_per_second", c.butterflies},
                        {"products_per_second", c.products},
                        {"read_bytes_per_second", c.read_bytes}});
  }
  for (const Row& row : report.rows) rows.push_back(RowToJson(report, row));
  return {{"format", "polyveil-bench-engine/1"},
          {"commit", POLYVEIL_COMMIT},
          {"cpu", CpuName()},
          {"cpus", CpuCount()},
          {"backend", report.backend},
          {"quick", arguments.quick},
          {"load_average", {{"before", load_before}, {"after", LoadAverage()}}},
          {"parameters", report.parameters},
          {"ceilings", ceilings},
          {"rows", rows},
          {"peak_rss_bytes", PeakRssBytes()}};
}

std::string FormatValue(const Row& row, double value) {
  if (row.measured.repetitions == 0) return FormatBytes(value);
  if (value < 1e-3) return fmt::format("{:.1f} us", 1e6 * value);
  if (value < 1) return fmt::format("{:.2f} ms", 1e3 * value);
  return fmt::format("{:.3f} s", value);
}

std::string RowLine(const EngineReport& report, const Row& row) {
  std::string line = fmt::format("{:<44}{:>3}{:>12}", row.name, row.threads,
                                 FormatValue(row, bench::ValueOf(row)));
  const double fraction = RooflineFraction(report, row);
  line += fraction > 0 ? fmt::format("{:>7.0f}%", 100 * fraction) : std::string(8, ' ');
  const auto target = bench::FindTarget(row);
  if (!target) return line + "\n";
  const double value = bench::ValueOf(row), at_clock = bench::TargetAtClock(row, *target, report);
  line +=
      fmt::format("{:>12}{:>12}{:>9}", FormatValue(row, target->target), FormatValue(row, at_clock),
                  value <= target->target ? "met"
                  : value <= at_clock     ? "at clock"
                                          : "missed");
  if (target->best_public > 0)
    line += fmt::format("{:>12}  {}", FormatValue(row, target->best_public), target->source);
  return line + "\n";
}

std::string ToText(const EngineReport& report) {
  std::string text;
  for (const std::string& parameters : report.parameters) text += parameters + "\n";
  text += fmt::format("{}, backend {}\n", CpuName(), report.backend);
  for (const auto& c : report.ceilings) {
    text += fmt::format(
        "ceilings, {} threads: {:.2f} G butterflies/s, {:.2f} G products/s, {:.1f} GB/s read\n",
        c.threads, c.butterflies / 1e9, c.products / 1e9, c.read_bytes / 1e9);
  }
  text += fmt::format("{:<44}{:>3}{:>12}{:>8}{:>12}{:>12}{:>9}{:>12}\n", "", "thr", "median",
                      "of roof", "target", "at clock", "", "public");
  for (const Row& row : report.rows) {
    text += RowLine(report, row);
    if (!row.details.contains("worst_bits")) continue;
    text += fmt::format("  worst slot {:.1f} bits (predicted {:.1f}), {} levels, keys {}\n",
                        row.details.at("worst_bits"), row.details.at("predicted_worst_bits"),
                        row.details.at("usable_levels"), FormatBytes(row.details.at("key_bytes")));
  }
  return text + fmt::format("peak memory {}\n", Bytes(PeakRssBytes()));
}

Result<bench::EngineBenchOptions> MakeOptions(const EngineBenchArguments& arguments) {
  bench::EngineBenchOptions options;
  std::vector<std::string> names = {"fast16", "decode16", "sparse16", "full16"};
  if (!arguments.parameters.empty()) names = {arguments.parameters};
  for (const std::string& name : names) {
    PV_ASSIGN_OR_RETURN(const auto spec, ckks::FindParameters(name));
    PV_ASSIGN_OR_RETURN(options.parameters.emplace_back(), ckks::Parameters::Create(spec));
  }
  if (arguments.threads == "1") options.threads = {1};
  if (arguments.threads == "2") options.threads = {2};
  options.quick = arguments.quick;
  options.on_row = [](const std::string& what) { std::fprintf(stderr, "%s\n", what.c_str()); };
  const auto demo = std::find(names.begin(), names.end(), "decode16");
  if (demo == names.end()) return options;  // the demo's program is compiled for that set
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(arguments.model));
  PV_ASSIGN_OR_RETURN(auto body, model::LoadBodyBundle(directory));
  PV_ASSIGN_OR_RETURN(
      options.model,
      runtime::CompileModel(
          std::make_shared<const model::Decoder>(model::DecoderOfBundle(std::move(body))),
          options.parameters[demo - names.begin()], compile::MachineSpeed{}));
  return options;
}

Status Run(const EngineBenchArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const auto options, MakeOptions(arguments));
  const double load_before = LoadAverage();
  PV_ASSIGN_OR_RETURN(const EngineReport report, bench::RunEngineBench(options));
  std::fputs(ToText(report).c_str(), stdout);
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, ToJson(report, arguments, load_before).dump(1) + "\n");
}

}  // namespace

Command DescribeBenchEngine(Options& app) {
  auto arguments = std::make_shared<EngineBenchArguments>();
  app.add_option("--parameters", arguments->parameters,
                 "one parameter set (default: fast16, decode16, sparse16 and full16)");
  app.add_option("--threads", arguments->threads, "1, 2 or both")
      ->capture_default_str()
      ->one_of({"1", "2", "both"});
  AddModel(app, arguments->model, "bundle whose keys are measured (default: the embedded model)");
  app.add_flag("--quick", arguments->quick,
               "few repetitions, one sparse bootstrap, no key generation");
  AddOutputFile(app, "--json", arguments->json, "also write the report to this file");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
