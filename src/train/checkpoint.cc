#include "train/checkpoint.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "model/approximant_json.h"

namespace polyveil::train {
namespace {

using torch::Tensor;
using Named = std::vector<std::pair<std::string, Tensor>>;

Named AllTensors(const Transformer& model, const Optimizer* optimizer) {
  Named out;
  for (const auto& parameter : model.parameters())
    out.emplace_back("model." + parameter.name, parameter.value.detach());
  if (optimizer)
    for (const auto& [name, tensor] : optimizer->State()) out.emplace_back("state." + name, tensor);
  return out;
}

nlohmann::ordered_json PolynomialsToJson(const Transformer& model) {
  auto out = nlohmann::ordered_json::array();
  if (!model.polynomials) return out;
  for (const LayerPolynomials& layer : *model.polynomials) {
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

Tensor TextTensor(const std::string& text) {
  Tensor out = torch::empty({static_cast<std::int64_t>(text.size())}, torch::kUInt8);
  std::copy(text.begin(), text.end(), out.data_ptr<std::uint8_t>());
  return out;
}

Result<nlohmann::ordered_json> ReadInfo(torch::serialize::InputArchive& archive,
                                        const std::string& path) {
  Tensor bytes;
  if (!archive.try_read("info", bytes))
    return MakeError(ErrorCode::kCorrupt, "{}: no checkpoint information", path);
  const auto* begin = bytes.data_ptr<std::uint8_t>();
  auto json = nlohmann::ordered_json::parse(begin, begin + bytes.numel(), nullptr, false);
  if (!json.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: information is no JSON", path);
  return json;
}

CheckpointInfo InfoFrom(const nlohmann::ordered_json& json) {
  return {json.at("step"), json.at("seconds"), json.at("tokens"), json.at("config")};
}

Status Copy(torch::serialize::InputArchive& archive, const Named& targets,
            const std::string& path) {
  torch::NoGradGuard no_grad;
  for (const auto& [name, target] : targets) {
    Tensor stored;
    if (!archive.try_read(name, stored))
      return MakeError(ErrorCode::kMismatch, "{}: no tensor {}", path, name);
    if (stored.sizes() != target.sizes())
      return MakeError(ErrorCode::kMismatch, "{}: {} has {} values, the model {}", path, name,
                       stored.numel(), target.numel());
    Tensor writable = target;
    writable.copy_(stored);
  }
  return {};
}

Status OpenArchive(const std::string& path, torch::serialize::InputArchive& archive) {
  if (!std::filesystem::exists(path))
    return MakeError(ErrorCode::kNotFound, "checkpoint {} does not exist", path);
  try {
    archive.load_from(path);
  } catch (const c10::Error& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", path, error.what_without_backtrace());
  }
  return {};
}

}  // namespace

Status SaveCheckpoint(const std::string& path, const Transformer& model, const Optimizer* optimizer,
                      const CheckpointInfo& info) {
  const nlohmann::ordered_json json = {{"step", info.step},
                                       {"seconds", info.seconds},
                                       {"tokens", info.tokens},
                                       {"config", info.config},
                                       {"optimizer_steps", optimizer ? optimizer->steps_done() : 0},
                                       {"polynomials", PolynomialsToJson(model)}};
  try {
    torch::serialize::OutputArchive archive;
    archive.write("info", TextTensor(json.dump()));
    for (const auto& [name, tensor] : AllTensors(model, optimizer)) archive.write(name, tensor);
    archive.save_to(path + ".new");
    std::filesystem::rename(path + ".new", path);
  } catch (const std::exception& error) {
    return MakeError(ErrorCode::kIo, "cannot write {}: {}", path, error.what());
  }
  return {};
}

Result<CheckpointInfo> LoadCheckpoint(const std::string& path, Transformer& model,
                                      Optimizer* optimizer) {
  torch::serialize::InputArchive archive;
  PV_RETURN_IF_ERROR(OpenArchive(path, archive));
  PV_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, ReadInfo(archive, path));
  PV_RETURN_IF_ERROR(Copy(archive, AllTensors(model, optimizer), path));
  try {
    PV_ASSIGN_OR_RETURN(model.polynomials, PolynomialsFromJson(json.at("polynomials")));
    if (optimizer) optimizer->set_steps_done(json.at("optimizer_steps"));
    return InfoFrom(json);
  } catch (const nlohmann::ordered_json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", path, error.what());
  }
}

Result<CheckpointInfo> ReadCheckpointInfo(const std::string& path) {
  torch::serialize::InputArchive archive;
  PV_RETURN_IF_ERROR(OpenArchive(path, archive));
  PV_ASSIGN_OR_RETURN(const nlohmann::ordered_json json, ReadInfo(archive, path));
  try {
    return InfoFrom(json);
  } catch (const nlohmann::ordered_json::exception& error) {
    return MakeError(ErrorCode::kCorrupt, "{}: {}", path, error.what());
  }
}

}  // namespace polyveil::train
