#include "model/formats/forms.h"

#include <cmath>
#include <filesystem>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "model/approximant_json.h"
#include "model/formats/architecture.h"
#include "model/layer_json.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

using OrderedJson = nlohmann::ordered_json;

constexpr const char* kFormsFormat = "polyveil-converted/1";
constexpr std::size_t kMaxPrefix = 64, kMaxFormLayers = 256;
constexpr JsonLimits kFormsLimits{64 << 20, 16};

const char* StageName(FormStage stage) {
  return stage == FormStage::kPower ? "power" : "polynomial";
}

LayerFields FieldsOf(FormStage stage) {
  return stage == FormStage::kPower ? LayerFields::kAttention : LayerFields::kAll;
}

void ReadLayers(const JsonReader& at, std::string& error, ConvertedForms& forms) {
  const JsonReader::Json* layers = at.Find("layers");
  if (!layers) return;
  if (!layers->is_array() || layers->size() > kMaxFormLayers)
    return at.Fail("layers", fmt::format("is no array of at most {}", kMaxFormLayers));
  for (std::size_t i = 0; i < layers->size(); ++i)
    forms.layers.push_back(
        LayerFromJson(JsonReader((*layers)[i], fmt::format("forms.layers[{}]", i), error),
                      FieldsOf(forms.stage)));
}

void ReadPrefix(const JsonReader& at, ConvertedForms& forms) {
  for (const double token : at.Numbers("prefix")) {
    if (token < 0 || token >= 1 << 24 || token != static_cast<int>(token))
      return at.Fail("prefix", fmt::format("holds {}, no token id", token));
    forms.prefix.push_back(static_cast<int>(token));
  }
}

void ReadWeights(const JsonReader& at, ConvertedForms& forms) {
  if (!at.Has("weights")) return;
  const JsonReader weights = at.Object("weights");
  forms.weights = {weights.TextOr("file", ""), weights.Text("sha256")};
}

void ReadPolynomialStage(const JsonReader& at, ConvertedForms& forms) {
  const JsonReader calibration = at.Object("calibration");
  forms.calibration = {calibration.Count("tokens"), calibration.Number("margin")};
  if (calibration.Has("left_out")) forms.left_out = calibration.Count("left_out");
  forms.residual_bound = at.Number("residual_bound");
  if (at.Has("context")) forms.context = at.Int("context");
  if (at.Has("head")) {
    const JsonReader head = at.Object("head");
    forms.head = {ReadApproximant(head, "pooler"), head.Number("bound")};
  }
  if (at.Has("certificate")) forms.certificate = CertificateFromJson(at.Object("certificate"));
}

Status CheckWeights(const FormWeights& weights) {
  constexpr std::size_t kDigits = 64;
  if (weights.sha256.size() != kDigits ||
      weights.sha256.find_first_not_of("0123456789abcdef") != std::string::npos)
    return MakeError(ErrorCode::kCorrupt, "forms.weights.sha256 is no {} lower-case hex digits",
                     kDigits);
  if (weights.file.empty() || CheckFileName("file", weights.file).ok()) return {};
  return MakeError(ErrorCode::kCorrupt, "forms.weights.file \"{}\" is no name in the folder",
                   weights.file.substr(0, 256));
}

Status CheckValues(const ConvertedForms& f) {
  if (f.power < 2 || f.power > 12 || f.power % 2 != 0)
    return MakeError(ErrorCode::kOutOfRange, "forms.power = {}, not even in 2..12", f.power);
  if (!(f.attention_eps >= 0 && f.attention_eps < 1))
    return MakeError(ErrorCode::kOutOfRange, "forms.attention_eps = {}, not in [0, 1)",
                     f.attention_eps);
  PV_RETURN_IF_ERROR(CheckFormsSize(f.layers.size(), f.prefix.size()));
  if (f.stage == FormStage::kPolynomial &&
      !(f.residual_bound > 0 && std::isfinite(f.residual_bound)))
    return MakeError(ErrorCode::kOutOfRange, "forms.residual_bound = {}", f.residual_bound);
  if (f.weights) PV_RETURN_IF_ERROR(CheckWeights(*f.weights));
  if (f.head) PV_RETURN_IF_ERROR(ValidateHead(*f.head, "forms.head"));
  if (f.certificate) PV_RETURN_IF_ERROR(ValidateCertificate(*f.certificate, "forms.certificate"));
  for (std::size_t i = 0; i < f.layers.size(); ++i) {
    const AttentionForm& form = f.layers[i].attention;
    if (form.kind != AttentionKind::kPower || form.qk_norm)
      return MakeError(ErrorCode::kMismatch, "forms.layers[{}].attention is {}{}, not plain power",
                       i, AttentionKindName(form.kind), form.qk_norm ? " with qk_norm" : "");
  }
  return {};
}

}  // namespace

Result<ConvertedForms> ParseForms(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(text, "forms.json", kFormsLimits));
  std::string error;
  const JsonReader at(json, "forms", error);
  if (const std::string format = at.Text("format"); error.empty() && format != kFormsFormat)
    return MakeError(ErrorCode::kMismatch, "forms.format = \"{}\", not \"{}\"", format,
                     kFormsFormat);
  ConvertedForms forms;
  const std::string stage = at.Text("stage");
  if (stage != "power" && stage != "polynomial")
    at.Fail("stage", "is neither power nor polynomial");
  forms.stage = stage == "power" ? FormStage::kPower : FormStage::kPolynomial;
  forms.power = at.Int("power");
  forms.attention_eps = at.Number("attention_eps");
  ReadPrefix(at, forms);
  ReadWeights(at, forms);
  if (forms.stage == FormStage::kPolynomial) ReadPolynomialStage(at, forms);
  ReadLayers(at, error, forms);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "forms.json: {}", error);
  PV_RETURN_IF_ERROR(CheckValues(forms));
  return forms;
}

std::string FormatForms(const ConvertedForms& forms) {
  OrderedJson out = {{"format", kFormsFormat},
                     {"stage", StageName(forms.stage)},
                     {"power", forms.power},
                     {"attention_eps", forms.attention_eps},
                     {"prefix", forms.prefix}};
  if (forms.weights) {
    if (!forms.weights->file.empty()) out["weights"]["file"] = forms.weights->file;
    out["weights"]["sha256"] = forms.weights->sha256;
  }
  if (forms.stage == FormStage::kPolynomial) {
    if (forms.context > 0) out["context"] = forms.context;
    if (forms.certificate) out["certificate"] = CertificateToJson(*forms.certificate);
    out["calibration"] = {{"tokens", forms.calibration.tokens},
                          {"margin", forms.calibration.margin},
                          {"left_out", forms.left_out}};
    out["residual_bound"] = forms.residual_bound;
    if (forms.head)
      out["head"] = {{"pooler", ApproximantToJson(forms.head->pooler)},
                     {"bound", forms.head->bound}};
  }
  out["layers"] = OrderedJson::array();
  for (const LayerConfig& layer : forms.layers)
    out["layers"].push_back(LayerToJson(layer, FieldsOf(forms.stage)));
  return out.dump(1) + "\n";
}

Result<std::string> FormatCheckedForms(const ConvertedForms& forms, const Architecture& a) {
  std::string text = FormatForms(forms);
  PV_ASSIGN_OR_RETURN(const ConvertedForms read, ParseForms(text));
  PV_RETURN_IF_ERROR(CheckForms(read, a));
  return text;
}

Status CheckFormsSize(std::size_t layers, std::size_t prefix) {
  if (layers > kMaxFormLayers)
    return MakeError(ErrorCode::kOutOfRange, "forms.layers: {} entries > {}", layers,
                     kMaxFormLayers);
  if (prefix > kMaxPrefix)
    return MakeError(ErrorCode::kOutOfRange, "forms.prefix: {} tokens > {}", prefix, kMaxPrefix);
  return {};
}

Result<std::optional<ConvertedForms>> LoadForms(const std::string& folder) {
  const std::string path = folder + "/forms.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return std::optional<ConvertedForms>();
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  PV_ASSIGN_OR_RETURN(ConvertedForms forms, ParseForms(file->text()));
  return std::optional(std::move(forms));
}

Status CheckWeightsDigest(const ConvertedForms& forms, const std::string& sha256) {
  if (!forms.weights || forms.weights->sha256 == sha256) return {};
  return MakeError(ErrorCode::kMismatch,
                   "forms.json is of other weights: forms.weights.sha256 = {}, the files' is {}",
                   forms.weights->sha256, sha256);
}

Status CheckForms(const ConvertedForms& forms, const Architecture& a) {
  if (static_cast<int>(forms.layers.size()) != a.n_layers)
    return MakeError(ErrorCode::kMismatch, "forms.layers has {} entries, the model {} layers",
                     forms.layers.size(), a.n_layers);
  if (!a.causal && !forms.prefix.empty())
    return MakeError(ErrorCode::kMismatch, "forms.prefix has {} tokens, an encoder takes 0",
                     forms.prefix.size());
  if (forms.prefix_length() >= a.context)
    return MakeError(ErrorCode::kOutOfRange, "forms.prefix: {} tokens, context {}",
                     forms.prefix_length(), a.context);
  if (forms.context > a.context - forms.prefix_length())
    return MakeError(ErrorCode::kOutOfRange,
                     "forms.context = {} > {}, the model's behind {} tokens", forms.context,
                     a.context - forms.prefix_length(), forms.prefix_length());
  for (const int token : forms.prefix)
    if (token >= a.vocab_size)
      return MakeError(ErrorCode::kOutOfRange,
                       "forms.prefix: token {} outside the vocabulary of {}", token, a.vocab_size);
  if (forms.head && a.head != HeadKind::kClassifier)
    return MakeError(ErrorCode::kMismatch, "forms.head: the model has no classification head");
  for (std::size_t i = 0; i < forms.layers.size(); ++i) {
    const std::string where = fmt::format("forms.layers[{}]", i);
    PV_RETURN_IF_ERROR(
        ValidateLayer(forms.layers[i], a.n_heads, true, FieldsOf(forms.stage), where));
    PV_RETURN_IF_ERROR(ValidateExponents(forms.layers[i].bounds, a.d_model, where));
  }
  return {};
}

}  // namespace polyveil::model
