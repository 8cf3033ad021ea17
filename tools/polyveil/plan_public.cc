#include "polyveil/plan_public.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/thread_pool.h"
#include "polyveil/terminal.h"
#include "runtime/compile_model.h"

namespace polyveil::tools {
namespace {

using compile::Estimate;

Result<Estimate> EstimateOf(const serve::ServedModel& served, const compile::MachineSpeed& speed,
                            int context, int known) {
  auto sized = std::make_shared<model::Decoder>(*served.decoder);
  sized->context = context;
  PV_ASSIGN_OR_RETURN(const auto program, runtime::CompileModel(sized, served.model->params(),
                                                                speed, {.known = known}));
  return program->estimate();
}

}  // namespace

Result<nlohmann::json> PlanPublic(const serve::ServedModel& served, int tokens) {
  const int context = served.decoder->context, encrypted = context - tokens;
  PV_RETURN_IF_ERROR(model::CheckPublicTokens(tokens, context));
  const ckks::Parameters& params = *served.model->params();
  const auto speed = compile::MeasureMachineSpeed(params.log_n(), static_cast<int>(Threads()));
  PV_ASSIGN_OR_RETURN(const Estimate alone, EstimateOf(served, speed, encrypted, 0));
  PV_ASSIGN_OR_RETURN(const Estimate matrices, EstimateOf(served, speed, context, tokens));
  const size_t bytes = model::PublicContextBytes(*served.decoder, tokens);
  std::printf(
      "public context of %d tokens and %d encrypted ones behind it; %s of keys and values\n",
      tokens, encrypted, Bytes(bytes).c_str());
  std::printf("  %-30s%12s%8s%12s%16s\n", "", "a token", "ratio", "keys up", "first token");
  nlohmann::json json = {{"tokens", tokens}, {"encrypted", encrypted}, {"bytes", bytes}};
  const auto row = [&](const char* name, const char* field, const Estimate& e, int steps) {
    const double ratio = e.seconds_per_token / alone.seconds_per_token;
    std::printf("  %-30s%12s%8.3f%12s%16s\n", name, FormatSeconds(e.seconds_per_token).c_str(),
                ratio, Bytes(e.key_bytes_wire).c_str(),
                FormatSeconds(steps * e.seconds_per_token).c_str());
    json[field] = {{"seconds_per_token", e.seconds_per_token},
                   {"ratio", ratio},
                   {"key_bytes_wire", e.key_bytes_wire},
                   {"first_token_seconds", steps * e.seconds_per_token}};
  };
  row("the encrypted ones alone", "alone", alone, 1);
  row("public keys as matrices", "as_matrices", matrices, 1);
  row("public keys in the caches", "in_caches", served.info.estimate, 1);
  row("all encrypted", "all_encrypted", served.info.estimate, tokens + 1);
  return json;
}

}  // namespace polyveil::tools
