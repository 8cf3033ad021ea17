#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/layer_json.h"
#include "model/ngram.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

using OrderedJson = nlohmann::ordered_json;
constexpr const char* kModelFormat = "polyveil-model/1";
constexpr const char* kArchitecture = "power-softmax-decoder";

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
  if (at.Given("ngram_rows"))
    for (const double rows : at.Numbers("ngram_rows")) {
      if (rows != std::floor(rows) || rows < 1 || rows > kMaxNgramRows)
        at.Fail("ngram_rows", fmt::format("holds {}, no count in 1..{}", rows, kMaxNgramRows));
      c.ngram_rows.push_back(static_cast<int>(std::clamp<double>(rows, 1, kMaxNgramRows)));
    }
  c.power = at.Int("power");
  c.attention_eps = at.Number("attention_eps");
  c.norm_eps = at.Number("norm_eps");
  c.final_norm_eps = at.Number("final_norm_eps");
  c.residual_bound = at.Number("residual_bound");
  const JsonReader calibration = at.Object("calibration");
  c.calibration = {calibration.Count("tokens"), calibration.Number("margin")};
  if (at.Has("certificate")) {
    const JsonReader certificate = at.Object("certificate");
    c.certificate = CertificateFromJson(certificate);
    c.certificate->predicted_logit_error = certificate.Number("predicted_logit_error");
  }
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
    config.layers.push_back(
        LayerFromJson(JsonReader((*layers)[i], where, error), LayerFields::kAll));
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
  if (c.ngram_rows.size() > kLargestNgram - kSmallestNgram + 1)
    return MakeError(ErrorCode::kOutOfRange, "model.ngram_rows has {} entries > {}",
                     c.ngram_rows.size(), kLargestNgram - kSmallestNgram + 1);
  for (const int rows : c.ngram_rows) PV_RETURN_IF_ERROR(in("ngram_rows", rows, 1, kMaxNgramRows));
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

Status CheckLayer(const ModelConfig& c, int index) {
  return ValidateLayer(c.layers[static_cast<std::size_t>(index)], c.n_heads,
                       c.ffn == FeedForwardKind::kGelu, LayerFields::kAll,
                       fmt::format("model.layers[{}]", index));
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
  if (config.certificate)
    PV_RETURN_IF_ERROR(ValidateCertificate(*config.certificate, "model.certificate"));
  return {};
}

Result<ModelConfig> ParseModelConfig(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(text, "model.json", {16 << 20, 16}));
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "model.json: no JSON object");
  std::string error;
  const JsonReader at(json, "model", error);
  if (const std::string format = at.Text("format"); error.empty() && format != kModelFormat)
    return MakeError(ErrorCode::kMismatch, "model.format = \"{}\", not \"{}\"", format,
                     kModelFormat);
  if (const std::string arch = at.Text("arch"); error.empty() && arch != kArchitecture)
    return MakeError(ErrorCode::kMismatch, "model.arch = \"{}\", not \"{}\"", arch, kArchitecture);
  ModelConfig config = ReadConfig(at);
  ReadLayers(at, json, error, config);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "model.json: {}", error);
  PV_RETURN_IF_ERROR(ValidateModelConfig(config));
  return config;
}

std::string FormatModelConfig(const ModelConfig& c) {
  OrderedJson out;
  out["format"] = kModelFormat;
  out["arch"] = kArchitecture;
  out["n_layers"] = c.n_layers;
  out["d_model"] = c.d_model;
  out["n_heads"] = c.n_heads;
  out["d_head"] = c.d_head;
  out["d_ff"] = c.d_ff;
  out["ffn"] = FeedForwardName(c.ffn);
  out["vocab_size"] = c.vocab_size;
  if (!c.ngram_rows.empty()) out["ngram_rows"] = c.ngram_rows;
  out["context"] = c.context;
  out["power"] = c.power;
  out["attention_eps"] = c.attention_eps;
  out["norm_eps"] = c.norm_eps;
  out["final_norm_eps"] = c.final_norm_eps;
  out["residual_bound"] = c.residual_bound;
  out["layers"] = OrderedJson::array();
  for (const LayerConfig& layer : c.layers)
    out["layers"].push_back(LayerToJson(layer, LayerFields::kAll));
  out["calibration"] = {{"tokens", c.calibration.tokens}, {"margin", c.calibration.margin}};
  if (c.certificate) out["certificate"] = CertificateToJson(*c.certificate);
  out["tensors_sha256"] = c.tensors_sha256;
  return out.dump(1) + "\n";
}

}  // namespace polyveil::model
