#include "model/certificate.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "model/strict_json.h"

namespace polyveil::model {
namespace {

using CountField = std::pair<const char*, std::uint64_t Certificate::*>;
using RatioField = std::pair<const char*, double Certificate::*>;
constexpr CountField kLeftOut = {"left_out_positions", &Certificate::left_out_positions};
constexpr CountField kCounts[] = {
    {"searched_inputs", &Certificate::searched_inputs},
    {"searched_positions", &Certificate::searched_positions},
    {"out_of_range", &Certificate::out_of_range},
    {"changed_tokens", &Certificate::changed_tokens},
    {"heldout_positions", &Certificate::heldout_positions},
    {"heldout_out_of_range", &Certificate::heldout_out_of_range},
};
constexpr RatioField kNumbers[] = {
    {"worst_outside", &Certificate::worst_outside},
    {"least_margin", &Certificate::least_margin},
};
constexpr const char* kPredicted = "predicted_logit_error";

// Errors and ratios: 0 and more.
Status CheckNumber(const std::string& where, const char* name, double value) {
  if (value >= 0 && std::isfinite(value)) return {};
  return MakeError(ErrorCode::kOutOfRange, "{}.{} = {}", where, name, value);
}

// `part` is a share of `all`.
Status CheckShare(const std::string& where, const char* part, std::uint64_t count, const char* all,
                  std::uint64_t of) {
  if (count <= of) return {};
  return MakeError(ErrorCode::kOutOfRange, "{}.{} = {} > {} {}", where, part, count, all, of);
}

}  // namespace

Certificate CertificateFromJson(const JsonReader& at) {
  Certificate out;
  for (const auto& [name, member] : kCounts) out.*member = at.Count(name);
  for (const auto& [name, member] : kNumbers) out.*member = at.Number(name);
  if (at.Has(kPredicted)) out.predicted_logit_error = at.Number(kPredicted);
  if (at.Has(kLeftOut.first)) out.*kLeftOut.second = at.Count(kLeftOut.first);
  return out;
}

nlohmann::ordered_json CertificateToJson(const Certificate& certificate) {
  nlohmann::ordered_json out;
  for (const auto& [name, member] : kCounts) out[name] = certificate.*member;
  out[kLeftOut.first] = certificate.*kLeftOut.second;
  for (const auto& [name, member] : kNumbers) out[name] = certificate.*member;
  if (certificate.predicted_logit_error) out[kPredicted] = *certificate.predicted_logit_error;
  return out;
}

Status ValidateCertificate(const Certificate& c, const std::string& where) {
  PV_RETURN_IF_ERROR(
      CheckShare(where, "out_of_range", c.out_of_range, "searched_inputs", c.searched_inputs));
  PV_RETURN_IF_ERROR(CheckShare(where, "changed_tokens", c.changed_tokens, "searched_positions",
                                c.searched_positions));
  PV_RETURN_IF_ERROR(CheckShare(where, "heldout_out_of_range", c.heldout_out_of_range,
                                "heldout_positions", c.heldout_positions));
  for (const auto& [name, member] : kNumbers)
    PV_RETURN_IF_ERROR(CheckNumber(where, name, c.*member));
  if (c.predicted_logit_error)
    PV_RETURN_IF_ERROR(CheckNumber(where, kPredicted, *c.predicted_logit_error));
  if (c.worst_outside < 1)
    return MakeError(ErrorCode::kOutOfRange, "{}.worst_outside = {} < 1", where, c.worst_outside);
  if (!(c.least_margin > 0))
    return MakeError(ErrorCode::kOutOfRange, "{}.least_margin = {}", where, c.least_margin);
  return {};
}

Status CheckPredictedError(const std::optional<Certificate>& certificate, double largest) {
  if (!certificate || !certificate->predicted_logit_error ||
      *certificate->predicted_logit_error <= largest)
    return {};
  return MakeError(
      ErrorCode::kOutOfRange,
      "the predicted error of the encrypted logits is {:.3g} > {:.3g}: tokens would be "
      "wrong without notice (--largest-error accepts more)",
      *certificate->predicted_logit_error, largest);
}

std::string CertificateToText(const std::optional<Certificate>& certificate) {
  if (!certificate) return "certificate none: what leaves this model's intervals is not known";
  const Certificate& c = *certificate;
  const bool overflow = c.worst_outside >= kOverflowRatio;
  std::string search = "no search for worse inputs";
  if (c.searched_inputs > 0)
    search = fmt::format(
        "{} inputs searched ({} positions): {} out of range, worst {}, {} changed next tokens",
        c.searched_inputs, c.searched_positions, c.out_of_range,
        overflow ? "an overflow" : fmt::format("{:.3g}", c.worst_outside), c.changed_tokens);
  std::string text =
      fmt::format("certificate {}; {}; held-out text {} of {} positions out of range", search,
                  overflow ? "no margin" : fmt::format("least margin {:.3g}", c.least_margin),
                  c.heldout_out_of_range, c.heldout_positions);
  if (c.left_out_positions > 0)
    text += fmt::format("; {} calibration positions left out of the bounds", c.left_out_positions);
  if (!c.predicted_logit_error) return text + "; no error of the logits predicted";
  return text + fmt::format("; predicted logit error {:.2g}", *c.predicted_logit_error);
}

}  // namespace polyveil::model
