#include "train/distil/fit.h"

#include <algorithm>
#include <cmath>

#include "model/block.h"

namespace polyveil::train {
namespace {

approx::Function ExactActivation(model::Activation activation) {
  const auto of_blocks = [](model::BlockActivation kind) {
    return [kind](double x) { return model::Activate(kind, x); };
  };
  switch (activation) {
    case model::Activation::kGelu:
      return of_blocks(model::BlockActivation::kGelu);
    case model::Activation::kGeluTanh:
      return of_blocks(model::BlockActivation::kGeluTanh);
    case model::Activation::kSilu:
      return of_blocks(model::BlockActivation::kSilu);
    case model::Activation::kRelu:
      return [](double x) { return std::max(0.0, x); };
  }
  return {};
}

Result<SiteChoice> ChooseSite(const ReleasedModel& model, const SiteRanges& ranges,
                              const std::string& key, const std::string& site,
                              const ConvertOptions& options) {
  if (key == "activation") {
    const auto exact = ExactActivation(model.architecture().activation);
    return ChooseActivation(ranges, site, exact, options);
  }
  const bool divisor = key == "divisor_inverse";
  return ChooseInverse(ranges, site,
                       divisor ? approx::Target::kInverse : approx::Target::kInverseRoot,
                       divisor ? model.forms.eps : model.architecture().norm_eps,
                       divisor ? options.divisor_error : options.norm_error, options);
}

Result<LayerPolynomials> ChooseLayer(const ReleasedModel& model, const SiteRanges& ranges,
                                     int index, const ConvertOptions& options,
                                     std::vector<SiteChoice>& choices) {
  LayerPolynomials layer;
  layer.activation.emplace();
  Status status;
  VisitPolynomials(layer, [&](const std::string& key, const char* site, approx::Approximant& p) {
    if (!status.ok()) return;
    auto choice =
        ChooseSite(model, ranges, key, fmt::format("layer {} / {}", index, site), options);
    if (!choice.ok()) return (void)(status = choice.error());
    p = choice->chosen.polynomial;
    choices.push_back(*std::move(choice));
  });
  PV_RETURN_IF_ERROR(status);
  return layer;
}

}  // namespace

Result<Conversion> ChooseReleasedPolynomials(const ReleasedModel& model, const SiteRanges& ranges,
                                             const ConvertOptions& options) {
  Conversion out;
  for (int i = 0; i < model.architecture().n_layers; ++i) {
    PV_ASSIGN_OR_RETURN(LayerPolynomials layer,
                        ChooseLayer(model, ranges, i, options, out.choices));
    out.polynomials.push_back(std::move(layer));
  }
  return out;
}

}  // namespace polyveil::train
