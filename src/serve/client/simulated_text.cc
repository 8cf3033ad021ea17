#include "serve/client/simulated_text.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "base/worst.h"
#include "runtime/compile_model.h"

namespace polyveil::serve {
namespace {

// Positions of the largest and the second largest value.
std::pair<size_t, size_t> TopTwo(const std::vector<double>& logits) {
  size_t first = 0, second = 1;
  if (logits[second] > logits[first]) std::swap(first, second);
  for (size_t i = 2; i < logits.size(); ++i) {
    if (logits[i] > logits[first])
      second = std::exchange(first, i);
    else if (logits[i] > logits[second])
      second = i;
  }
  return {first, second};
}

class TextSimulation {
 public:
  TextSimulation(const SimulationSetup& setup, std::uint64_t seed)
      : setup_(setup),
        polynomial_(setup.program->decoder()),
        exact_(setup.program->decoder(), model::Evaluation::kExact),
        simulator_(setup.program, setup.noise, seed, setup.slots) {}

  // The first tokens of a prompt at once, where the program has one for them: Feed takes them then.
  Status ReadAtOnce(std::span<const model::TokenId> prompt) {
    const auto& programs = setup_.program->prompts();
    const auto prefix = static_cast<size_t>(setup_.half->prefix());
    if (programs.empty()) return {};
    std::vector<std::vector<double>> embeddings;
    const auto most = static_cast<size_t>(programs.back()->prompt_tokens());
    for (size_t i = prefix; i < std::min(prompt.size(), prefix + most); ++i) {
      PV_ASSIGN_OR_RETURN(embeddings.emplace_back(), setup_.half->Embed(prompt.first(i + 1)));
    }
    const int count = static_cast<int>(embeddings.size());
    const auto& program = programs[setup_.program->PromptFor(count)];
    PV_ASSIGN_OR_RETURN(const auto residuals, simulator_.Read(program, embeddings));
    read_.assign(residuals.begin(), residuals.end());
    const auto believed =
        setup_.guard.ReadTokens(simulator_.results(), program->token_layout(), count);
    if (!believed.ok()) read_alarm_ = believed.error();
    return {};
  }

  // Feeds the last token of the text. Returns the exact model's next token.
  Result<model::TokenId> Feed(std::span<const model::TokenId> text) {
    PV_ASSIGN_OR_RETURN(const auto embedding, setup_.half->Embed(text));
    const auto logits = [&](auto& body) -> Result<std::vector<double>> {
      PV_ASSIGN_OR_RETURN(const auto residual, body.Step(embedding));
      return setup_.half->Head(residual);
    };
    PV_ASSIGN_OR_RETURN(const auto polynomial, logits(polynomial_));
    PV_ASSIGN_OR_RETURN(const auto exact, logits(exact_));
    Status believed = read_alarm_;
    std::vector<double> simulated;
    if (read_.empty()) {
      PV_ASSIGN_OR_RETURN(simulated, logits(simulator_));
      const auto read = setup_.guard.ReadTexts(simulator_.result_slots(), setup_.program->texts(),
                                               1, simulator_.position());
      believed = read.ok() ? Status() : Status(read.error());
    } else {
      PV_ASSIGN_OR_RETURN(simulated, setup_.half->Head(read_.front()));
      read_.pop_front();
    }
    NoteSites();
    ComparePolynomial(simulated, polynomial);
    CompareExact(simulated, exact, believed);
    return static_cast<model::TokenId>(TopTwo(exact).first);
  }

  SimulationReport Finish() {
    report_.texts = 1;
    report_.equal_texts = report_.equal_tokens == report_.tokens;
    return std::move(report_);
  }

 private:
  void NoteSites() {
    const bool first_of_text = !escaped_;
    for (const auto& [name, read] : simulator_.escapes()) {
      SiteReport& site = report_.sites[name];
      if (read.escapes > 0 && site.read.escapes == 0) {
        site.first += first_of_text;
        escaped_ = true;
      }
      if (read.not_finite > 0 && report_.first_not_finite.empty())
        report_.first_not_finite = fmt::format("{} at token {}", name, simulator_.position());
      site.read = read;
    }
  }

  void ComparePolynomial(const std::vector<double>& simulated,
                         const std::vector<double>& polynomial) {
    const auto [first, second] = TopTwo(polynomial);
    const double margin = polynomial[first] - polynomial[second];
    const bool finite = AllFinite(simulated) && AllFinite(polynomial);
    const bool equal = finite && TopTwo(simulated).first == first;
    ++report_.tokens;
    report_.not_finite += !finite;
    report_.equal_tokens += equal;
    report_.clear_differences += finite && !equal && margin > kClearGap;
    report_.largest_logit_error =
        Worse(report_.largest_logit_error, LargestDifference(simulated, polynomial));
    report_.smallest_margin = WorseMargin(report_.smallest_margin, margin);
  }

  void CompareExact(const std::vector<double>& simulated, const std::vector<double>& exact,
                    const Status& believed) {
    const double error = LargestDifference(simulated, exact);
    const bool changed = !AllFinite(simulated) || TopTwo(simulated).first != TopTwo(exact).first;
    for (auto& [name, site] : report_.sites)
      if (site.read.escapes > 0) site.after.Add(changed, error);
    if (escaped_) {
      report_.escaped.push_back({error, changed, !believed.ok()});
      return;
    }
    report_.ordinary.Add(changed, error);
    if (believed.ok()) return;
    if (report_.false_alarms++ == 0) report_.first_false_alarm = believed.error().message;
  }

  const SimulationSetup& setup_;
  model::DecoderReference polynomial_, exact_;
  runtime::Simulator simulator_;
  std::deque<std::vector<double>> read_;  // at once, not fed yet
  Status read_alarm_;
  bool escaped_ = false;
  SimulationReport report_;
};

}  // namespace

void ExactTally::Add(bool changes, double error) { Merge({1, changes, error}); }

void ExactTally::Merge(const ExactTally& other) {
  tokens += other.tokens;
  changed += other.changed;
  largest_error = Worse(largest_error, other.largest_error);
}

void SimulationReport::Merge(const SimulationReport& other) {
  texts += other.texts;
  equal_texts += other.equal_texts;
  tokens += other.tokens;
  equal_tokens += other.equal_tokens;
  clear_differences += other.clear_differences;
  largest_logit_error = Worse(largest_logit_error, other.largest_logit_error);
  smallest_margin = WorseMargin(smallest_margin, other.smallest_margin);
  not_finite += other.not_finite;
  if (first_not_finite.empty()) first_not_finite = other.first_not_finite;
  ordinary.Merge(other.ordinary);
  escaped.insert(escaped.end(), other.escaped.begin(), other.escaped.end());
  false_alarms += other.false_alarms;
  if (first_false_alarm.empty()) first_false_alarm = other.first_false_alarm;
  for (const auto& [name, site] : other.sites) {
    sites[name].read.Merge(site.read);
    sites[name].first += site.first;
    sites[name].after.Merge(site.after);
  }
}

bool SimulationReport::HasEffect(const EscapedToken& token) const {
  return token.changed && !(token.error <= ordinary.largest_error);
}

Result<SimulationReport> SimulateText(const SimulationSetup& setup,
                                      std::vector<model::TokenId> text, int new_tokens,
                                      std::uint64_t seed) {
  const auto prefix = static_cast<size_t>(setup.half->prefix());
  const size_t prompt = text.size(), end = prompt + static_cast<size_t>(new_tokens) - 1;
  const int context = setup.program->context();
  if (prompt <= prefix || end - prefix > static_cast<size_t>(context))
    return MakeError(ErrorCode::kOutOfRange, "a prompt of {} tokens and {} new ones > context {}",
                     prompt - std::min(prompt, prefix), new_tokens, context);
  TextSimulation simulation(setup, seed);
  PV_RETURN_IF_ERROR(simulation.ReadAtOnce(text));
  for (size_t i = prefix; i < end; ++i) {
    PV_ASSIGN_OR_RETURN(const auto next, simulation.Feed(std::span(text).first(i + 1)));
    if (i + 1 >= prompt) text.push_back(next);
  }
  return simulation.Finish();
}

Status JudgeSimulation(const SimulationReport& r) {
  const auto effects =
      std::ranges::count_if(r.escaped, [&](const EscapedToken& t) { return r.HasEffect(t); });
  std::string faults;
  const auto add = [&](std::uint64_t count, const std::string& what) {
    if (count > 0) faults += fmt::format("{}{} {}", faults.empty() ? "" : "; ", count, what);
  };
  add(r.not_finite,
      fmt::format("tokens are not finite (first: {})",
                  r.first_not_finite.empty() ? "the last residual" : r.first_not_finite));
  add(r.clear_differences, fmt::format("tokens differ from float64 by more than {}", kClearGap));
  add(static_cast<std::uint64_t>(effects), "tokens changed behind an out-of-range input");
  add(r.false_alarms, "false alarms, first: " + r.first_false_alarm);
  if (faults.empty()) return {};
  return MakeError(ErrorCode::kMismatch, "of {} tokens: {}", r.tokens, faults);
}

Result<SimulationSetup> SetUpSimulation(std::shared_ptr<const model::ClientHalf> half,
                                        std::shared_ptr<const model::Decoder> decoder,
                                        const ckks::ParametersPtr& params,
                                        const compile::DecoderPrograms& programs) {
  PV_ASSIGN_OR_RETURN(auto program,
                      runtime::CompileModel(decoder, params, compile::MachineSpeed{}, programs));
  ResultGuard guard({program->width(), program->units().result(),
                     runtime::BoundsOfResult(*decoder, program->units())},
                    *params);
  return SimulationSetup{std::move(half), std::move(program),
                         runtime::NoiseModel::ForParameters(*params),
                         runtime::SimulatedSlots::kOnePeriod, guard};
}

}  // namespace polyveil::serve
