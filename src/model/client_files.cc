#include "model/client_files.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "model/bundle.h"
#include "model/client_config.h"
#include "model/sha256.h"
#include "model/strict_json.h"

namespace polyveil::model {
namespace {

namespace fs = std::filesystem;

constexpr const char* kClientFilesFormat = "polyveil-client-files/1";
constexpr std::uint64_t kMaxTotalBytes = std::uint64_t{1} << 50;
constexpr std::uint64_t kMaxConfigBytes = 4 << 20;
constexpr std::int32_t kEndOfStory = 256;  // of a bundle's own byte-level vocabulary

bool IsDigest(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

Result<ClientManifest::Entry> ReadEntry(const nlohmann::json& json, std::size_t index) {
  std::string error;
  const JsonReader at(json, fmt::format("manifest.files[{}]", index), error);
  const ClientManifest::Entry entry{at.Text("name"), at.Count("bytes"), at.Text("sha256")};
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  PV_RETURN_IF_ERROR(CheckFileName("manifest: name", entry.name));
  if (!IsDigest(entry.sha256))
    return MakeError(ErrorCode::kCorrupt, "manifest: '{}' has a sha256 that is no digest",
                     entry.name);
  if (entry.bytes > kMaxTotalBytes)
    return MakeError(ErrorCode::kOutOfRange, "manifest: '{}' has {} bytes > {}", entry.name,
                     entry.bytes, kMaxTotalBytes);
  return entry;
}

bool IsOfClient(const std::string& name) { return !name.starts_with("layers."); }

// The bundle's tensors by the names of the client's half.
std::string ClientName(const std::string& name) {
  return name == "final_gamma" ? kFinalGainName : name;
}

ClientConfig ConfigOfBundle(const ModelConfig& model, const std::string& directory) {
  ClientConfig config;
  config.name = NameOfModel(directory);
  config.model_digest = model.tensors_sha256;
  config.width = model.d_model;
  config.vocabulary = model.vocab_size;
  config.context = model.context;
  config.begin = config.ends = {kEndOfStory};
  config.final_norm = ClientNorm{false, model.final_norm_eps};
  config.ngrams = static_cast<int>(model.ngram_rows.size());
  config.certificate = model.certificate;
  return config;
}

}  // namespace

std::uint64_t ClientManifest::total_bytes() const {
  std::uint64_t total = 0;
  for (const Entry& entry : files) total += entry.bytes;
  return total;
}

ClientManifest ClientManifest::OfText() const {
  static constexpr std::string_view kNames[] = {kClientConfigName, kTextJsonName, kTextConfigName,
                                                kTextGgufName, kChatTemplateName};
  ClientManifest text;
  std::ranges::copy_if(files, std::back_inserter(text.files), [](const Entry& entry) {
    return std::ranges::find(kNames, entry.name) != std::end(kNames);
  });
  return text;
}

std::string ClientManifest::Digest() const {
  std::string text;
  for (const Entry& entry : files)
    text += fmt::format("{}\n{}\n{}\n", entry.name, entry.bytes, entry.sha256);
  return Sha256Hex({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

std::string ClientManifest::Format() const {
  nlohmann::ordered_json entries = nlohmann::ordered_json::array();
  for (const Entry& entry : files)
    entries.push_back({{"name", entry.name}, {"bytes", entry.bytes}, {"sha256", entry.sha256}});
  return nlohmann::ordered_json{{"format", kClientFilesFormat}, {"files", entries}}.dump(1) + "\n";
}

Result<ClientManifest> ClientManifest::Parse(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(text, "manifest", {kMaxManifestBytes, 4}));
  std::string error;
  const JsonReader at(json, "manifest", error);
  const std::string format = at.Text("format");
  if (error.empty() && format != kClientFilesFormat)
    return MakeError(ErrorCode::kMismatch, "manifest.format is not \"{}\"", kClientFilesFormat);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  const auto* entries = at.Has("files") ? at.Find("files") : nullptr;
  if (entries == nullptr || !entries->is_array() || entries->size() > kMaxClientFiles)
    return MakeError(ErrorCode::kCorrupt, "manifest.files is no array of at most {}",
                     kMaxClientFiles);
  ClientManifest manifest;
  for (const auto& entry : *entries) {
    PV_ASSIGN_OR_RETURN(Entry read, ReadEntry(entry, manifest.files.size()));
    manifest.files.push_back(std::move(read));
  }
  std::ranges::sort(manifest.files, {}, &Entry::name);
  const auto same = std::ranges::adjacent_find(manifest.files, {}, &Entry::name);
  if (same != manifest.files.end())
    return MakeError(ErrorCode::kCorrupt, "manifest: '{}' stands twice", same->name);
  if (std::ranges::find(manifest.files, kClientConfigName, &Entry::name) == manifest.files.end())
    return MakeError(ErrorCode::kCorrupt, "manifest: no {}", kClientConfigName);
  return manifest;
}

void ClientFiles::Add(std::string name, std::string text) {
  const auto kept = std::make_shared<const std::string>(std::move(text));
  Add(std::move(name), {reinterpret_cast<const std::uint8_t*>(kept->data()), kept->size()}, kept);
}

void ClientFiles::Add(std::string name, std::span<const std::uint8_t> bytes,
                      std::shared_ptr<const void> owner) {
  files_.push_back({std::move(name), bytes, std::move(owner)});
}

Status ClientFiles::AddIfThere(const std::string& folder, const std::string& name) {
  const fs::path path = fs::path(folder) / name;
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path.string()));
  Add(name, file->bytes(), file);
  return {};
}

const ClientFile* ClientFiles::Find(std::string_view name) const {
  const auto it = std::ranges::find(files_, name, &ClientFile::name);
  return it == files_.end() ? nullptr : &*it;
}

ClientManifest ClientFiles::Manifest() const {
  ClientManifest manifest;
  for (const ClientFile& file : files_)
    manifest.files.push_back({file.name, file.bytes.size(), Sha256Hex(file.bytes)});
  std::ranges::sort(manifest.files, {}, &ClientManifest::Entry::name);
  return manifest;
}

Result<ClientFiles> ClientFilesOfBundle(const std::string& directory) {
  PV_ASSIGN_OR_RETURN(const auto json, ReadBundleFile(directory + "/model.json", kMaxConfigBytes));
  PV_ASSIGN_OR_RETURN(const ModelConfig model,
                      ParseModelConfig({reinterpret_cast<const char*>(json.data()), json.size()}));
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(directory + "/model.safetensors"));
  if (!model.tensors_sha256.empty() && Sha256Hex(file->bytes()) != model.tensors_sha256)
    return MakeError(ErrorCode::kMismatch, "model.safetensors: sha256 is not model.json's {}",
                     model.tensors_sha256);
  PV_ASSIGN_OR_RETURN(const auto entries, ReadSafetensorsIndex(file->bytes()));
  ClientConfig config = ConfigOfBundle(model, directory);
  ClientFiles files;
  for (const SafetensorsEntry& entry : entries) {
    if (!IsOfClient(entry.name)) continue;
    const std::string name = ClientName(entry.name);
    config.tensors[name] = {entry.type, entry.shape};
    files.Add(name, file->bytes().subspan(entry.begin, entry.end - entry.begin), file);
  }
  PV_RETURN_IF_ERROR(files.AddIfThere(directory, kTextJsonName));
  files.Add(kClientConfigName, FormatClientConfig(config));
  return files;
}

bool IsBundle(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::path(path) / "model.json", error);
}

std::string NameOfModel(const std::string& path) {
  fs::path name(path);
  if (!name.has_filename()) name = name.parent_path();
  return name.extension() == ".gguf" ? name.stem().string() : name.filename().string();
}

}  // namespace polyveil::model
