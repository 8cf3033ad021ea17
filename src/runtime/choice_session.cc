#include "runtime/choice_session.h"

#include <utility>

#include "base/system.h"
#include "runtime/engine_machine.h"
#include "runtime/interpreter.h"
#include "runtime/step_listener.h"

namespace polyveil::runtime {
namespace {

using Outcome = Interpreter<EngineMachine, StepListener>::StepResult;

Result<Outcome> RunProgram(const Engine& engine, const compile::Graph& graph,
                           const ckks::Ciphertext& input,
                           const std::vector<ckks::Ciphertext>& states,
                           const StepOptions& options) {
  Timer timer;
  EngineMachine machine(engine.parts(), options.latency);
  StepListener listener(*engine.parts().model, graph, options);
  Interpreter<EngineMachine, StepListener> interpreter(machine, listener);
  PV_ASSIGN_OR_RETURN(auto outcome, interpreter.Run(graph, {&input, 1}, states));
  if (options.latency != nullptr) options.latency->FinishStep(timer.Seconds());
  return outcome;
}

}  // namespace

Result<std::shared_ptr<const ChoiceEngines>> ChoiceEngines::Create(
    const std::shared_ptr<WeightStore>& weights,
    const std::shared_ptr<const ckks::EvaluationKeys>& keys,
    std::shared_ptr<const compile::ChoiceProgram> program) {
  auto engines = std::make_shared<ChoiceEngines>();
  PV_ASSIGN_OR_RETURN(engines->choice, Engine::Create(weights, keys));
  PV_ASSIGN_OR_RETURN(engines->prompt, Engine::Create(weights, keys, program->prompt()));
  engines->program = std::move(program);
  return std::shared_ptr<const ChoiceEngines>(std::move(engines));
}

Result<ckks::Ciphertext> ChoiceSession::Embed(const ckks::Ciphertext& message, int position,
                                              const StepOptions& options) const {
  const compile::ChoiceProgram& prompt = *program().prompt();
  PV_RETURN_IF_ERROR(CheckInput(prompt, message));
  PV_ASSIGN_OR_RETURN(const compile::Graph graph, prompt.Program(position));
  PV_ASSIGN_OR_RETURN(auto outcome, RunProgram(*engines_->prompt, graph, message, {}, options));
  return std::move(outcome.outputs.front());
}

Result<std::vector<ckks::Ciphertext>> ChoiceSession::States(const compile::Graph& graph,
                                                            const ChoicePage* page,
                                                            std::span<const double> noise) const {
  EngineMachine machine(engines_->choice->parts(), nullptr);
  std::vector<ckks::Ciphertext> states(3);
  if (page != nullptr) {
    states[compile::kBitsState] = page->bits;
    states[compile::kResidualsState] = page->residuals;
  }
  for (const compile::Node& node : graph.nodes) {
    if (node.kind != compile::OpKind::kState) continue;
    ckks::Ciphertext& state = states[static_cast<size_t>(node.state)];
    if (!state.parts.empty()) continue;
    const bool noisy = node.state == compile::kNoiseState && !noise.empty();
    PV_ASSIGN_OR_RETURN(
        state, machine.Trivial(
                   noisy ? compile::ChoiceNoiseSlots(program().choice(), program().layout(), noise)
                         : std::vector<compile::Complex>(),
                   node.level));
  }
  return states;
}

Result<ckks::Ciphertext> ChoiceSession::Choose(const ckks::Ciphertext& residual, int position,
                                               std::span<const double> noise,
                                               const StepOptions& options) {
  PV_RETURN_IF_ERROR(CheckInput(program(), residual));
  PV_ASSIGN_OR_RETURN(const compile::Graph graph, program().Program(position));
  const bool begins = pages_.empty() || program().layout().place(position) == 0;
  PV_ASSIGN_OR_RETURN(const auto states, States(graph, begins ? nullptr : &pages_.back(), noise));
  PV_ASSIGN_OR_RETURN(auto result, RunProgram(*engines_->choice, graph, residual, states, options));
  if (begins) pages_.push_back({position, position, {}, {}});
  ChoicePage& page = pages_.back();
  page.last = position;
  page.bits = std::move(result.state[compile::kBitsState]);
  page.residuals = std::move(result.state[compile::kResidualsState]);
  return std::move(result.outputs.front());
}

}  // namespace polyveil::runtime
