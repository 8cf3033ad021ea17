#include "model/import/model_fit.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "model/formats/checkpoint.h"
#include "model/import/block_source.h"
#include "model/import/constant_prefix.h"

namespace polyveil::model {
namespace {

// The least a certificate can say.
constexpr double kNoMargin = 1e-9;

std::uint64_t CountEscapes(const BlockReference& reference) {
  std::uint64_t count = 0;
  for (const auto& [site, seen] : reference.escapes()) count += seen.escapes + seen.not_finite;
  return count;
}

// The polynomial that reads at a site of BlockReference.
const Approximant* PolynomialAt(const LayerConfig& forms, const std::string& site) {
  if (site == "attention / variance") return &forms.norm1;
  if (site == "attention / divisor") return &forms.divisor_inverse;
  if (site == "feed-forward / variance") return &forms.norm2;
  if (site == "feed-forward / hidden" && forms.activation) return &*forms.activation;
  return nullptr;
}

double LeastMargin(const Block& block, const BlockReference& reference) {
  double least = INFINITY;
  for (const auto& [site, seen] : reference.escapes())
    if (const Approximant* p = PolynomialAt(block.forms, site))
      least = std::min(least, approx::RatioMargin(seen.seen, p->a, p->b));
  return std::max(least, kNoMargin);
}

Status Advance(const Block& block, BlockTexts& texts) {
  BlockReference reference(block, Evaluation::kPolynomial);
  for (auto& text : texts) {
    PV_ASSIGN_OR_RETURN(text, reference.Read(text));
  }
  return {};
}

Result<BlockTexts> EmbedBehindPrefix(const Checkpoint& checkpoint, const std::vector<int>& prefix,
                                     const TokenLists& texts) {
  BlockTexts embedded;
  for (const auto& text : texts) {
    std::vector<std::int32_t> tokens(prefix.begin(), prefix.end());
    tokens.insert(tokens.end(), text.begin(), text.end());
    PV_ASSIGN_OR_RETURN(auto inputs, EmbedTokens(checkpoint, tokens));
    inputs.erase(inputs.begin(), inputs.begin() + static_cast<std::ptrdiff_t>(prefix.size()));
    embedded.push_back(std::move(inputs));
  }
  return embedded;
}

std::vector<int> BeginPrefix(const Architecture& a) {
  return a.begin_token && a.causal ? std::vector<int>{*a.begin_token} : std::vector<int>{};
}

Status FitLayer(LayerFitter& fitter, Block& block, int layer) {
  Status status = fitter.Fit(block);
  if (status.ok()) return status;
  return Error{status.error().code, fmt::format("layer {}: {}", layer, status.error().message)};
}

}  // namespace

namespace {

// A classifier with a smooth pooler, behind a last norm of its own.
bool HasHead(const Architecture& a) {
  return a.head == HeadKind::kClassifier && a.pooler == Pooler::kTanh &&
         a.form == BlockForm::kPostNorm;
}

bool LacksHead(const Checkpoint& checkpoint) {
  return checkpoint.forms && checkpoint.forms->stage == FormStage::kPolynomial &&
         !checkpoint.forms->head && HasHead(checkpoint.architecture);
}

// texts: what the last block leaves, whose norm is the head's first step.
Status FitHead(const Checkpoint& checkpoint, const BlockTexts& texts, const BlockFit& fit,
               ConvertedForms& forms) {
  PV_ASSIGN_OR_RETURN(const EncoderHead head, MakeHead(checkpoint));
  std::vector<std::vector<double>> tokens;
  for (const auto& text : texts)
    tokens.push_back(Normalised(forms.layers.back().norm2, text.front()));
  PV_ASSIGN_OR_RETURN(forms.head, FitHead(head, tokens, fit.margin, fit.activation_degree));
  return {};
}

Result<ConvertedForms> AddHead(std::shared_ptr<const Checkpoint> checkpoint, const FitTexts& texts,
                               const BlockFit& fit, const std::function<void(int, int)>& on_layer) {
  ConvertedForms forms = *checkpoint->forms;
  PV_ASSIGN_OR_RETURN(BlockTexts inputs, EmbedBehindPrefix(*checkpoint, {}, texts.calibration));
  for (int layer = 0; layer < checkpoint->architecture.n_layers; ++layer) {
    if (on_layer) on_layer(layer, checkpoint->architecture.n_layers);
    PV_ASSIGN_OR_RETURN(const Block block, MakeBlock(checkpoint, layer));
    PV_RETURN_IF_ERROR(Advance(block, inputs));
  }
  PV_RETURN_IF_ERROR(FitHead(*checkpoint, inputs, fit, forms));
  return forms;
}

}  // namespace

LayerFitter::LayerFitter(LayerInputs inputs, const BlockFit& fit)
    : inputs_(std::move(inputs)), fit_(fit) {
  for (const auto& text : inputs_.heldout) {
    out_of_range_.emplace_back(text.size());
    certificate_.heldout_positions += text.size();
  }
  if (!inputs_.heldout.empty()) certificate_.least_margin = INFINITY;
}

Status LayerFitter::Fit(Block& block) {
  if (!inputs_.prefix.empty()) PV_RETURN_IF_ERROR(SetPrefix(block, inputs_.prefix));
  PV_ASSIGN_OR_RETURN(block.forms, CalibrateBlock(block, inputs_.calibration, fit_));
  const LayerBounds& bounds = block.forms.bounds;
  largest_residual_ =
      std::max({largest_residual_, bounds.residual_in, bounds.residual_mid, bounds.residual_out});
  if (!inputs_.prefix.empty()) PV_RETURN_IF_ERROR(AdvancePrefix(block, inputs_.prefix));
  PV_RETURN_IF_ERROR(Advance(block, inputs_.calibration));
  return inputs_.heldout.empty() ? Status() : TryHeldout(block);
}

void LayerFitter::MarkOut(std::size_t text, std::size_t position) {
  if (!out_of_range_[text][position]) ++certificate_.heldout_out_of_range;
  out_of_range_[text][position] = true;
}

Status LayerFitter::TryHeldout(const Block& block) {
  BlockReference reference(block, Evaluation::kPolynomial);
  if (!block.shape.causal) return TryWholeTexts(block, reference);
  std::uint64_t escapes = 0;
  for (std::size_t i = 0; i < inputs_.heldout.size(); ++i) {
    auto& text = inputs_.heldout[i];
    reference.Reset();
    for (std::size_t position = 0; position < text.size(); ++position) {
      PV_ASSIGN_OR_RETURN(text[position], reference.Step(text[position]));
      const std::uint64_t now = CountEscapes(reference);
      if (now != std::exchange(escapes, now)) MarkOut(i, position);
      if (std::ranges::all_of(text[position], [](double v) { return std::isfinite(v); })) continue;
      // What sees a token that is no number is none either.
      for (std::size_t lost = position; lost < out_of_range_[i].size(); ++lost) MarkOut(i, lost);
      text.resize(position);
    }
  }
  certificate_.least_margin = std::min(certificate_.least_margin, LeastMargin(block, reference));
  return {};
}

// What one token's value spoils, all tokens of a bidirectional text see.
Status LayerFitter::TryWholeTexts(const Block& block, BlockReference& reference) {
  std::uint64_t escapes = 0;
  for (std::size_t i = 0; i < inputs_.heldout.size(); ++i) {
    auto& text = inputs_.heldout[i];
    PV_ASSIGN_OR_RETURN(text, reference.Read(text));
    const std::uint64_t now = CountEscapes(reference);
    if (now == std::exchange(escapes, now)) continue;
    for (std::size_t position = 0; position < text.size(); ++position) MarkOut(i, position);
    const auto finite = [](const auto& token) {
      return std::ranges::all_of(token, [](double v) { return std::isfinite(v); });
    };
    if (!std::ranges::all_of(text, finite)) text.clear();
  }
  certificate_.least_margin = std::min(certificate_.least_margin, LeastMargin(block, reference));
  return {};
}

Result<ConvertedForms> FitForms(std::shared_ptr<const Checkpoint> checkpoint, const FitTexts& texts,
                                const BlockFit& fit,
                                const std::function<void(int, int)>& on_layer) {
  if (LacksHead(*checkpoint)) return AddHead(std::move(checkpoint), texts, fit, on_layer);
  if (checkpoint->forms)
    return MakeError(ErrorCode::kInvalidArgument, "the model has forms.json of stage {}",
                     checkpoint->forms->stage == FormStage::kPower ? "power" : "polynomial");
  PV_ASSIGN_OR_RETURN(const BlockShape shape, ShapeOfBlocks(checkpoint->architecture));
  ConvertedForms forms;
  forms.stage = FormStage::kPolynomial;
  forms.power = shape.power;
  forms.attention_eps = shape.attention_eps;
  forms.prefix = texts.prefix.value_or(BeginPrefix(checkpoint->architecture));
  if (!shape.causal && !forms.prefix.empty())
    return MakeError(ErrorCode::kInvalidArgument, "a prefix of {} tokens, an encoder takes 0",
                     forms.prefix.size());
  PV_RETURN_IF_ERROR(CheckFormsSize(static_cast<std::size_t>(checkpoint->architecture.n_layers),
                                    forms.prefix.size()));
  LayerInputs inputs;
  if (!forms.prefix.empty()) {
    PV_ASSIGN_OR_RETURN(inputs.prefix, EmbedTokens(*checkpoint, forms.prefix));
  }
  PV_ASSIGN_OR_RETURN(inputs.calibration,
                      EmbedBehindPrefix(*checkpoint, forms.prefix, texts.calibration));
  PV_ASSIGN_OR_RETURN(inputs.heldout, EmbedBehindPrefix(*checkpoint, forms.prefix, texts.heldout));
  for (const TokenLists* some : {&texts.calibration, &texts.heldout})
    for (const auto& text : *some) forms.context = std::max(forms.context, int(text.size()));
  for (const auto& text : texts.calibration) forms.calibration.tokens += text.size();
  forms.calibration.margin = fit.margin;
  LayerFitter fitter(std::move(inputs), fit);
  for (int layer = 0; layer < checkpoint->architecture.n_layers; ++layer) {
    if (on_layer) on_layer(layer, checkpoint->architecture.n_layers);
    PV_ASSIGN_OR_RETURN(Block block, MakeBlock(checkpoint, layer));
    PV_RETURN_IF_ERROR(FitLayer(fitter, block, layer));
    forms.layers.push_back(std::move(block.forms));
  }
  if (HasHead(checkpoint->architecture))
    PV_RETURN_IF_ERROR(FitHead(*checkpoint, fitter.calibration(), fit, forms));
  forms.residual_bound = fit.margin * fitter.largest_residual();
  if (!texts.heldout.empty()) forms.certificate = fitter.certificate();
  return forms;
}

}  // namespace polyveil::model
