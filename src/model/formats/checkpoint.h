// A released model's files as a whole: a folder of safetensors with config.json, or a GGUF file.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "model/formats/architecture.h"
#include "model/formats/forms.h"
#include "model/formats/gguf.h"
#include "model/formats/weights.h"

namespace polyveil::model {

struct Checkpoint {
  Architecture architecture;
  Weights weights;
  std::set<std::string> unused;  // tensors that the forward pass does not read
  std::map<ElementType, std::uint64_t> elements_by_type;
  TensorViews tensors;                                   // all of the files, by name
  std::vector<std::shared_ptr<const MappedFile>> files;  // keep the weights' bytes alive
  std::optional<GgufFile> gguf;                          // else a folder
  std::optional<ConvertedForms> forms;                   // of a converted model
  std::string adapter_sha256;                            // of its file; empty: no adapter
  std::string directory;                                 // of config.json, where there is one
  std::string path;                                      // that folder, or the *.gguf
};

// path: a folder with config.json and model.safetensors (or else model.safetensors.index.json), a
// file *.gguf, or a folder with one *.gguf and no config.json (with several: the one that
// forms.json names), or an adapter's folder (adapter.h), whose forms.json names the base in it.
// forms.json beside a *.gguf belongs to the file that it names and to no other, and beside an
// adapter to that. adapter: its folder, empty for none; path is its base then. Of a base with an
// adapter `tensors` are the file's, `weights` the adapted ones, and every byte is read once for the
// digest.
// Weights are mapped, not read. Errors: as ReadSafetensorsIndex, GgufFile::Parse,
// ParseHuggingFaceConfig, BindWeights, LoadForms and CheckForms; kNotFound for a shard that is
// missing and a folder without a model, kCorrupt for an index that names a file outside the folder,
// a tensor twice, or one that its shard lacks, kMismatch for several *.gguf and forms of none, and
// for a base that is not the adapter's; those of LoadAdapter and Adapter::Apply.
Result<std::shared_ptr<const Checkpoint>> LoadCheckpoint(const std::string& path,
                                                         const std::string& adapter = {});

// Lower-case hex SHA-256 over name, type, shape and bytes of every tensor, by name: the same
// however files are cut. Cost: reads every byte.
std::string WeightsSha256(const Checkpoint& checkpoint);

// Reads every weight that the model uses. Errors: kCorrupt for values that are not finite: the
// first one named, and how many.
Status CheckAllFinite(const Checkpoint& checkpoint);

}  // namespace polyveil::model
