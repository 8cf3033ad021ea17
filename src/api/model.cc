#include "polyveil/model.h"

#include <algorithm>
#include <utility>

#include "ckks/parameters.h"
#include "model/client/text_loop.h"
#include "model/decoder_reference.h"
#include "model/import/decoder_files.h"
#include "polyveil/version.h"
#include "runtime/compile_model.h"
#include "serve/client/client_model.h"
#include "serve/client/simulated_text.h"
#include "serve/server/served_model.h"

namespace polyveil {
namespace {

std::string ParametersOf(const ProgramOptions& options) {
  if (!options.parameters.empty()) return options.parameters;
  return runtime::DefaultParameters({.prompts = options.prompts_at_once});
}

polyveil::Plan PlanOf(const serve::ModelInfo& info) {
  const compile::Estimate& estimate = info.estimate;
  polyveil::Plan plan;
  plan.parameters = info.security;
  plan.seconds_per_token = info.seconds_per_token();
  for (size_t i = 0; i < estimate.component_seconds.size(); ++i)
    if (estimate.component_seconds[i] > 0)
      plan.components.emplace_back(compile::ComponentName(static_cast<compile::Component>(i)),
                                   estimate.component_seconds[i]);
  plan.levels = estimate.depth_per_token;
  plan.bootstraps = estimate.bootstraps_per_token;
  plan.rotations = estimate.rotations_per_token;
  plan.key_bytes_sent = estimate.key_bytes_wire;
  plan.server_bytes = info.server_bytes();
  plan.token_bytes_up = estimate.token_bytes_up;
  plan.token_bytes_down = estimate.token_bytes_down;
  return plan;
}

}  // namespace

struct Model::Impl {
  std::shared_ptr<const model::Decoder> decoder;
  serve::ClientHalfPtr half;

  int context() const { return std::min(decoder->context, half->context()); }
};

Result<Model> Model::Load(const std::string& path, int context) {
  PV_ASSIGN_OR_RETURN(serve::ClientHalfPtr half, serve::LoadClientHalf(path));
  PV_ASSIGN_OR_RETURN(auto decoder, model::LoadDecoder(path, {.context = context}));
  return Model(std::make_shared<const Impl>(Impl{std::move(decoder), std::move(half)}));
}

std::string Model::name() const { return impl_->decoder->name; }
int Model::context() const { return impl_->context(); }
int Model::layers() const { return static_cast<int>(impl_->decoder->blocks.size()); }
int Model::width() const { return impl_->half->width(); }

Result<polyveil::Plan> Model::Plan(const ProgramOptions& options) const {
  PV_ASSIGN_OR_RETURN(const auto served, serve::ServeDecoder(impl_->decoder, ParametersOf(options),
                                                             POLYVEIL_VERSION_STRING, {},
                                                             {.prompts = options.prompts_at_once}));
  return PlanOf(served.info);
}

Result<std::string> Model::Generate(std::string_view prompt, int tokens) const {
  model::DecoderReference reference(*impl_->decoder);
  model::TextLoop loop(*impl_->half, impl_->context(), {});
  std::string text;
  const auto feed = [&](std::span<const model::TokenId> all) -> Result<std::vector<double>> {
    PV_ASSIGN_OR_RETURN(const auto embedding, impl_->half->Embed(all));
    PV_ASSIGN_OR_RETURN(const auto residual, reference.Step(embedding));
    return impl_->half->Head(residual);
  };
  PV_RETURN_IF_ERROR(loop.Continue(impl_->half->Encode(prompt), tokens, feed,
                                   [&](const model::TextStep& step) { text += step.shown; }));
  return text + loop.Finish();
}

Result<Simulation> Model::Simulate(std::string_view prompt, int tokens,
                                   const ProgramOptions& options) const {
  PV_ASSIGN_OR_RETURN(const auto spec, ckks::FindParameters(ParametersOf(options)));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  PV_ASSIGN_OR_RETURN(auto setup, serve::SetUpSimulation(impl_->half, impl_->decoder, params,
                                                         {.prompts = options.prompts_at_once}));
  PV_ASSIGN_OR_RETURN(const serve::SimulationReport report,
                      serve::SimulateText(setup, impl_->half->Encode(prompt), tokens, /*seed=*/1));
  return Simulation{report.tokens, report.equal_tokens, report.largest_logit_error};
}

}  // namespace polyveil
