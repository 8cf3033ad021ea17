#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/approximant_json.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::ordered_json;
constexpr const char* kFormat = "polyveil-model/1";
constexpr const char* kArchitecture = "power-softmax-decoder";
constexpr int kMaxDegree = 127;

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

Approximant ReadApproximant(const JsonReader& at, const char* key) {
  const JsonReader::Json* field = at.Find(key);
  if (!field) return {};
  auto p = ApproximantFromJson(*field, key);
  if (p.ok()) return *std::move(p);
  at.Fail(key, p.error().message.c_str());
  return {};
}

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

LayerConfig ReadLayer(const JsonReader& at) {
  LayerConfig layer;
  layer.norm1 = ReadApproximant(at, "norm1");
  layer.divisor_inverse = ReadApproximant(at, "divisor_inverse");
  layer.norm2 = ReadApproximant(at, "norm2");
  if (at.Has("activation")) layer.activation = ReadApproximant(at, "activation");
  layer.kappa = at.Numbers("kappa");
  layer.shift = at.Numbers("shift");
  const JsonReader bounds = at.Object("bounds"), seen = at.Object("seen");
  for (const auto& [name, member] : kBoundFields) layer.bounds.*member = bounds.Number(name);
  layer.norm1_seen = ReadSeen(seen.Object("norm1"));
  layer.divisor_seen = ReadSeen(seen.Object("divisor"));
  layer.norm2_seen = ReadSeen(seen.Object("norm2"));
  if (at.Has("attention")) layer.attention = ReadAttention(at.Object("attention"));
  return layer;
}

Json ToJson(const ObservedInterval& seen) { return {{"lo", seen.lo}, {"hi", seen.hi}}; }

bool IsDefault(const AttentionForm& form) {
  return form.kind == AttentionKind::kPower && form.mean && form.powers.empty() && !form.qk_norm;
}

Json ToJson(const AttentionForm& form) {
  Json out = {{"kind", AttentionKindName(form.kind)}, {"mean", form.mean}};
  if (!form.powers.empty()) out["powers"] = form.powers;
  if (form.exponential) {
    out["exponential"] = ApproximantToJson(*form.exponential);
    out["squarings"] = form.squarings;
    out["rounds"] = Json::array();
    for (const Approximant& round : form.rounds) out["rounds"].push_back(ApproximantToJson(round));
  }
  if (form.qk_norm)
    out["qk_norm"] = {{"query_root", ApproximantToJson(form.qk_norm->query_root)},
                      {"key_root", ApproximantToJson(form.qk_norm->key_root)},
                      {"gain", form.qk_norm->gain}};
  return out;
}

Json ToJson(const LayerConfig& layer) {
  Json out;
  out["norm1"] = ApproximantToJson(layer.norm1);
  out["divisor_inverse"] = ApproximantToJson(layer.divisor_inverse);
  out["norm2"] = ApproximantToJson(layer.norm2);
  if (layer.activation) out["activation"] = ApproximantToJson(*layer.activation);
  out["kappa"] = layer.kappa;
  out["shift"] = layer.shift;
  for (const auto& [name, member] : kBoundFields) out["bounds"][name] = layer.bounds.*member;
  out["seen"] = {{"norm1", ToJson(layer.norm1_seen)},
                 {"divisor", ToJson(layer.divisor_seen)},
                 {"norm2", ToJson(layer.norm2_seen)}};
  if (!IsDefault(layer.attention)) out["attention"] = ToJson(layer.attention);
  return out;
}

ModelConfig ReadConfig(const JsonReader& at) {
  ModelConfig c;
  c.n_layers = at.Int("n_layers");
  c.d_model = at.Int("d_model");
  c.n_heads = at.Int("n_heads");
  c.d_head = at.Int("d_head");
  c.d_ff = at.Int("d_ff");
  const std::string ffn = at.Text("ffn");
  if (ffn != "bilinear" && ffn != "gelu") at.Fail("ffn", "is neither bilinear nor gelu");
  c.ffn = ffn == "gelu" ? FeedForwardKind::kGelu : FeedForwardKind::kBilinear;
  c.vocab_size = at.Int("vocab_size");
  c.context = at.Int("context");
  c.power = at.Int("power");
  c.attention_eps = at.Number("attention_eps");
  c.norm_eps = at.Number("norm_eps");
  c.final_norm_eps = at.Number("final_norm_eps");
  c.residual_bound = at.Number("residual_bound");
  const JsonReader calibration = at.Object("calibration");
  c.calibration = {calibration.Count("tokens"), calibration.Number("margin")};
  c.tensors_sha256 = at.Text("tensors_sha256");
  return c;
}

void ReadLayers(const JsonReader& at, const JsonReader::Json& json, std::string& error,
                ModelConfig& config) {
  const auto layers = json.find("layers");
  if (layers == json.end() || !layers->is_array() || layers->size() > 256)
    return at.Fail("layers", "is no array of at most 256");
  for (std::size_t i = 0; i < layers->size(); ++i) {
    const std::string where = fmt::format("model.layers[{}]", i);
    if (!(*layers)[i].is_object()) {
      if (error.empty()) error = where + " is no object";
      return;
    }
    config.layers.push_back(ReadLayer(JsonReader((*layers)[i], where, error)));
  }
}

Status CheckSizes(const ModelConfig& c) {
  const auto in = [](const char* name, int value, int lo, int hi) -> Status {
    if (value >= lo && value <= hi) return {};
    return MakeError(ErrorCode::kOutOfRange, "model.{} = {}, not in {}..{}", name, value, lo, hi);
  };
  PV_RETURN_IF_ERROR(in("n_layers", c.n_layers, 1, 256));
  PV_RETURN_IF_ERROR(in("d_model", c.d_model, 1, 16384));
  PV_RETURN_IF_ERROR(in("n_heads", c.n_heads, 1, 256));
  PV_RETURN_IF_ERROR(in("d_head", c.d_head, 1, 16384));
  PV_RETURN_IF_ERROR(in("d_ff", c.d_ff, 1, 65536));
  PV_RETURN_IF_ERROR(in("vocab_size", c.vocab_size, 2, 1 << 20));
  PV_RETURN_IF_ERROR(in("context", c.context, 2, 1 << 16));
  PV_RETURN_IF_ERROR(in("power", c.power, 2, 12));
  if (c.power % 2 != 0)
    return MakeError(ErrorCode::kOutOfRange, "model.power = {} is odd", c.power);
  if (c.d_model != c.n_heads * c.d_head)
    return MakeError(ErrorCode::kMismatch, "model.d_model = {} != n_heads {} x d_head {}",
                     c.d_model, c.n_heads, c.d_head);
  if (static_cast<int>(c.layers.size()) != c.n_layers)
    return MakeError(ErrorCode::kMismatch, "model.layers has {} entries, n_layers = {}",
                     c.layers.size(), c.n_layers);
  return {};
}

Status CheckPolynomial(const Approximant& p, const std::string& where) {
  PV_RETURN_IF_ERROR(approx::Validate(p, where));
  if (p.degree() > kMaxDegree)
    return MakeError(ErrorCode::kOutOfRange, "{}: degree {} > {}", where, p.degree(), kMaxDegree);
  return {};
}

Status CheckLayer(const ModelConfig& c, int index) {
  const LayerConfig& layer = c.layers[static_cast<std::size_t>(index)];
  const std::string where = fmt::format("model.layers[{}]", index);
  PV_RETURN_IF_ERROR(CheckPolynomial(layer.norm1, where + ".norm1"));
  PV_RETURN_IF_ERROR(CheckPolynomial(layer.divisor_inverse, where + ".divisor_inverse"));
  PV_RETURN_IF_ERROR(CheckPolynomial(layer.norm2, where + ".norm2"));
  if (layer.activation.has_value() != (c.ffn == FeedForwardKind::kGelu))
    return MakeError(ErrorCode::kMismatch, "{}.activation is {}, ffn is {}", where,
                     layer.activation ? "present" : "missing", FeedForwardName(c.ffn));
  if (layer.activation)
    PV_RETURN_IF_ERROR(CheckPolynomial(*layer.activation, where + ".activation"));
  PV_RETURN_IF_ERROR(Validate(layer.attention, c.n_heads, where + ".attention"));
  for (const auto* values : {&layer.kappa, &layer.shift})
    if (static_cast<int>(values->size()) != c.n_heads)
      return MakeError(ErrorCode::kMismatch, "{}.{} has {} values, n_heads = {}", where,
                       values == &layer.kappa ? "kappa" : "shift", values->size(), c.n_heads);
  for (const double kappa : layer.kappa)
    if (!(kappa > 0) || !std::isfinite(kappa))
      return MakeError(ErrorCode::kOutOfRange, "{}.kappa holds {}", where, kappa);
  return {};
}

}  // namespace

int HeadPower(const ModelConfig& config, int layer, int head) {
  const auto& powers = config.layers[static_cast<std::size_t>(layer)].attention.powers;
  return powers.empty() ? config.power : powers[static_cast<std::size_t>(head)];
}

const char* FeedForwardName(FeedForwardKind kind) {
  return kind == FeedForwardKind::kGelu ? "gelu" : "bilinear";
}

Status ValidateModelConfig(const ModelConfig& config) {
  PV_RETURN_IF_ERROR(CheckSizes(config));
  for (const double eps : {config.attention_eps, config.norm_eps, config.final_norm_eps})
    if (!(eps >= 0 && eps < 1))
      return MakeError(ErrorCode::kOutOfRange, "model: an eps is {}, not in [0, 1)", eps);
  if (!(config.residual_bound > 0) || !std::isfinite(config.residual_bound))
    return MakeError(ErrorCode::kOutOfRange, "model.residual_bound = {}", config.residual_bound);
  for (int layer = 0; layer < config.n_layers; ++layer)
    PV_RETURN_IF_ERROR(CheckLayer(config, layer));
  return {};
}

Result<ModelConfig> ParseModelConfig(std::string_view text) {
  const auto json = JsonReader::Json::parse(text, nullptr, false);
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "model.json: no JSON object");
  std::string error;
  const JsonReader at(json, "model", error);
  if (const std::string format = at.Text("format"); error.empty() && format != kFormat)
    return MakeError(ErrorCode::kMismatch, "model.format = \"{}\", not \"{}\"", format, kFormat);
  if (const std::string arch = at.Text("arch"); error.empty() && arch != kArchitecture)
    return MakeError(ErrorCode::kMismatch, "model.arch = \"{}\", not \"{}\"", arch, kArchitecture);
  ModelConfig config = ReadConfig(at);
  ReadLayers(at, json, error, config);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "model.json: {}", error);
  PV_RETURN_IF_ERROR(ValidateModelConfig(config));
  return config;
}

std::string FormatModelConfig(const ModelConfig& c) {
  Json out;
  out["format"] = kFormat;
  out["arch"] = kArchitecture;
  out["n_layers"] = c.n_layers;
  out["d_model"] = c.d_model;
  out["n_heads"] = c.n_heads;
  out["d_head"] = c.d_head;
  out["d_ff"] = c.d_ff;
  out["ffn"] = FeedForwardName(c.ffn);
  out["vocab_size"] = c.vocab_size;
  out["context"] = c.context;
  out["power"] = c.power;
  out["attention_eps"] = c.attention_eps;
  out["norm_eps"] = c.norm_eps;
  out["final_norm_eps"] = c.final_norm_eps;
  out["residual_bound"] = c.residual_bound;
  out["layers"] = Json::array();
  for (const LayerConfig& layer : c.layers) out["layers"].push_back(ToJson(layer));
  out["calibration"] = {{"tokens", c.calibration.tokens}, {"margin", c.calibration.margin}};
  out["tensors_sha256"] = c.tensors_sha256;
  return out.dump(1) + "\n";
}

}  // namespace polyveil::model
