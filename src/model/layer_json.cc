#include "model/layer_json.h"

#include <cmath>

#include "model/approximant_json.h"

namespace polyveil::model {
namespace {

using OrderedJson = nlohmann::ordered_json;

using BoundField = std::pair<const char*, double LayerBounds::*>;
constexpr BoundField kBoundFields[] = {
    {"query", &LayerBounds::query},
    {"key", &LayerBounds::key},
    {"value", &LayerBounds::value},
    {"query_raw", &LayerBounds::query_raw},
    {"key_raw", &LayerBounds::key_raw},
    {"value_raw", &LayerBounds::value_raw},
    {"score", &LayerBounds::score},
    {"power", &LayerBounds::power},
    {"weight", &LayerBounds::weight},
    {"head_out", &LayerBounds::head_out},
    {"attn_out", &LayerBounds::attn_out},
    {"hidden", &LayerBounds::hidden},
    {"product", &LayerBounds::product},
    {"ffn_raw", &LayerBounds::ffn_raw},
    {"ffn_out", &LayerBounds::ffn_out},
    {"residual_in", &LayerBounds::residual_in},
    {"residual_mid", &LayerBounds::residual_mid},
    {"residual_out", &LayerBounds::residual_out},
    {"inverse_root", &LayerBounds::inverse_root},
    {"divisor_inverse", &LayerBounds::divisor_inverse},
    {"ffn_scale", &LayerBounds::ffn_scale},
};

using ExponentField = std::pair<const char*, std::vector<int> LayerBounds::*>;
constexpr ExponentField kExponentFields[] = {{"mid_exponents", &LayerBounds::mid_exponents},
                                             {"out_exponents", &LayerBounds::out_exponents}};

std::vector<int> ReadExponents(const JsonReader& at, const char* name) {
  std::vector<int> exponents;
  if (!at.Has(name)) return exponents;
  for (const double e : at.Numbers(name)) {
    if (!(e >= 0 && e <= kMaxChannelExponent) || e != std::floor(e)) {
      at.Fail(name, fmt::format("holds {}, no integer of 0..{}", e, kMaxChannelExponent));
      return exponents;
    }
    exponents.push_back(static_cast<int>(e));
  }
  return exponents;
}

}  // namespace

Approximant ReadApproximant(const JsonReader& at, const char* key) {
  const JsonReader::Json* field = at.Find(key);
  if (!field) return {};
  auto p = ApproximantFromJson(*field, key);
  if (p.ok()) return *std::move(p);
  at.Fail(key, p.error().message.c_str());
  return {};
}

namespace {

ObservedInterval ReadSeen(const JsonReader& at) { return {at.Number("lo"), at.Number("hi")}; }

// A layer without the field has the model's power on every head, mean form.
AttentionForm ReadAttention(const JsonReader& at) {
  AttentionForm form;
  const auto kind = ParseAttentionKind(at.Text("kind"));
  kind.ok() ? (void)(form.kind = *kind) : at.Fail("kind", "is no known kind");
  form.mean = at.Bool("mean");
  if (at.Has("powers"))
    for (const double power : at.Numbers("powers")) form.powers.push_back(static_cast<int>(power));
  if (at.Has("exponential")) {
    form.exponential = ReadApproximant(at, "exponential");
    form.squarings = at.Int("squarings");
    if (const JsonReader::Json* rounds = at.Find("rounds"); rounds && rounds->is_array())
      for (const JsonReader::Json& round : *rounds) {
        auto p = ApproximantFromJson(round, "rounds");
        p.ok() ? (void)form.rounds.push_back(*std::move(p)) : at.Fail("rounds", "is no list");
      }
  }
  if (at.Has("qk_norm")) {
    const JsonReader norm = at.Object("qk_norm");
    form.qk_norm = QkNorm{ReadApproximant(norm, "query_root"), ReadApproximant(norm, "key_root"),
                          norm.Numbers("gain")};
  }
  return form;
}

OrderedJson ToJson(const ObservedInterval& seen) { return {{"lo", seen.lo}, {"hi", seen.hi}}; }

bool IsDefault(const AttentionForm& form) {
  return form.kind == AttentionKind::kPower && form.mean && form.powers.empty() && !form.qk_norm;
}

OrderedJson ToJson(const AttentionForm& form) {
  OrderedJson out = {{"kind", AttentionKindName(form.kind)}, {"mean", form.mean}};
  if (!form.powers.empty()) out["powers"] = form.powers;
  if (form.exponential) {
    out["exponential"] = ApproximantToJson(*form.exponential);
    out["squarings"] = form.squarings;
    out["rounds"] = OrderedJson::array();
    for (const Approximant& round : form.rounds) out["rounds"].push_back(ApproximantToJson(round));
  }
  if (form.qk_norm)
    out["qk_norm"] = {{"query_root", ApproximantToJson(form.qk_norm->query_root)},
                      {"key_root", ApproximantToJson(form.qk_norm->key_root)},
                      {"gain", form.qk_norm->gain}};
  return out;
}

void AddPolynomials(const LayerConfig& layer, OrderedJson& out) {
  out["norm1"] = ApproximantToJson(layer.norm1);
  out["divisor_inverse"] = ApproximantToJson(layer.divisor_inverse);
  out["norm2"] = ApproximantToJson(layer.norm2);
  if (layer.activation) out["activation"] = ApproximantToJson(*layer.activation);
}

void AddBounds(const LayerConfig& layer, OrderedJson& out) {
  for (const auto& [name, member] : kBoundFields) out["bounds"][name] = layer.bounds.*member;
  for (const auto& [name, member] : kExponentFields)
    if (!(layer.bounds.*member).empty()) out["bounds"][name] = layer.bounds.*member;
  out["seen"] = {{"norm1", ToJson(layer.norm1_seen)},
                 {"divisor", ToJson(layer.divisor_seen)},
                 {"norm2", ToJson(layer.norm2_seen)}};
}

Status CheckPolynomial(const Approximant& p, const std::string& where) {
  PV_RETURN_IF_ERROR(approx::Validate(p, where));
  if (p.degree() > kMaxDegree)
    return MakeError(ErrorCode::kOutOfRange, "{}: degree {} > {}", where, p.degree(), kMaxDegree);
  return {};
}

Status CheckPolynomials(const LayerConfig& layer, bool activation, const std::string& where) {
  PV_RETURN_IF_ERROR(CheckPolynomial(layer.norm1, where + ".norm1"));
  PV_RETURN_IF_ERROR(CheckPolynomial(layer.divisor_inverse, where + ".divisor_inverse"));
  PV_RETURN_IF_ERROR(CheckPolynomial(layer.norm2, where + ".norm2"));
  if (layer.activation.has_value() != activation)
    return MakeError(ErrorCode::kMismatch, "{}.activation is {}, the feed-forward wants {}", where,
                     layer.activation ? "present" : "missing", activation ? "one" : "none");
  if (!layer.activation) return {};
  return CheckPolynomial(*layer.activation, where + ".activation");
}

Status CheckBounds(const LayerConfig& layer, const std::string& where) {
  for (const auto& [name, member] : kBoundFields)
    if (!(layer.bounds.*member >= 0) || !std::isfinite(layer.bounds.*member))
      return MakeError(ErrorCode::kOutOfRange, "{}.bounds.{} = {}", where, name,
                       layer.bounds.*member);
  for (const auto& [name, seen] :
       {std::pair{"norm1", &layer.norm1_seen}, std::pair{"divisor", &layer.divisor_seen},
        std::pair{"norm2", &layer.norm2_seen}})
    if (!(seen->lo <= seen->hi) || !std::isfinite(seen->lo) || !std::isfinite(seen->hi))
      return MakeError(ErrorCode::kOutOfRange, "{}.seen.{} = [{}, {}]", where, name, seen->lo,
                       seen->hi);
  return {};
}

}  // namespace

LayerConfig LayerFromJson(const JsonReader& at, LayerFields fields) {
  LayerConfig layer;
  layer.kappa = at.Numbers("kappa");
  layer.shift = at.Numbers("shift");
  if (at.Has("attention")) layer.attention = ReadAttention(at.Object("attention"));
  if (fields == LayerFields::kAttention) return layer;
  layer.norm1 = ReadApproximant(at, "norm1");
  layer.divisor_inverse = ReadApproximant(at, "divisor_inverse");
  layer.norm2 = ReadApproximant(at, "norm2");
  if (at.Has("activation")) layer.activation = ReadApproximant(at, "activation");
  const JsonReader bounds = at.Object("bounds"), seen = at.Object("seen");
  for (const auto& [name, member] : kBoundFields) layer.bounds.*member = bounds.Number(name);
  for (const auto& [name, member] : kExponentFields)
    layer.bounds.*member = ReadExponents(bounds, name);
  layer.norm1_seen = ReadSeen(seen.Object("norm1"));
  layer.divisor_seen = ReadSeen(seen.Object("divisor"));
  layer.norm2_seen = ReadSeen(seen.Object("norm2"));
  return layer;
}

OrderedJson LayerToJson(const LayerConfig& layer, LayerFields fields) {
  OrderedJson out;
  if (fields == LayerFields::kAll) AddPolynomials(layer, out);
  out["kappa"] = layer.kappa;
  out["shift"] = layer.shift;
  if (fields == LayerFields::kAll) AddBounds(layer, out);
  if (!IsDefault(layer.attention)) out["attention"] = ToJson(layer.attention);
  return out;
}

Status ValidateLayer(const LayerConfig& layer, int n_heads, bool activation, LayerFields fields,
                     const std::string& where) {
  if (fields == LayerFields::kAll) {
    PV_RETURN_IF_ERROR(CheckPolynomials(layer, activation, where));
    PV_RETURN_IF_ERROR(CheckBounds(layer, where));
  }
  PV_RETURN_IF_ERROR(Validate(layer.attention, n_heads, where + ".attention"));
  for (const auto* values : {&layer.kappa, &layer.shift})
    if (static_cast<int>(values->size()) != n_heads)
      return MakeError(ErrorCode::kMismatch, "{}.{} has {} values, n_heads = {}", where,
                       values == &layer.kappa ? "kappa" : "shift", values->size(), n_heads);
  for (const double kappa : layer.kappa)
    if (!(kappa > 0) || !std::isfinite(kappa))
      return MakeError(ErrorCode::kOutOfRange, "{}.kappa holds {}", where, kappa);
  return {};
}

Status ValidateExponents(const LayerBounds& bounds, int d_model, const std::string& where) {
  for (const auto& [name, member] : kExponentFields) {
    const std::vector<int>& exponents = bounds.*member;
    if (!exponents.empty() && static_cast<int>(exponents.size()) != d_model)
      return MakeError(ErrorCode::kMismatch, "{}.bounds.{} has {} values, d_model = {}", where,
                       name, exponents.size(), d_model);
    for (const int e : exponents)
      if (e < 0 || e > kMaxChannelExponent)
        return MakeError(ErrorCode::kOutOfRange, "{}.bounds.{} holds {}, outside 0..{}", where,
                         name, e, kMaxChannelExponent);
  }
  return {};
}

}  // namespace polyveil::model
