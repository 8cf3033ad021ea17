#include "runtime/choice_session.h"

#include <utility>

#include "base/system.h"
#include "runtime/engine_machine.h"
#include "runtime/interpreter.h"
#include "runtime/step_listener.h"

namespace polyveil::runtime {

Result<std::vector<ckks::Ciphertext>> ChoiceSession::States(const compile::Graph& graph,
                                                            const ChoicePage* page,
                                                            std::span<const double> noise) const {
  EngineMachine machine(engine_->parts(), nullptr);
  std::vector<ckks::Ciphertext> states(3);
  if (page != nullptr) {
    states[compile::kDigitsState] = page->digits;
    states[compile::kResidualsState] = page->residuals;
  }
  for (const compile::Node& node : graph.nodes) {
    if (node.kind != compile::OpKind::kState) continue;
    ckks::Ciphertext& state = states[static_cast<size_t>(node.state)];
    if (!state.parts.empty()) continue;
    const bool noisy = node.state == compile::kNoiseState && !noise.empty();
    PV_ASSIGN_OR_RETURN(
        state, machine.Trivial(
                   noisy ? compile::ChoiceNoiseSlots(program_->choice(), program_->layout(), noise)
                         : std::vector<compile::Complex>(),
                   node.level));
  }
  return states;
}

Result<ckks::Ciphertext> ChoiceSession::Choose(const ckks::Ciphertext& residual, int position,
                                               std::span<const double> noise,
                                               const StepOptions& options) {
  const EngineParts& parts = engine_->parts();
  PV_RETURN_IF_ERROR(CheckInput(*program_, residual));
  PV_ASSIGN_OR_RETURN(const compile::Graph graph, program_->Program(position));
  const bool begins = pages_.empty() || program_->layout().place(position) == 0;
  PV_ASSIGN_OR_RETURN(const auto states, States(graph, begins ? nullptr : &pages_.back(), noise));
  Timer timer;
  EngineMachine machine(parts, options.latency);
  StepListener listener(*program_, graph, options);
  Interpreter<EngineMachine, StepListener> interpreter(machine, listener);
  PV_ASSIGN_OR_RETURN(auto result, interpreter.Run(graph, {&residual, 1}, states));
  if (begins) pages_.push_back({position, position, {}, {}});
  ChoicePage& page = pages_.back();
  page.last = position;
  page.digits = std::move(result.state[compile::kDigitsState]);
  page.residuals = std::move(result.state[compile::kResidualsState]);
  if (options.latency != nullptr) options.latency->FinishStep(timer.Seconds());
  return std::move(result.outputs.front());
}

}  // namespace polyveil::runtime
