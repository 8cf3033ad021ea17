#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/output_file.h"
#include "train/convert.h"

namespace polyveil::train {
namespace {

constexpr int kTextRows = 16;        // of text at a time: two blocks of logits stand in memory
constexpr int kRounds = 12;          // of new intervals on the same text
constexpr double kOvershoot = 1.05;  // beyond the margin: other polynomials move the later inputs
constexpr double kRounding = 1e-3;   // of a margin that was laid and is measured again

double Margin(const SiteChoice& choice, const approx::Range& inputs) {
  return approx::RatioMargin(inputs, choice.a, choice.b);
}

// Intervals are widened, and degrees with them, until the text leaves the margin everywhere. Inputs
// behind one that lies outside are no guide: a round sees as far as the last one's intervals reach.
class Widening {
 public:
  Widening(Transformer& model, const ConvertOptions& options, Conversion& conversion)
      : model_(model), options_(options), conversion_(conversion) {}

  Result<Observation> Hold(const std::vector<Batch>& text) {
    for (int round = 0;; ++round) {
      model_.polynomials = conversion_.polynomials;
      Observation seen = Observe(model_, text);
      PV_RETURN_IF_ERROR(seen.CheckFinite());
      const SiteRanges wanted = Short(seen.inputs);
      if (wanted.empty()) return seen;
      if (round == kRounds) return GaveUp(seen);
      ConvertOptions wider = options_;
      wider.margin *= kOvershoot;
      PV_ASSIGN_OR_RETURN(conversion_, RenewPolynomials(model_, conversion_, wanted, wider));
    }
  }

 private:
  // The sites whose inputs leave less than the margin: all that was ever seen of them.
  SiteRanges Short(const SiteRanges& inputs) const {
    SiteRanges out;
    for (const SiteChoice& choice : conversion_.choices) {
      const auto it = inputs.find(choice.site);
      if (it == inputs.end() || it->second.count == 0) continue;
      if (Margin(choice, it->second) >= options_.margin * (1 - kRounding)) continue;
      approx::Range seen = choice.seen;
      seen.Merge(it->second);
      out[choice.site] = seen;
    }
    return out;
  }

  Error GaveUp(const Observation& seen) const {
    std::string sites;
    for (const SiteChoice& choice : conversion_.choices) {
      const auto it = seen.inputs.find(choice.site);
      if (it == seen.inputs.end() || Margin(choice, it->second) >= options_.margin) continue;
      sites += fmt::format("{}{} reads [{:.4g}, {:.4g}], its interval is [{:.4g}, {:.4g}]",
                           sites.empty() ? "" : "; ", choice.site, it->second.lo, it->second.hi,
                           choice.a, choice.b);
    }
    return MakeError(
        ErrorCode::kOutOfRange,
        "{}: not within a margin of {} after {} rounds of wider intervals; train longer "
        "with range penalties on it",
        sites, options_.margin, kRounds);
  }

  Transformer& model_;
  const ConvertOptions& options_;
  Conversion& conversion_;
};

Status CheckEffect(const ConversionEffect& effect) {
  for (const auto& [what, nats] :
       {std::pair{"exact", effect.parent_nats}, std::pair{"polynomial", effect.polynomial_nats}})
    if (!std::isfinite(nats))
      return MakeError(ErrorCode::kOutOfRange, "the {} model's held-out loss is {}", what, nats);
  return {};
}

// The same function without the maximum; see model/attention_form.h.
void WithoutMaximum(TrainConfig& config) {
  if (config.attention == AttentionForm::kPowerStable) config.attention = AttentionForm::kPowerMean;
  for (AttentionForm& form : config.shape.layer_attention)
    if (form == AttentionForm::kPowerStable) form = AttentionForm::kPowerMean;
}

}  // namespace

Result<ConvertResult> ConvertCheckpoint(const ConvertRequest& request) {
  PV_RETURN_IF_ERROR(CheckFileName("the model's name", request.name));
  const std::string folder = request.out + "/" + request.name;
  if (!request.replace && std::filesystem::exists(folder + "/last.pt"))
    return MakeError(ErrorCode::kInvalidArgument, "{}: holds a model (--replace replaces it)",
                     folder);
  PV_ASSIGN_OR_RETURN(LoadedModel loaded, LoadModel(request.checkpoint));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(request.data));
  if (loaded.model->polynomials)
    return MakeError(ErrorCode::kMismatch, "{} has polynomials already", request.checkpoint);
  TrainConfig config = loaded.config;
  config.name = request.name;
  WithoutMaximum(config);
  Transformer model = loaded.model->Clone(config.shape, config.attention);
  const auto text = CalibrationBatches(config, data, request.calibration_batches);
  const Observation exact = Observe(model, text);
  PV_RETURN_IF_ERROR(exact.CheckFinite());
  ConvertResult result;
  PV_ASSIGN_OR_RETURN(result.conversion, ChoosePolynomials(model, exact.ranges, request.options));
  Widening widening(model, request.options, result.conversion);
  PV_RETURN_IF_ERROR(widening.Hold(text));
  std::vector<Batch> heldout = HeldoutBatches(data, kTextRows, config.shape.context);
  std::vector<Batch> all = ExportBatches(config, data);
  all.insert(all.end(), heldout.begin(), heldout.end());
  PV_ASSIGN_OR_RETURN(result.seen, widening.Hold(all));
  result.least_margin = result.seen.LeastMargin(*model.polynomials);
  result.effect = MeasureEffect(model, heldout);
  PV_RETURN_IF_ERROR(CheckEffect(result.effect));
  std::filesystem::create_directories(folder);
  result.checkpoint = folder + "/last.pt";
  PV_RETURN_IF_ERROR(SaveCheckpoint(result.checkpoint, model, nullptr,
                                    {0, 0, loaded.info.tokens, FormatTrainConfig(config)}));
  return result;
}

}  // namespace polyveil::train
