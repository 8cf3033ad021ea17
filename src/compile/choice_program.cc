#include "compile/choice_program.h"

#include <utility>

#include "compile/packed_bytes.h"

namespace polyveil::compile {
namespace {

ResidualUnits UnitsOf(const ChoosingDecoder& decoder, bool chooses) {
  ResidualUnits units;
  units.input = chooses ? decoder.residual_unit : 1;
  units.output = {decoder.input_unit};
  return units;
}

}  // namespace

ChoiceProgram::ChoiceProgram(Choice choice, const ChoosingDecoder& decoder,
                             const ChoiceLayout& layout, ckks::ParametersPtr params,
                             const MachineSpeed& speed, bool chooses)
    : CompiledProgram(std::move(params), speed, UnitsOf(decoder, chooses)),
      choice_(std::move(choice)),
      decoder_(decoder),
      layout_(layout),
      chooses_(chooses) {}

Result<std::shared_ptr<ChoiceProgram>> ChoiceProgram::Create(Choice choice,
                                                             const ChoosingDecoder& decoder,
                                                             ckks::ParametersPtr params,
                                                             const MachineSpeed& speed,
                                                             const CircuitKeys& circuits) {
  if (choice.tables->width != decoder.width)
    return MakeError(ErrorCode::kMismatch, "a choice of width {}, the decoder's is {}",
                     choice.tables->width, decoder.width);
  PV_ASSIGN_OR_RETURN(const ChoiceLayout layout,
                      ChoiceLayout::Create(params->slots(), decoder.width,
                                           choice.tables->vocabulary, decoder.context));
  const auto plan = [&](bool chooses) -> Result<std::shared_ptr<ChoiceProgram>> {
    std::shared_ptr<ChoiceProgram> program(
        new ChoiceProgram(choice, decoder, layout, params, speed, chooses));
    PV_RETURN_IF_ERROR(program->Plan(circuits));
    return program;
  };
  PV_ASSIGN_OR_RETURN(const auto prompt, plan(false));
  auto program = plan(true);
  if (!program.ok())
    return MakeError(program.error().code,
                     "a choice of {} rounds among {} tokens has no place in parameters {}: {}",
                     choice.forms.rounds.size(), choice.tables->vocabulary, params->spec().name,
                     program.error().message);
  (*program)->ServeBeside(*prompt);
  (*program)->prompt_ = prompt;
  return *std::move(program);
}

Status ChoiceProgram::PlanAllWeights(size_t room) {
  CompiledProgram* const beside[] = {prompt_.get()};
  return PlanWeights(room, beside);
}

size_t ChoiceProgram::page_bytes() const { return 4 * PackedBytes(*params(), 0); }

MapDiagonals ChoiceProgram::Diagonals(const LinearMap& map) const {
  return ChoiceDiagonals(map, choice_, layout_, Place());
}

Result<std::vector<std::vector<Complex>>> ChoiceProgram::KnownStates(
    const model::PublicContext*) const {
  return std::vector<std::vector<Complex>>(static_cast<size_t>(state_count()));
}

ChoicePlace ChoiceProgram::Place() const {
  return {decoder_.residual_unit, decoder_.input_unit,   params()->bootstrap_level(),
          decoder_.input_level,   params()->log_slots(), decoder_.prefix};
}

Result<Graph> ChoiceProgram::Lower(int position, const std::shared_ptr<const model::PublicContext>&,
                                   std::span<const int>) const {
  if (position < 0 || position >= decoder_.context)
    return MakeError(ErrorCode::kOutOfRange, "position {} outside the context of {}", position,
                     decoder_.context);
  return chooses_ ? LowerChoice(choice_, layout_, Place(), position)
                  : LowerPromptToken(choice_, layout_, Place(), position);
}

std::string ChoiceProgram::Description() const {
  return fmt::format("{} {} behind {} of width {}, context {}, to {} at level {}\n{}",
                     chooses_ ? "choice" : "prompt", choice_.tables->digest, decoder_.residual_unit,
                     decoder_.width, decoder_.context, decoder_.input_unit, decoder_.input_level,
                     model::FormatChoiceForms(choice_.forms));
}

}  // namespace polyveil::compile
