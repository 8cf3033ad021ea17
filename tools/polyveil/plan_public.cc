#include "polyveil/plan_public.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/thread_pool.h"
#include "model/public_context.h"
#include "polyveil/terminal.h"
#include "runtime/compile_model.h"

namespace polyveil::tools {
namespace {

struct Row {
  const char* name;
  const char* field;
  int context, known;
};

}  // namespace

Result<nlohmann::json> PlanPublic(const model::Decoder& decoder, const ckks::ParametersPtr& params,
                                  int tokens) {
  PV_RETURN_IF_ERROR(model::CheckPublicTokens(tokens, decoder.context));
  const auto speed = compile::MeasureMachineSpeed(params->log_n(), static_cast<int>(Threads()));
  const int encrypted = decoder.context - tokens;
  const size_t bytes = model::PublicContextBytes(decoder, tokens);
  std::printf(
      "public context of %d tokens and %d encrypted ones behind it; %s of keys and values\n",
      tokens, encrypted, FormatBytes(static_cast<double>(bytes)).c_str());
  std::printf("  %-34s%12s%8s%12s%16s\n", "", "s a token", "ratio", "keys", "first token");
  nlohmann::json json = {{"tokens", tokens}, {"encrypted", encrypted}, {"bytes", bytes}};
  double alone = 0;
  for (const Row& row : {Row{"the encrypted ones alone", "alone", encrypted, 0},
                         Row{"public keys in the caches", "in_caches", decoder.context, 0},
                         Row{"public keys as matrices", "as_matrices", decoder.context, tokens}}) {
    auto sized = std::make_shared<model::Decoder>(decoder);
    sized->context = row.context;
    PV_ASSIGN_OR_RETURN(const auto program, runtime::CompileModel(sized, params, speed, row.known));
    const compile::Estimate& e = program->estimate();
    if (alone == 0) alone = e.seconds_per_token;
    std::printf("  %-34s%12.2f%8.3f%12s%16s\n", row.name, e.seconds_per_token,
                e.seconds_per_token / alone,
                FormatBytes(static_cast<double>(e.key_bytes_wire)).c_str(),
                FormatSeconds(e.seconds_per_token).c_str());
    json[row.field] = {{"seconds_per_token", e.seconds_per_token},
                       {"ratio", e.seconds_per_token / alone},
                       {"key_bytes_wire", e.key_bytes_wire}};
    if (row.known == 0 && row.context == decoder.context)
      std::printf("  %-34s%12.2f%8.3f%12s%16s\n", "all encrypted", e.seconds_per_token,
                  e.seconds_per_token / alone,
                  FormatBytes(static_cast<double>(e.key_bytes_wire)).c_str(),
                  FormatSeconds(e.seconds_per_token * (tokens + 1)).c_str());
  }
  return json;
}

}  // namespace polyveil::tools
