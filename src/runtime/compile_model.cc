#include "runtime/compile_model.h"

#include <utility>

#include "circuits/bootstrapper.h"
#include "circuits/linear_transform.h"

namespace polyveil::runtime {
namespace {

ckks::KeyRequest LinearKeys(const ckks::Parameters& params, const compile::LinearMap& map,
                            int level) {
  circuits::DiagonalMatrix shape{params.log_slots(), {}};
  for (const int rotation : map.Rotations()) shape.diagonals[rotation];
  ckks::KeyRequest request;
  circuits::LinearTransform::AddKeys(request, params, shape, level, map.baby_steps);
  return request;
}

}  // namespace

compile::CircuitKeys MakeCircuitKeys(const ckks::ParametersPtr& params) {
  return {
      [params](int log_period, bool real) {
        return circuits::Bootstrapper::Keys(*params, circuits::BootstrapSpec{log_period, !real});
      },
      [params](const compile::LinearMap& map, int level) {
        return LinearKeys(*params, map, level);
      }};
}

const char* DefaultParameters(const compile::DecoderPrograms& programs, bool causal) {
  return programs.prompts || !causal ? "prompt16" : "decode16";
}

Result<std::shared_ptr<const compile::CompiledDecoder>> CompileModel(
    std::shared_ptr<const model::Decoder> decoder, ckks::ParametersPtr params,
    const compile::MachineSpeed& speed, const compile::DecoderPrograms& programs) {
  const compile::CircuitKeys keys = MakeCircuitKeys(params);
  return compile::CompiledDecoder::Create(std::move(decoder), std::move(params), speed, keys,
                                          programs);
}

}  // namespace polyveil::runtime
