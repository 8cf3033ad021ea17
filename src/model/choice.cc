#include "model/choice.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/thread_pool.h"
#include "model/approximant_json.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

constexpr char kChoiceFormat[] = "polyveil-choice/2";
constexpr int kMaxRounds = 16, kMaxCleanups = 8;

Status CheckForms(const ChoiceForms& forms) {
  PV_RETURN_IF_ERROR(approx::Validate(forms.norm, "choice.norm"));
  PV_RETURN_IF_ERROR(approx::Validate(forms.deviation, "choice.deviation"));
  for (const approx::Approximant& round : forms.rounds)
    PV_RETURN_IF_ERROR(approx::Validate(round, "choice.rounds"));
  if (forms.rounds.empty() || forms.rounds.size() > kMaxRounds)
    return MakeError(ErrorCode::kOutOfRange, "choice.rounds: {}, not in 1..{}", forms.rounds.size(),
                     kMaxRounds);
  if (forms.cleanups < 1 || forms.cleanups > kMaxCleanups)
    return MakeError(ErrorCode::kOutOfRange, "choice.cleanups = {}, not in 1..{}", forms.cleanups,
                     kMaxCleanups);
  if (!(forms.logit_bound > 0 && forms.low > 0 && forms.high > 0 && forms.temperature >= 0))
    return MakeError(ErrorCode::kOutOfRange,
                     "choice: logit_bound {}, low {} and high {} are to be above 0, temperature {} "
                     "not below",
                     forms.logit_bound, forms.low, forms.high, forms.temperature);
  return {};
}

double Gumbel(Prng& random) {
  const double uniform = (static_cast<double>(random.Next64() >> 11) + 0.5) * 0x1p-53;
  return -std::log(-std::log(uniform));
}

void RemoveMeanOf(std::vector<double>& x) {
  const double mean =
      std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(std::max<size_t>(1, x.size()));
  for (double& v : x) v -= mean;
}

}  // namespace

Result<ChoiceForms> ParseChoiceForms(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const nlohmann::json plain, ParseStrictJson(text, "choice"));
  const nlohmann::ordered_json json = plain;
  std::string error;
  const JsonReader at(plain, "choice", error);
  ChoiceForms forms;
  const std::string format = at.Text("format");
  forms.logit_bound = at.Number("logit_bound");
  forms.low = at.Number("low");
  forms.high = at.Number("high");
  forms.cleanups = at.Int("cleanups");
  forms.temperature = at.Number("temperature");
  forms.tokens = at.Count("tokens");
  forms.tables = at.Text("tables");
  for (const char* field : {"norm", "deviation", "rounds"})
    if (!at.Has(field)) at.Fail(field, "is missing");
  if (error.empty() && format != kChoiceFormat)
    at.Fail("format", "is not " + std::string(kChoiceFormat));
  if (error.empty() && !plain["rounds"].is_array()) at.Fail("rounds", "is no list");
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  PV_ASSIGN_OR_RETURN(forms.norm, ApproximantFromJson(json["norm"], "choice.norm"));
  PV_ASSIGN_OR_RETURN(forms.deviation, ApproximantFromJson(json["deviation"], "choice.deviation"));
  for (const auto& round : json["rounds"]) {
    PV_ASSIGN_OR_RETURN(forms.rounds.emplace_back(), ApproximantFromJson(round, "choice.rounds"));
  }
  PV_RETURN_IF_ERROR(CheckForms(forms));
  return forms;
}

std::string FormatChoiceForms(const ChoiceForms& forms) {
  nlohmann::ordered_json json{{"format", kChoiceFormat},
                              {"tables", forms.tables},
                              {"tokens", forms.tokens},
                              {"temperature", forms.temperature},
                              {"logit_bound", forms.logit_bound},
                              {"low", forms.low},
                              {"high", forms.high},
                              {"cleanups", forms.cleanups}};
  json["norm"] = ApproximantToJson(forms.norm);
  json["deviation"] = ApproximantToJson(forms.deviation);
  json["rounds"] = nlohmann::ordered_json::array();
  for (const auto& round : forms.rounds) json["rounds"].push_back(ApproximantToJson(round));
  return json.dump(1) + "\n";
}

std::vector<double> ChoiceNoise(const Seed& seed, std::uint64_t index, int vocabulary,
                                double temperature) {
  std::vector<double> noise(static_cast<size_t>(vocabulary));
  if (temperature == 0) return noise;
  Prng random(seed, "polyveil choice", index);
  for (double& v : noise) v = temperature * Gumbel(random);
  RemoveMeanOf(noise);
  return noise;
}

std::vector<double> CentredLogits(const ChoiceTables& tables, std::span<const double> residual) {
  const double squares =
      std::inner_product(residual.begin(), residual.end(), residual.begin(), 0.0);
  const double root = 1 / std::sqrt(squares / tables.width + tables.norm_eps);
  std::vector<double> logits(static_cast<size_t>(tables.vocabulary));
  constexpr size_t kRowsAtOnce = 256;
  ParallelFor((logits.size() + kRowsAtOnce - 1) / kRowsAtOnce, [&](size_t part) {
    const size_t last = std::min(logits.size(), (part + 1) * kRowsAtOnce);
    for (size_t v = part * kRowsAtOnce; v < last; ++v) {
      const auto row = tables.HeadRow(static_cast<int>(v));
      logits[v] = root * std::inner_product(row.begin(), row.end(), residual.begin(), 0.0);
      if (!tables.bias.empty()) logits[v] += tables.bias[v];
    }
  });
  return logits;
}

int TokenBits(int vocabulary) {
  return std::max(1, static_cast<int>(std::bit_width(static_cast<unsigned>(vocabulary - 1))));
}

double Certainty(double sum, double sum_of_squares) {
  return sum < kLeastWeight ? 0 : sum_of_squares / (sum * sum);
}

void ChosenBits::Add(int bit, double value) {
  rounding = std::max(rounding, std::abs(1 - std::abs(value)));
  token |= (value < 0 ? 1 : 0) << bit;
}

bool ChosenBits::decided() const {
  return certainty >= kDecided && certainty <= 2 - kDecided && rounding <= kRoundedBit;
}

ChosenBits Choose(const ChoiceForms& forms, std::span<const double> logits) {
  const auto weights = ChoiceWeights(forms, logits);
  double sum = 0, squares = 0;
  for (const double w : weights) {
    sum += w;
    squares += w * w;
  }
  ChosenBits chosen;
  chosen.certainty = Certainty(sum, squares);
  const auto bits = ChoiceBits(forms, weights);
  for (size_t i = 0; i < bits.size(); ++i) chosen.Add(static_cast<int>(i), bits[i]);
  return chosen;
}

}  // namespace polyveil::model
