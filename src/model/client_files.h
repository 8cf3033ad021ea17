// The client's half of a model as files: what a server sends and a client keeps. Each is named by
// its digest; docs/formats/client-half.md describes them.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace polyveil::model {

inline constexpr char kClientConfigName[] = "client.json";
inline constexpr char kTextJsonName[] = "tokenizer.json";
inline constexpr char kTextConfigName[] = "tokenizer_config.json";
inline constexpr char kTextGgufName[] = "tokenizer.gguf";
inline constexpr char kChatTemplateName[] = "chat_template.jinja";

inline constexpr std::size_t kMaxClientFiles = 64;
inline constexpr std::size_t kMaxManifestBytes = std::size_t{1} << 16;

// Names, sizes and SHA-256 of the files (lower-case hex), in the order of their names.
struct ClientManifest {
  struct Entry {
    std::string name;
    std::uint64_t bytes = 0;
    std::string sha256;
    bool operator==(const Entry&) const = default;
  };
  std::vector<Entry> files;

  std::uint64_t total_bytes() const;
  // Those of the text alone: the configuration and the tokenizer, no tables.
  ClientManifest OfText() const;
  // SHA-256 over names, sizes and digests: equal where the client's half is.
  std::string Digest() const;
  std::string Format() const;
  // Refuses more than kMaxManifestBytes or kMaxClientFiles, names that are no plain file names or
  // stand twice, digests that are none, a manifest without client.json, sizes that overflow.
  // Errors: kCorrupt, kOutOfRange, kMismatch, kInvalidArgument (a name).
  static Result<ClientManifest> Parse(std::string_view json);
};

struct ClientFile {
  std::string name;
  std::span<const std::uint8_t> bytes;
  std::shared_ptr<const void> owner;  // keeps the bytes: a mapping, mostly
  std::string_view text() const {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
};

class ClientFiles {
 public:
  void Add(std::string name, std::string text);
  void Add(std::string name, std::span<const std::uint8_t> bytes,
           std::shared_ptr<const void> owner);
  // Maps a file of the folder where there is one. Errors: kIo.
  Status AddIfThere(const std::string& folder, const std::string& name);

  const std::vector<ClientFile>& files() const { return files_; }
  const ClientFile* Find(std::string_view name) const;
  // Cost: SHA-256 over all bytes.
  ClientManifest Manifest() const;

 private:
  std::vector<ClientFile> files_;
};

// Of a bundle's folder: nothing of its layers is read but what model.json says, and the digest that
// it states is checked. Errors: those of the bundle's readers.
Result<ClientFiles> ClientFilesOfBundle(const std::string& directory);

// "models/tiny/" -> "tiny", "a/b.gguf" -> "b"
std::string NameOfModel(const std::string& path);

// Whether the path is a bundle's folder (it has a model.json), and no released model.
bool IsBundle(const std::string& path);

}  // namespace polyveil::model
