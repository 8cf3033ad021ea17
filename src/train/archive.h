// Files of named tensors with JSON beside them, written whole or not at all.
#pragma once

#include <torch/torch.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

using NamedTensors = std::vector<std::pair<std::string, torch::Tensor>>;

// Written to path + ".new", then renamed. Errors: kIo.
Status SaveArchive(const std::string& path, const nlohmann::ordered_json& info,
                   const NamedTensors& tensors);

// Errors: kNotFound, kCorrupt.
Result<nlohmann::ordered_json> ReadArchiveInfo(const std::string& path);

// Copies the file's values into tensors of the same names and shapes; returns the information.
// Errors: beside the above kMismatch (tensor, both sizes).
Result<nlohmann::ordered_json> LoadArchive(const std::string& path, const NamedTensors& targets);

}  // namespace polyveil::train
