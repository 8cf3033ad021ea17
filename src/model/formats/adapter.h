// A low-rank adapter: a folder that makes another model of released weights that stay as they are.
// docs/formats/adapter.md describes every byte.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "model/formats/forms.h"
#include "model/formats/tensor_view.h"
#include "model/safetensors.h"

namespace polyveil::model {

inline constexpr const char* kAdapterName = "adapter.safetensors";
// Behind the name of a matrix [rows, cols] of the base: [rank, cols] and [rows, rank].
inline constexpr const char* kRightSuffix = ".lora_a";
inline constexpr const char* kLeftSuffix = ".lora_b";
inline constexpr int kLargestRank = 1024;

struct Adapter {
  ConvertedForms forms;  // with weights: those of the base
  TensorViews tensors;   // of adapter.safetensors
  std::string sha256;    // of its bytes
  std::shared_ptr<const MappedFile> file;

  // Exchanges vectors and adds updates to matrices. Errors: kNotFound for a tensor that the base
  // lacks, kMismatch for shapes that do not fit (tensor, both shapes) and half an update, kCorrupt
  // for values that are not finite, kOutOfRange for a rank outside 1..kLargestRank.
  Status Apply(TensorViews& base) const;
};

// Whether the folder has an adapter.
bool IsAdapter(const std::string& folder);

// Errors: kNotFound, kIo; those of LoadForms and ReadSafetensorsIndex; kMismatch for forms that
// name no base; kCorrupt for tensors that are not F16, BF16 or F32.
Result<Adapter> LoadAdapter(const std::string& folder);

// Views of a file's tensors, in the order of its bytes. Errors: those of ReadSafetensorsIndex.
Result<std::vector<TensorView>> SafetensorsViews(std::span<const std::uint8_t> bytes,
                                                 const SafetensorsLimits& limits);

}  // namespace polyveil::model
