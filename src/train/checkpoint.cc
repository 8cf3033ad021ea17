#include "train/checkpoint.h"

#include "model/approximant_json.h"
#include "train/archive.h"

namespace polyveil::train {
namespace {

using torch::Tensor;

NamedTensors AllTensors(const Transformer& model, const Optimizer* optimizer) {
  NamedTensors out;
  for (const auto& parameter : model.parameters())
    out.emplace_back("model." + parameter.name, parameter.value.detach());
  if (optimizer)
    for (const auto& [name, tensor] : optimizer->State()) out.emplace_back("state." + name, tensor);
  return out;
}

CheckpointInfo InfoFrom(const nlohmann::ordered_json& json) {
  return {json.at("step"), json.at("seconds"), json.at("tokens"), json.at("config")};
}

}  // namespace

nlohmann::ordered_json PolynomialsToJson(
    const std::optional<std::vector<LayerPolynomials>>& polynomials) {
  auto out = nlohmann::ordered_json::array();
  if (!polynomials) return out;
  for (const LayerPolynomials& layer : *polynomials) {
    nlohmann::ordered_json& entry = out.emplace_back();
    VisitPolynomials(layer, [&](const char* key, const char*, const approx::Approximant& p) {
      entry[key] = model::ApproximantToJson(p);
    });
  }
  return out;
}

Result<std::optional<std::vector<LayerPolynomials>>> PolynomialsFromJson(
    const nlohmann::ordered_json& json) {
  using Polynomials = std::optional<std::vector<LayerPolynomials>>;
  if (json.empty()) return Polynomials();
  std::vector<LayerPolynomials> out;
  Status status;
  for (const auto& layer : json) {
    LayerPolynomials& fit = out.emplace_back();
    if (layer.contains("activation")) fit.activation.emplace();
    if (layer.contains("query_root")) fit.query_root.emplace();
    if (layer.contains("key_root")) fit.key_root.emplace();
    VisitPolynomials(fit, [&](const char* key, const char*, approx::Approximant& p) {
      auto read = model::ApproximantFromJson(layer.at(key), key);
      read.ok() ? (void)(p = *std::move(read)) : (void)(status = read.error());
    });
  }
  PV_RETURN_IF_ERROR(status);
  return Polynomials(std::move(out));
}

Status SaveCheckpoint(const std::string& path, const Transformer& model, const Optimizer* optimizer,
                      const CheckpointInfo& info) {
  const nlohmann::ordered_json json = {{"step", info.step},
                                       {"seconds", info.seconds},
                                       {"tokens", info.tokens},
                                       {"config", info.config},
                                       {"optimizer_steps", optimizer ? optimizer->steps_done() : 0},
                                       {"polynomials", PolynomialsToJson(model.polynomials)}};
  return SaveArchive(path, json, AllTensors(model, optimizer));
}

Result<CheckpointInfo> LoadCheckpoint(const std::string& path, Transformer& model,
                                      Optimizer* optimizer) {
  PV_ASSIGN_OR_RETURN(const nlohmann::ordered_json json,
                      LoadArchive(path, AllTensors(model, optimizer)));
  try {
    PV_ASSIGN_OR_RETURN(model.polynomials, PolynomialsFromJson(json.at("polynomials")));
    if (optimizer) optimizer->set_steps_done(json.at("optimizer_steps"));
    return InfoFrom(json);
  } catch (const nlohmann::ordered_json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", path, error.what());
  }
}

Result<CheckpointInfo> ReadCheckpointInfo(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, ReadArchiveInfo(path));
  try {
    return InfoFrom(json);
  } catch (const nlohmann::ordered_json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", path, error.what());
  }
}

}  // namespace polyveil::train
