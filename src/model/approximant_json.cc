#include "model/approximant_json.h"

#include <array>
#include <cmath>

namespace polyveil::model {
namespace {

using approx::Approximant;
using approx::Chebyshev;
using approx::Refinement;
using OrderedJson = nlohmann::ordered_json;
constexpr std::size_t kMaxCoefficients = 4096;
constexpr std::array kRefinements = {Refinement::kNone, Refinement::kGoldschmidt,
                                     Refinement::kNewton, Refinement::kComposite};

Chebyshev SeriesFrom(const OrderedJson& json) {
  return {json.at("a").get<double>(), json.at("b").get<double>(),
          json.at("coeffs").get<std::vector<double>>()};
}

OrderedJson SeriesToJson(const Chebyshev& p) {
  return {{"a", p.a}, {"b", p.b}, {"coeffs", p.coeffs}};
}

Status CheckSeries(const Chebyshev& p, const std::string& where) {
  if (p.coeffs.size() > kMaxCoefficients)
    return MakeError(ErrorCode::kCorrupt, "{}: {} coefficients > {}", where, p.coeffs.size(),
                     kMaxCoefficients);
  bool finite = std::isfinite(p.a) && std::isfinite(p.b);
  for (const double c : p.coeffs) finite = finite && std::isfinite(c);
  if (finite) return {};
  return MakeError(ErrorCode::kCorrupt, "{}: a value is no finite number", where);
}

Status ReadRefinement(const OrderedJson& json, const std::string& where, Approximant& p) {
  const auto name = json.at("refinement").get<std::string>();
  for (const Refinement refinement : kRefinements)
    if (name == approx::RefinementName(refinement)) p.refinement = refinement;
  if (name != approx::RefinementName(p.refinement))
    return MakeError(ErrorCode::kCorrupt, "{}.refinement \"{}\" is not known", where, name);
  p.order = json.at("order").get<double>();
  p.shift = json.at("shift").get<double>();
  p.steps = json.at("steps").get<int>();
  if (p.refinement != Refinement::kComposite) return {};
  p.correction = SeriesFrom(json.at("correction"));
  return CheckSeries(p.correction, where + ".correction");
}

}  // namespace

OrderedJson ApproximantToJson(const Approximant& p) {
  OrderedJson out = SeriesToJson(p);
  if (p.refinement == Refinement::kNone) return out;
  out["refinement"] = approx::RefinementName(p.refinement);
  out["order"] = p.order;
  out["shift"] = p.shift;
  out["steps"] = p.steps;
  if (p.refinement == Refinement::kComposite) out["correction"] = SeriesToJson(p.correction);
  return out;
}

Result<Approximant> ApproximantFromJson(const OrderedJson& json, const std::string& where) {
  try {
    Approximant p(SeriesFrom(json));
    PV_RETURN_IF_ERROR(CheckSeries(p, where));
    if (json.contains("refinement")) PV_RETURN_IF_ERROR(ReadRefinement(json, where, p));
    return p;
  } catch (const OrderedJson::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", where, error.what());
  }
}

}  // namespace polyveil::model
