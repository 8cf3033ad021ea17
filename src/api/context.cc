#include "api/context.h"

#include <bit>
#include <limits>
#include <utility>

#include "backend/backends.h"
#include "ckks/key_plan.h"

namespace polyveil {
namespace {

constexpr int kMaxThreads = 1024;

Result<circuits::BootstrapSpec> SpecOf(const ckks::Parameters& params,
                                       const ContextOptions& options) {
  const int period = options.bootstrap_period == 0 ? params.slots() : options.bootstrap_period;
  if (period < 1 || period > params.slots() || !std::has_single_bit(static_cast<unsigned>(period)))
    return MakeError(ErrorCode::kInvalidArgument,
                     "bootstrap_period = {} is no power of two of 1..{}", period, params.slots());
  return circuits::BootstrapSpec{std::countr_zero(static_cast<unsigned>(period)),
                                 options.complex_bootstraps};
}

}  // namespace

Result<const circuits::Bootstrapper*> Context::Impl::bootstrapper() const {
  const std::lock_guard lock(mutex);
  if (!made) {
    const UsePool scope(pool.get());
    PV_ASSIGN_OR_RETURN(auto value, circuits::Bootstrapper::Create(params, encoder, bootstraps));
    made.emplace(std::move(value));
  }
  return &*made;
}

Result<int> Context::Impl::LevelOf(int level) const {
  if (level == -1) return params->working_level();
  if (level < 0 || level > params->working_level())
    return MakeError(ErrorCode::kOutOfRange, "level = {} outside 0..{}", level,
                     params->working_level());
  return level;
}

Result<Context> Context::Create(const ContextOptions& options) {
  PV_RETURN_IF_ERROR(backend::CheckVariable());
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(options.parameters));
  if (spec.insecure_for_tests && !options.allow_insecure)
    return MakeError(ErrorCode::kSecurity, "parameters \"{}\" are for tests only: allow_insecure",
                     options.parameters);
  if (options.threads < 0 || options.threads > kMaxThreads)
    return MakeError(ErrorCode::kInvalidArgument, "threads = {} outside 0..{}", options.threads,
                     kMaxThreads);
  PV_ASSIGN_OR_RETURN(ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  PV_ASSIGN_OR_RETURN(const circuits::BootstrapSpec bootstraps, SpecOf(*params, options));
  auto pool = options.threads == 0
                  ? nullptr
                  : std::make_unique<ThreadPool>(static_cast<size_t>(options.threads));
  ckks::Encoder encoder(params);
  return Context(std::shared_ptr<const Impl>(
      new Impl{std::move(params), std::move(encoder), bootstraps, std::move(pool), {}, {}}));
}

std::vector<std::string> Context::ParameterNames() { return ckks::ParameterNames(); }
int Context::slots() const { return impl_->params->slots(); }
int Context::fresh_level() const { return impl_->params->working_level(); }
int Context::bootstrap_level() const { return impl_->params->bootstrap_level(); }
std::string Context::Describe() const { return impl_->params->Describe(); }

Result<ckks::KeyRequest> RequestOf(const Context::Impl& context, const KeyNeeds& needs) {
  const ckks::Parameters& params = *context.params;
  ckks::KeyRequest request;
  request.AddRelinearization(params.working_level());
  for (const int rotation : needs.rotations)
    request.AddRotation(rotation, params.slots(), params.working_level());
  if (needs.conjugation) request.AddConjugation(params.working_level());
  for (const LinearTransform& transform : needs.transforms) {
    if (transform.impl().context->params->digest() != params.digest())
      return MakeError(ErrorCode::kMismatch, "needs.transforms: of {}, the key's parameters are {}",
                       transform.impl().context->params->spec().name, params.spec().name);
    transform.impl().value.AddKeys(request, params.slots());
  }
  if (needs.bootstrapping) {
    PV_ASSIGN_OR_RETURN(const ckks::KeyRequest keys,
                        circuits::Bootstrapper::Keys(params, context.bootstraps));
    request.Merge(keys);
  }
  return ckks::PlanKeys(params, request);
}

}  // namespace polyveil
