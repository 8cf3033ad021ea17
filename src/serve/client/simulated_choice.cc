#include "serve/client/simulated_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/worst.h"

namespace polyveil::serve {
namespace {

using model::TokenId;

// Cells of a chi-squared test expect at least so many.
constexpr double kLeastExpected = 8;

Seed SeedOf(std::uint64_t number) {
  Seed seed{};
  for (size_t i = 0; i < sizeof number; ++i) seed[i] = static_cast<std::uint8_t>(number >> (8 * i));
  return seed;
}

double RelativeError(std::span<const double> expected, std::span<const double> actual) {
  double error = 0, size = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    size += expected[i] * expected[i];
  }
  return std::sqrt(error / size);
}

class ChoosingText {
 public:
  ChoosingText(const SimulationSetup& setup, const ChoosingRun& run)
      : setup_(setup),
        choice_(*setup.program->choice()),
        run_(run),
        reference_(setup.program->decoder()),
        simulator_(setup.program, setup.noise, run.seed, setup.slots) {}

  Status Read(std::span<const TokenId> text) {
    for (size_t fed = static_cast<size_t>(setup_.half->prefix()); fed < text.size(); ++fed)
      PV_RETURN_IF_ERROR(FeedBoth(text.first(fed + 1)));
    return {};
  }

  // Chooses behind the text, adds what is right and feeds it.
  Status Next(std::vector<TokenId>& text) {
    const auto noise = model::ChoiceNoise(SeedOf(run_.seed), text.size(), setup_.half->vocabulary(),
                                          run_.temperature);
    PV_RETURN_IF_ERROR(simulator_.Choose(choice_, noise));
    ChosenToken chosen;
    const TokenId right = Right(noise, chosen.gap);
    const auto read = ReadPage(chosen);
    chosen.right = read.ok() && read->token == right;
    text.push_back(right);
    PV_ASSIGN_OR_RETURN(const auto expected, setup_.half->Embed(text));
    const auto fed = compile::UnpackText(simulator_.chosen_slots(), 1, setup_.program->width(), 0,
                                         setup_.program->units().input);
    chosen.embedding_error = RelativeError(expected, fed);
    Note(chosen);
    if (!(chosen.decided && chosen.right)) return FeedBoth(text);
    PV_ASSIGN_OR_RETURN(residual_, reference_.Step(expected));
    PV_ASSIGN_OR_RETURN(const auto simulated, simulator_.StepOnChosen());
    static_cast<void>(simulated);
    return {};
  }

  ChoiceReport Finish() {
    report_.texts = 1;
    report_.sites = simulator_.escapes();
    return std::move(report_);
  }

  const std::vector<double>& residual() const { return residual_; }
  runtime::Simulator& simulator() { return simulator_; }
  Result<compile::ReadChoice> ReadPage(ChosenToken& chosen) {
    const int position = simulator_.position() - 1;
    auto read = compile::UnpackChoice(choice_.layout(), simulator_.pages()[0], position);
    chosen.certainty = read.ok() ? read->certainty : NAN;
    chosen.decided = read.ok() && read->decided();
    const auto residual = setup_.guard.Read(
        compile::UnpackResidual(choice_.layout(), simulator_.pages()[1], position), position + 1);
    chosen.alarm = !residual.ok();
    if (chosen.alarm && report_.first_alarm.empty()) report_.first_alarm = residual.error().message;
    return read;
  }

 private:
  Status FeedBoth(std::span<const TokenId> text) {
    PV_ASSIGN_OR_RETURN(const auto embedding, setup_.half->Embed(text));
    PV_ASSIGN_OR_RETURN(residual_, reference_.Step(embedding));
    PV_RETURN_IF_ERROR(simulator_.Embed(choice_, text.back()));
    const auto simulated = simulator_.StepOnChosen();
    return simulated.ok() ? Status() : Status(simulated.error());
  }

  TokenId Right(const std::vector<double>& noise, double& gap) const {
    auto logits = model::CentredLogits(*choice_.choice().tables, residual_);
    for (size_t v = 0; v < noise.size(); ++v) logits[v] += noise[v];
    const auto largest = std::ranges::max_element(logits);
    const auto right = static_cast<TokenId>(largest - logits.begin());
    const double first = *largest;
    *largest = -INFINITY;
    gap = first - *std::ranges::max_element(logits);
    return right;
  }

  void Note(const ChosenToken& chosen) {
    const bool clear = chosen.gap > kClearChoice;
    const bool wrong = chosen.decided && !chosen.right;
    report_.undecided += !chosen.decided;
    report_.wrong += wrong;
    report_.clear += clear;
    report_.clear_undecided += clear && !chosen.decided;
    report_.clear_wrong += clear && wrong;
    report_.alarms += chosen.alarm && AllFinite(residual_);
    report_.tokens.push_back(chosen);
    report_.error_by_token.push_back(chosen.decided && chosen.right ? chosen.embedding_error : 0);
  }

  const SimulationSetup& setup_;
  const compile::ChoiceProgram& choice_;
  const ChoosingRun run_;
  model::DecoderReference reference_;
  runtime::Simulator simulator_;
  std::vector<double> residual_;  // float64's of the last token
  ChoiceReport report_;
};

Status CheckChoosing(const SimulationSetup& setup, size_t prompt, int tokens) {
  if (!setup.program->choice())
    return MakeError(ErrorCode::kInvalidArgument, "{}: its program chooses no tokens",
                     setup.program->decoder().name);
  const auto prefix = static_cast<size_t>(setup.half->prefix());
  const int context = setup.program->context();
  if (prompt > prefix &&
      prompt - prefix + static_cast<size_t>(tokens) <= static_cast<size_t>(context))
    return {};
  return MakeError(ErrorCode::kOutOfRange, "a prompt of {} tokens and {} chosen ones > context {}",
                   prompt - std::min(prompt, prefix), tokens, context);
}

}  // namespace

void ChoiceReport::Merge(const ChoiceReport& other) {
  texts += other.texts;
  tokens.insert(tokens.end(), other.tokens.begin(), other.tokens.end());
  for (const auto& [name, read] : other.sites) sites[name].Merge(read);
  error_by_token.resize(std::max(error_by_token.size(), other.error_by_token.size()));
  for (size_t i = 0; i < other.error_by_token.size(); ++i)
    error_by_token[i] = Worse(error_by_token[i], other.error_by_token[i]);
  if (first_alarm.empty()) first_alarm = other.first_alarm;
  undecided += other.undecided;
  wrong += other.wrong;
  clear += other.clear;
  clear_undecided += other.clear_undecided;
  clear_wrong += other.clear_wrong;
  alarms += other.alarms;
}

Result<ChoiceReport> SimulateChoices(const SimulationSetup& setup, std::vector<TokenId> text,
                                     const ChoosingRun& run) {
  PV_RETURN_IF_ERROR(CheckChoosing(setup, text.size(), run.tokens));
  ChoosingText choosing(setup, run);
  PV_RETURN_IF_ERROR(choosing.Read(text));
  for (int i = 0; i < run.tokens; ++i) PV_RETURN_IF_ERROR(choosing.Next(text));
  return choosing.Finish();
}

Status JudgeChoices(const ChoiceReport& r) {
  if (r.clear_wrong == 0 && r.alarms == 0) return {};
  return MakeError(ErrorCode::kMismatch,
                   "of {} chosen tokens: {} wrong ones with a lead above {}; {} false alarms{}{}",
                   r.tokens.size(), r.clear_wrong, kClearChoice, r.alarms,
                   r.alarms > 0 ? ", first: " : "", r.first_alarm);
}

Result<DrawReport> SimulateDraws(const SimulationSetup& setup, const std::vector<TokenId>& text,
                                 int draws, const ChoosingRun& run) {
  PV_RETURN_IF_ERROR(CheckChoosing(setup, text.size(), 1));
  ChoosingText choosing(setup, run);
  PV_RETURN_IF_ERROR(choosing.Read(text));
  const compile::ChoiceProgram& choice = *setup.program->choice();
  auto weights = model::CentredLogits(*choice.choice().tables, choosing.residual());
  for (double& w : weights) w = std::exp(w / run.temperature);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  DrawReport report{.draws = draws};
  std::vector<double> seen(weights.size());
  for (int draw = 0; draw < draws; ++draw) {
    const auto noise = model::ChoiceNoise(SeedOf(run.seed), static_cast<std::uint64_t>(draw),
                                          setup.half->vocabulary(), run.temperature);
    PV_RETURN_IF_ERROR(choosing.simulator().Choose(choice, noise));
    ChosenToken chosen;
    const auto read = choosing.ReadPage(chosen);
    report.undecided += !chosen.decided;
    if (chosen.decided) ++seen[static_cast<size_t>(read->token)];
  }
  double rest_seen = 0, rest = 0;
  const double decided = draws - report.undecided;
  const auto add = [&](double observed, double expected) {
    report.chi_squared += (observed - expected) * (observed - expected) / expected;
    ++report.cells;
  };
  for (size_t v = 0; v < weights.size(); ++v) {
    const double expected = decided * weights[v] / sum;
    if (expected >= kLeastExpected) {
      add(seen[v], expected);
    } else {
      rest_seen += seen[v];
      rest += expected;
    }
  }
  if (rest > 0) add(rest_seen, rest);
  // Wilson and Hilferty's approximation of the quantile at 3.09 standard deviations.
  const double k = std::max(1, report.cells - 1), part = 2 / (9 * k);
  report.limit = k * std::pow(1 - part + 3.09 * std::sqrt(part), 3);
  return report;
}

}  // namespace polyveil::serve
