#include "polyveil/simulate_choice.h"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <mutex>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "polyveil/progress_bar.h"

namespace polyveil::tools {
namespace {

using nlohmann::json;

Result<serve::ChoiceReport> RunTexts(const serve::SimulationSetup& setup,
                                     const std::vector<std::vector<model::TokenId>>& texts,
                                     const serve::ChoosingRun& run) {
  serve::ChoiceReport report;
  Status failure;
  std::mutex mutex;
  ProgressBar bar("prompts", 0);
  ParallelFor(texts.size(), [&](size_t i) {
    serve::ChoosingRun one = run;
    one.seed += i;
    const auto chosen = serve::SimulateChoices(setup, texts[i], one);
    const std::lock_guard lock(mutex);
    if (!chosen.ok()) {
      failure = MakeError(chosen.error().code, "prompt {}: {}", i + 1, chosen.error().message);
      return;
    }
    report.Merge(*chosen);
    bar.Update(static_cast<double>(report.texts) / static_cast<double>(texts.size()),
               fmt::format("{} of {}", report.texts, texts.size()));
  });
  bar.Clear();
  PV_RETURN_IF_ERROR(failure);
  return report;
}

// Those that were not decided, or wrong: the lead of the first logit and what the client reads.
json Others(const serve::ChoiceReport& report) {
  json others = json::array();
  constexpr size_t kMost = 64;
  for (const serve::ChosenToken& token : report.tokens)
    if (!(token.decided && token.right) && others.size() < kMost)
      others.push_back({{"gap", token.gap},
                        {"certainty", std::isfinite(token.certainty) ? json(token.certainty)
                                                                     : json("not finite")},
                        {"decided", token.decided},
                        {"right", token.right}});
  return others;
}

json SitesOf(const serve::ChoiceReport& report) {
  json sites = json::array();
  for (const auto& [name, read] : report.sites)
    if (read.escapes > 0)
      sites.push_back(
          {{"site", name},
           {"slots", read.slots},
           {"escapes", read.escapes},
           {"largest_read", std::isfinite(read.worst) ? json(read.worst) : json("not finite")}});
  return sites;
}

json ToJson(const serve::ChoiceReport& report, const ChosenTexts& options) {
  double largest = 0;
  for (const double error : report.error_by_token) largest = std::max(largest, error);
  return {{"parameters", options.parameters},
          {"temperature", options.run.temperature},
          {"prompts", report.texts},
          {"tokens", report.tokens.size()},
          {"undecided", report.undecided},
          {"wrong", report.wrong},
          {"with_a_clear_lead",
           {{"lead", serve::kClearChoice},
            {"tokens", report.clear},
            {"undecided", report.clear_undecided},
            {"wrong", report.clear_wrong}}},
          {"largest_error_of_the_embedding", largest},
          {"error_of_the_embedding_by_token", report.error_by_token},
          {"guard_alarms", report.alarms},
          {"out_of_range", SitesOf(report)},
          {"undecided_or_wrong", Others(report)}};
}

}  // namespace

Status SimulateChosenTexts(const serve::SimulationSetup& setup,
                           const std::vector<std::vector<model::TokenId>>& texts,
                           const ChosenTexts& options) {
  json out;
  if (options.draws > 0) {
    if (options.run.temperature == 0)
      return MakeError(ErrorCode::kInvalidArgument, "--draws {}: a temperature above 0 is needed",
                       options.draws);
    PV_ASSIGN_OR_RETURN(const serve::DrawReport draws,
                        serve::SimulateDraws(setup, texts.front(), options.draws, options.run));
    out = {{"draws", draws.draws},
           {"undecided", draws.undecided},
           {"cells", draws.cells},
           {"chi_squared", draws.chi_squared},
           {"limit_of_one_in_a_thousand", draws.limit}};
    std::cout << out.dump(1) << "\n";
    if (!options.json.empty()) PV_RETURN_IF_ERROR(WriteFile(options.json, out.dump(1) + "\n"));
    if (draws.chi_squared <= draws.limit) return {};
    return MakeError(ErrorCode::kMismatch, "draws: chi squared {} > {}", draws.chi_squared,
                     draws.limit);
  }
  PV_ASSIGN_OR_RETURN(const serve::ChoiceReport report, RunTexts(setup, texts, options.run));
  out = ToJson(report, options);
  std::cout << out.dump(1) << "\n";
  if (!options.json.empty()) PV_RETURN_IF_ERROR(WriteFile(options.json, out.dump(1) + "\n"));
  return serve::JudgeChoices(report);
}

}  // namespace polyveil::tools
