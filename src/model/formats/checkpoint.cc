#include "model/formats/checkpoint.h"

#include <filesystem>

#include "base/output_file.h"
#include "model/formats/adapter.h"
#include "model/safetensors.h"
#include "model/sha256.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxShards = 1024;
constexpr SafetensorsLimits kCheckpointLimits{16 << 20, std::uint64_t{1} << 40, 1 << 16};

// shard_of: the file that each tensor was found in.
Status AddFile(Checkpoint& checkpoint, const std::string& path, TensorViews& tensors,
               std::map<std::string, std::string>& shard_of) {
  PV_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
  const std::string name = fs::path(path).filename();
  auto views = SafetensorsViews(file->bytes(), kCheckpointLimits);
  if (!views.ok()) return Error{views.error().code, name + ": " + views.error().message};
  for (TensorView& view : *views) {
    const std::string tensor = view.name;
    if (!tensors.emplace(tensor, std::move(view)).second)
      return MakeError(ErrorCode::kCorrupt, "{}: tensor \"{}\" stands in another shard too", name,
                       tensor);
    shard_of[tensor] = name;
  }
  checkpoint.files.push_back(std::move(file));
  return {};
}

Status CheckShardName(const std::string& tensor, const std::string& name) {
  if (CheckFileName("shard", name).ok() && name.ends_with(".safetensors")) return {};
  return MakeError(ErrorCode::kCorrupt,
                   "index: tensor \"{}\" stands in \"{}\", no *.safetensors of the folder", tensor,
                   name.substr(0, 256));
}

Result<std::map<std::string, std::string>> ReadShardMap(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(file->text(), "index", {16 << 20, 8}));
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (!json.is_object() || map == json.end() || !map->is_object())
    return MakeError(ErrorCode::kCorrupt, "index: weight_map is no object");
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, name] : map->items()) {
    if (!name.is_string())
      return MakeError(ErrorCode::kCorrupt, "index: tensor \"{}\" stands in {}, no file name",
                       tensor, name.type_name());
    PV_RETURN_IF_ERROR(CheckShardName(tensor, name.get<std::string>()));
    shards.emplace(tensor, name.get<std::string>());
  }
  return shards;
}

Result<TensorViews> MapShards(Checkpoint& checkpoint, const fs::path& directory) {
  TensorViews tensors;
  std::map<std::string, std::string> shard_of;
  const fs::path index = directory / "model.safetensors.index.json";
  // One file comes before an index, as transformers takes them: a model that was saved anew over
  // shards leaves their index behind.
  std::error_code error;
  if (const fs::path whole = directory / "model.safetensors";
      fs::exists(whole, error) || !fs::exists(index, error)) {
    PV_RETURN_IF_ERROR(AddFile(checkpoint, whole, tensors, shard_of));
    return tensors;
  }
  PV_ASSIGN_OR_RETURN(const auto map, ReadShardMap(index));
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : map) shards.insert(shard);
  if (shards.size() > kMaxShards)
    return MakeError(ErrorCode::kOutOfRange, "index: {} shards > {}", shards.size(), kMaxShards);
  for (const std::string& shard : shards)
    PV_RETURN_IF_ERROR(AddFile(checkpoint, directory / shard, tensors, shard_of));
  for (const auto& [tensor, shard] : map)
    if (const auto it = shard_of.find(tensor); it == shard_of.end() || it->second != shard)
      return MakeError(ErrorCode::kCorrupt, "index: tensor \"{}\" is not in {} but in {}", tensor,
                       shard, it == shard_of.end() ? "no shard" : it->second);
  return tensors;
}

// A client reads embeddings and heads where they stand in the file.
Status CheckUpdatesInBlocks(const Weights& w) {
  for (const TensorView* view : {&w.token_embedding, &w.position_embedding, &w.type_embedding,
                                 &w.head.weight, &w.pooler.weight, &w.classifier.weight})
    if (view->update)
      return MakeError(ErrorCode::kMismatch, "adapter: tensor \"{}\" is no matrix of a block",
                       view->name);
  return {};
}

Status Bind(Checkpoint& checkpoint, const WeightNames& names, const TensorViews& tensors,
            const Adapter* adapter) {
  checkpoint.tensors = tensors;
  for (const auto& [name, view] : tensors)
    checkpoint.elements_by_type[view.type] += static_cast<std::uint64_t>(view.rows() * view.cols());
  TensorViews adapted = tensors;
  if (adapter) PV_RETURN_IF_ERROR(adapter->Apply(adapted));
  PV_ASSIGN_OR_RETURN(BoundWeights bound, BindWeights(checkpoint.architecture, names, adapted));
  PV_RETURN_IF_ERROR(CheckUpdatesInBlocks(bound.weights));
  checkpoint.architecture.tied_head = bound.tied_head;
  checkpoint.weights = std::move(bound.weights);
  checkpoint.unused = std::move(bound.unused);
  return {};
}

Status LoadFolder(Checkpoint& checkpoint, const std::string& path, const Adapter* adapter) {
  checkpoint.directory = checkpoint.path = path;
  PV_ASSIGN_OR_RETURN(const auto config, MappedFile::Open(path + "/config.json"));
  PV_ASSIGN_OR_RETURN(checkpoint.architecture, ParseHuggingFaceConfig(config->text()));
  PV_ASSIGN_OR_RETURN(checkpoint.forms, LoadForms(path));
  if (checkpoint.forms) PV_RETURN_IF_ERROR(CheckForms(*checkpoint.forms, checkpoint.architecture));
  PV_ASSIGN_OR_RETURN(const TensorViews tensors, MapShards(checkpoint, path));
  return Bind(checkpoint, HuggingFaceNames(checkpoint.architecture), tensors, adapter);
}

// forms.json of the folder, where it names this file and is no adapter's.
Status TakeGgufForms(Checkpoint& checkpoint, const fs::path& path) {
  if (IsAdapter(path.parent_path())) return {};
  PV_ASSIGN_OR_RETURN(auto forms, LoadForms(path.parent_path()));
  if (!forms || !forms->weights || forms->weights->file != path.filename()) return {};
  PV_RETURN_IF_ERROR(CheckForms(*forms, checkpoint.architecture));
  checkpoint.forms = std::move(forms);
  return {};
}

Status LoadGguf(Checkpoint& checkpoint, const std::string& path, const Adapter* adapter) {
  checkpoint.path = path;
  PV_ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
  PV_ASSIGN_OR_RETURN(GgufFile gguf, GgufFile::Parse(file->bytes()));
  PV_ASSIGN_OR_RETURN(checkpoint.architecture, GgufArchitecture(gguf));
  checkpoint.files.push_back(std::move(file));
  PV_RETURN_IF_ERROR(Bind(checkpoint, GgufNames(checkpoint.architecture), gguf.tensors(), adapter));
  checkpoint.gguf = std::move(gguf);
  return TakeGgufForms(checkpoint, path);
}

// The *.gguf that a folder without config.json means.
Result<fs::path> FindGguf(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (it->path().extension() == ".gguf") found.push_back(it->path());
  if (error) return MakeError(ErrorCode::kIo, "{}: {}", folder.string(), error.message());
  if (found.size() == 1) return found.front();
  if (found.empty())
    return MakeError(ErrorCode::kNotFound, "{}: neither config.json nor a *.gguf", folder.string());
  PV_ASSIGN_OR_RETURN(const auto forms, LoadForms(folder));
  if (forms && forms->weights && !forms->weights->file.empty())
    return folder / forms->weights->file;
  return MakeError(ErrorCode::kMismatch, "{}: {} files *.gguf, and forms.json names none of them",
                   folder.string(), found.size());
}

Status LoadBase(Checkpoint& checkpoint, const std::string& path, const Adapter* adapter) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return LoadGguf(checkpoint, path, adapter);
  if (fs::exists(fs::path(path) / "config.json", error))
    return LoadFolder(checkpoint, path, adapter);
  PV_ASSIGN_OR_RETURN(const fs::path file, FindGguf(path));
  return LoadGguf(checkpoint, file, adapter);
}

Status LoadAdapted(Checkpoint& checkpoint, const std::string& base, const std::string& folder) {
  PV_ASSIGN_OR_RETURN(Adapter adapter, LoadAdapter(folder));
  const std::string inside = folder + "/" + adapter.forms.weights->file;
  std::error_code error;
  if (base.empty() && (adapter.forms.weights->file.empty() || !fs::exists(inside, error)))
    return MakeError(
        ErrorCode::kNotFound,
        "{}: an adapter; its base, forms.weights.file \"{}\" with sha256 {}, is not in "
        "the folder: link it there, or give the base beside the adapter",
        folder, adapter.forms.weights->file, adapter.forms.weights->sha256);
  PV_RETURN_IF_ERROR(LoadBase(checkpoint, base.empty() ? inside : base, &adapter));
  PV_RETURN_IF_ERROR(CheckWeightsDigest(adapter.forms, WeightsSha256(checkpoint)));
  PV_RETURN_IF_ERROR(CheckForms(adapter.forms, checkpoint.architecture));
  checkpoint.adapter_sha256 = adapter.sha256;
  checkpoint.forms = std::move(adapter.forms);
  checkpoint.files.push_back(std::move(adapter.file));
  return {};
}

}  // namespace

Result<std::shared_ptr<const Checkpoint>> LoadCheckpoint(const std::string& path,
                                                         const std::string& adapter) {
  auto checkpoint = std::make_shared<Checkpoint>();
  Status status;
  if (!adapter.empty()) {
    status = LoadAdapted(*checkpoint, path, adapter);
  } else if (IsAdapter(path)) {
    status = LoadAdapted(*checkpoint, "", path);
  } else {
    status = LoadBase(*checkpoint, path, nullptr);
  }
  if (!status.ok()) return status.error();
  return std::shared_ptr<const Checkpoint>(std::move(checkpoint));
}

std::string WeightsSha256(const Checkpoint& checkpoint) {
  Sha256 hasher;
  for (const auto& [name, view] : checkpoint.tensors) {
    hasher.UpdateField(name);
    hasher.UpdateField(FormatOf(view.type).name);
    hasher.UpdateField(ShapeText(view.shape));
    hasher.Update(view.bytes);
  }
  return hasher.Hex();
}

Status CheckAllFinite(const Checkpoint& checkpoint) {
  const Weights& w = checkpoint.weights;
  std::vector<const TensorView*> views = {&w.token_embedding, &w.position_embedding,
                                          &w.type_embedding};
  std::vector<const Linear*> linears = {&w.head, &w.pooler, &w.classifier};
  for (const LayerWeights& layer : w.layers) {
    for (const Linear& linear : layer.qkv) linears.push_back(&linear);
    for (const Linear* linear : {&layer.out, &layer.gate, &layer.up, &layer.down})
      linears.push_back(linear);
  }
  for (const Linear* linear : linears)
    if (!linear->weight.empty()) views.push_back(&linear->weight);
  Status first;
  int others = 0;
  for (const TensorView* view : views) {
    const Status status = view->empty() ? Status() : CheckFinite(*view);
    if (status.ok()) continue;
    if (first.ok()) {
      first = status;
    } else {
      ++others;
    }
  }
  if (others == 0) return first;
  return Error{first.error().code,
               fmt::format("{}; {} other tensors too", first.error().message, others)};
}

}  // namespace polyveil::model
