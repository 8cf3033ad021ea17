#include "train/archive.h"

#include <filesystem>

namespace polyveil::train {
namespace {

using torch::Tensor;

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

Status Copy(torch::serialize::InputArchive& archive, const NamedTensors& targets,
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

Status SaveArchive(const std::string& path, const nlohmann::ordered_json& info,
                   const NamedTensors& tensors) {
  try {
    torch::serialize::OutputArchive archive;
    archive.write("info", TextTensor(info.dump()));
    for (const auto& [name, tensor] : tensors) archive.write(name, tensor.cpu());
    archive.save_to(path + ".new");
    std::filesystem::rename(path + ".new", path);
  } catch (const std::exception& error) {
    return MakeError(ErrorCode::kIo, "cannot write {}: {}", path, error.what());
  }
  return {};
}

Result<nlohmann::ordered_json> ReadArchiveInfo(const std::string& path) {
  torch::serialize::InputArchive archive;
  PV_RETURN_IF_ERROR(OpenArchive(path, archive));
  return ReadInfo(archive, path);
}

Result<nlohmann::ordered_json> LoadArchive(const std::string& path, const NamedTensors& targets) {
  torch::serialize::InputArchive archive;
  PV_RETURN_IF_ERROR(OpenArchive(path, archive));
  PV_ASSIGN_OR_RETURN(nlohmann::ordered_json info, ReadInfo(archive, path));
  PV_RETURN_IF_ERROR(Copy(archive, targets, path));
  return info;
}

}  // namespace polyveil::train
