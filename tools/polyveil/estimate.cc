// polyveil estimate: what a released model, or its shape, would cost on ciphertexts.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "model/known_shapes.h"
#include "polyveil/block_text.h"
#include "polyveil/commands.h"
#include "polyveil/run_report.h"
#include "polyveil/terminal.h"
#include "runtime/compile_model.h"
#include "version.h"

namespace polyveil::tools {
namespace {

struct Arguments {
  std::string model, parameters = "decode16", json_file;
  int context = 128;
  BlockDegrees degrees;
  size_t threads = 0;
};

void PrintComponents(const compile::CompiledDecoder& program) {
  const compile::Estimate& e = program.estimate();
  const double layers = static_cast<double>(program.decoder().blocks.size());
  std::printf("%-24s%12s%12s\n", "seconds a token", "a layer", "in all");
  for (size_t i = 0; i < e.component_seconds.size(); ++i) {
    if (e.component_seconds[i] == 0) continue;
    std::printf("  %-22s%12.3f%12.1f\n", compile::ComponentName(static_cast<compile::Component>(i)),
                e.component_seconds[i] / layers, e.component_seconds[i]);
  }
  std::printf("  %-22s%12.3f%12.1f\n", "total", e.seconds_per_token / layers, e.seconds_per_token);
  const auto bytes = [](size_t value) { return FormatBytes(static_cast<double>(value)); };
  std::printf("server       about %s with expanded keys, %s with compact ones (+%s a token)\n",
              bytes(e.server_bytes).c_str(),
              bytes(e.server_bytes - e.key_bytes_memory + e.key_bytes_compact).c_str(),
              FormatSeconds(e.compact_seconds).c_str());
  std::printf("token        %s up, %s down\n", bytes(e.token_bytes_up).c_str(),
              bytes(e.token_bytes_down).c_str());
}

Status Run(const Arguments& arguments) {
  SetThreads(arguments.threads);
  Timer timer;
  PV_ASSIGN_OR_RETURN(BlockModel blocks, DescribeBlocks(arguments.model, arguments.degrees));
  PV_ASSIGN_OR_RETURN(const auto spec, ckks::FindParameters(arguments.parameters));
  PV_ASSIGN_OR_RETURN(const auto params, ckks::Parameters::Create(spec));
  const auto speed = compile::MeasureMachineSpeed(params->log_n(), static_cast<int>(Threads()));
  const auto decoder = std::make_shared<const model::Decoder>(
      model::Decoder{blocks.name, "", std::move(blocks.blocks), arguments.context, 1});
  PV_ASSIGN_OR_RETURN(const auto program, runtime::CompileModel(decoder, params, speed));
  std::printf(
      "model        %s: %.3g million parameters, %zu layers; the client keeps embedding and "
      "head\n%s\n",
      blocks.name.c_str(), static_cast<double>(blocks.parameters) / 1e6,
      program->decoder().blocks.size(), params->Describe().c_str());
  std::printf("%s", EstimateToText(*program).c_str());
  PrintComponents(*program);
  std::printf("compiled     in %s, peak memory %s, %zu threads, %s\n",
              FormatSeconds(timer.Seconds()).c_str(),
              FormatBytes(static_cast<double>(PeakRssBytes())).c_str(), Threads(),
              CpuName().c_str());
  if (arguments.json_file.empty()) return {};
  nlohmann::json json = EstimateToJson(*program);
  json["format"] = "polyveil-estimate/1";
  json["model"] = blocks.name;
  json["parameters"] = params->Describe();
  json["model_parameters"] = blocks.parameters;
  json["threads"] = Threads();
  json["cpu"] = CpuName();
  json["commit"] = POLYVEIL_COMMIT;
  return WriteFile(arguments.json_file, json.dump(1) + "\n");
}

}  // namespace

Command DescribeEstimate(Options& app) {
  auto arguments = std::make_shared<Arguments>();
  std::string names;
  for (const std::string& name : model::ModelShapeNames()) names += " " + name;
  app.description(
      "Compiles every block of a released decoder to an encrypted program and says what a token\n"
      "would cost: levels, bootstraps, keys, memory, time by component. Nothing is encrypted;\n"
      "a layer's weights are read only where it has biases.\nShapes:" +
      names);
  app.add_option("model", arguments->model, "folder, *.gguf, or the name of a shape")->required();
  app.add_option("--parameters", arguments->parameters, "parameter set")->capture_default_str();
  AddNumber(app, "--context", arguments->context, {1, 1 << 16},
            "tokens that the key-value cache has room for");
  AddDegrees(app, arguments->degrees);
  AddThreads(app, arguments->threads, "the estimate");
  AddOutputFile(app, "--json", arguments->json_file, "also write the estimate to this file");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
