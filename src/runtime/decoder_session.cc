#include "runtime/decoder_session.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/buffer.h"
#include "base/system.h"
#include "runtime/engine_machine.h"
#include "runtime/interpreter.h"
#include "runtime/step_listener.h"

namespace polyveil::runtime {

namespace {

constexpr double kScaleTolerance = 1e-6;  // relative; the wire carries exact doubles

}  // namespace

Status CheckInput(const compile::CompiledProgram& model, const ckks::Ciphertext& token) {
  if (token.degree() != 1) {
    return MakeError(ErrorCode::kMismatch, "token.degree = {} != 1", token.degree());
  }
  if (token.level != model.input_level()) {
    return MakeError(ErrorCode::kMismatch, "token.level = {} != {}, the program's", token.level,
                     model.input_level());
  }
  const double scale = model.params()->scale(token.level);
  if (!(std::abs(token.scale / scale - 1) < kScaleTolerance)) {
    return MakeError(ErrorCode::kMismatch, "token.scale = {} != {}, the level's", token.scale,
                     scale);
  }
  return {};
}

Engine::~Engine() = default;

Result<std::shared_ptr<const Engine>> Engine::Create(
    std::shared_ptr<WeightStore> weights, std::shared_ptr<const ckks::EvaluationKeys> keys,
    std::shared_ptr<const compile::CompiledProgram> program) {
  const auto model = program ? program : weights->program();
  const ckks::ParametersPtr& params = model->params();
  PV_RETURN_IF_ERROR(keys->Covers(*params, model->keys()));
  PV_ASSIGN_OR_RETURN(compile::Graph graph, model->Program(0));
  auto parts = std::make_unique<EngineParts>(EngineParts{
      model, keys, weights, weights->encoder(), ckks::Evaluator(params, keys.get()), {}});
  for (const compile::Node& node : graph.nodes) {
    const circuits::BootstrapSpec spec{node.log_period, !node.real};
    if (node.kind != compile::OpKind::kBootstrap || parts->bootstrappers.contains(spec)) continue;
    PV_ASSIGN_OR_RETURN(parts->bootstrappers[spec], weights->BootstrapperOf(spec));
  }
  std::shared_ptr<Engine> engine(new Engine);
  engine->parts_ = std::move(parts);
  return std::shared_ptr<const Engine>(std::move(engine));
}

void Engine::Report(MemoryReport& report) const {
  parts_->keys->Report(report);
  report.Add("permutation tables", parts_->evaluator.permutation_bytes(), /*pooled=*/false);
}

Result<ckks::Ciphertext> DecoderSession::Step(const ckks::Ciphertext& token,
                                              const StepOptions& options) {
  const EngineParts& parts = engine_->parts();
  if (!parts.model->keeps_caches())
    return MakeError(ErrorCode::kInvalidArgument, "a step of an encoder, which reads whole texts");
  PV_RETURN_IF_ERROR(CheckInput(*parts.model, token));
  PV_ASSIGN_OR_RETURN(compile::Graph graph, parts.model->Program(position_, known_));
  if (!started_) PV_RETURN_IF_ERROR(Start(graph));
  PV_ASSIGN_OR_RETURN(auto results, Run(parts, graph, {&token, 1}, position_ + 1, options));
  return std::move(results.front());
}

Result<std::vector<ckks::Ciphertext>> DecoderSession::Read(const Engine& prompt,
                                                           std::span<const ckks::Ciphertext> tokens,
                                                           int count, const StepOptions& options,
                                                           std::span<const int> texts) {
  if (position_ != 0 || known_)
    return MakeError(ErrorCode::kInvalidArgument,
                     "a prompt at once at position {}, behind {} public tokens: the text has begun",
                     position_, known_ ? known_->tokens : 0);
  const EngineParts& parts = prompt.parts();
  for (const ckks::Ciphertext& one : tokens) PV_RETURN_IF_ERROR(CheckInput(*parts.model, one));
  PV_ASSIGN_OR_RETURN(compile::Graph graph, parts.model->Program(count - 1, nullptr, texts));
  if (tokens.size() != graph.outputs.size())
    return MakeError(ErrorCode::kMismatch, "{} tokens in {} ciphertexts, the program reads {}",
                     count, tokens.size(), graph.outputs.size());
  started_ = true;
  return Run(parts, graph, tokens, count, options);
}

// The state is the program's afterwards, the position `position`.
Result<std::vector<ckks::Ciphertext>> DecoderSession::Run(const EngineParts& parts,
                                                          const compile::Graph& graph,
                                                          std::span<const ckks::Ciphertext> inputs,
                                                          int position,
                                                          const StepOptions& options) {
  Timer timer;
  const buffer_pool::KeepFree keep;  // bands of a prompt hold gigabytes that the next ones need
  EngineMachine machine(parts, options.latency);
  StepListener listener(*parts.model, graph, options);
  Interpreter<EngineMachine, StepListener> interpreter(machine, listener);
  PV_ASSIGN_OR_RETURN(auto result, interpreter.Run(graph, inputs, state_));
  if (parts.model->keeps_caches()) {
    previous_state_ = std::exchange(state_, std::move(result.state));
    can_undo_ = true;
    previous_position_ = std::exchange(position_, position);
  }
  if (options.latency != nullptr) options.latency->FinishStep(timer.Seconds());
  return std::move(result.outputs);
}

Status DecoderSession::Start(const compile::Graph& graph) {
  const EngineParts& parts = engine_->parts();
  PV_ASSIGN_OR_RETURN(const auto known, parts.model->KnownStates(known_.get()));
  const bool any = std::ranges::any_of(known, [](const auto& slots) { return !slots.empty(); });
  std::vector<ckks::Ciphertext> state(any ? known.size() : 0);
  EngineMachine machine(parts, nullptr);
  for (const compile::Node& node : graph.nodes) {
    if (!any || node.kind != compile::OpKind::kState) continue;
    const auto at = static_cast<size_t>(node.state);
    PV_ASSIGN_OR_RETURN(state[at], machine.Trivial(known[at], node.level));
  }
  state_ = std::move(state);
  if (!parts.model->reads_known()) known_.reset();
  started_ = true;
  return {};
}

bool DecoderSession::UndoStep() {
  if (!can_undo_) return false;
  state_ = std::move(previous_state_);
  previous_state_.clear();
  can_undo_ = false;
  position_ = previous_position_;
  return true;
}

void DecoderSession::Restore(State now, std::optional<State> previous) {
  state_ = std::move(now.values);
  position_ = now.position;
  can_undo_ = previous.has_value();
  if (previous) {
    previous_state_ = std::move(previous->values);
    previous_position_ = previous->position;
  }
  started_ = true;
  if (!engine_->parts().model->reads_known()) known_.reset();
}

size_t DecoderSession::state_bytes() const {
  size_t bytes = 0;
  for (const auto* values : {&state_, &previous_state_}) {
    for (const ckks::Ciphertext& value : *values) {
      for (const ring::RnsPoly& part : value.parts) bytes += part.bytes();
    }
  }
  return bytes;
}

}  // namespace polyveil::runtime
