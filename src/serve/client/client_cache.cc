#include "serve/client/client_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include "base/file_descriptor.h"
#include "base/mapped_file.h"
#include "model/sha256.h"
#include "serve/client/file_download.h"

namespace polyveil::serve {
namespace {

namespace fs = std::filesystem;
using Entry = model::ClientManifest::Entry;

Error FileError(const fs::path& path, const char* action, const std::error_code& error) {
  return MakeError(ErrorCode::kIo, "{}: {}: {}", path.string(), action, error.message());
}

// Made where it is missing; what is there must be this user's alone to write.
Status PreparePrivateFolder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder.parent_path(), error);
  if (error) return FileError(folder.parent_path(), "cannot make the folder", error);
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return SystemError(folder, "cannot make the folder");
  struct stat info {};
  if (lstat(folder.c_str(), &info) != 0) return SystemError(folder, "cannot look at the folder");
  if (S_ISDIR(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & 022) == 0) return {};
  return MakeError(ErrorCode::kSecurity,
                   "{}: mode {:o} of user {}: no folder that user {} alone may write",
                   folder.string(), info.st_mode & 07777, info.st_uid, geteuid());
}

// Held until it goes out of scope; the file stays, so that nobody locks a removed one.
class FolderLock {
 public:
  static Result<FolderLock> Acquire(const fs::path& path, const std::atomic<bool>* cancel,
                                    const std::function<void()>& on_wait) {
    FolderLock lock;
    lock.fd_ = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock.fd_ < 0) return SystemError(path, "cannot open the lock");
    for (bool told = false; flock(lock.fd_, LOCK_EX | LOCK_NB) != 0; told = true) {
      if (errno != EWOULDBLOCK && errno != EINTR) return SystemError(path, "cannot lock");
      if (cancel != nullptr && *cancel)
        return MakeError(ErrorCode::kCancelled,
                         "cancelled while another process fetches the model");
      if (!told && on_wait) on_wait();
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    return lock;
  }
  FolderLock(FolderLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FolderLock& operator=(FolderLock&&) = delete;
  ~FolderLock() {
    if (fd_ >= 0) close(fd_);
  }

 private:
  FolderLock() = default;
  int fd_ = -1;
};

// The file as the manifest says; null for another one or none.
std::shared_ptr<const MappedFile> OpenSound(const fs::path& path, const Entry& entry) {
  const auto file = MappedFile::Open(path.string());
  const bool sound = file.ok() && (*file)->bytes().size() == entry.bytes &&
                     model::Sha256Hex((*file)->bytes()) == entry.sha256;
  return sound ? *file : nullptr;
}

// Nothing where a file is missing or is another one.
std::optional<model::ClientFiles> OpenWhole(const fs::path& folder,
                                            const model::ClientManifest& manifest) {
  model::ClientFiles files;
  for (const Entry& entry : manifest.files) {
    const auto file = OpenSound(folder / entry.name, entry);
    if (!file) return std::nullopt;
    files.Add(entry.name, file->bytes(), file);
  }
  return files;
}

// What an interrupted run, or a damaged folder, has left that can be used.
Status PrepareIncoming(const fs::path& folder, const fs::path& incoming,
                       const model::ClientManifest& manifest) {
  std::error_code error;
  if (fs::exists(folder, error)) {
    fs::remove_all(incoming, error);
    fs::rename(folder, incoming, error);
    if (error) return FileError(folder, "cannot move the damaged folder", error);
    for (const Entry& entry : manifest.files)
      if (!OpenSound(incoming / entry.name, entry)) fs::remove_all(incoming / entry.name, error);
  }
  return PreparePrivateFolder(incoming);
}

Status FetchFile(RemoteModel& remote, const fs::path& path, const Entry& entry,
                 const std::function<void(u64)>& on_bytes) {
  std::error_code error;
  bool resumed = fs::exists(path, error);
  if (resumed && OpenSound(path, entry)) return {};
  for (;; resumed = false) {
    if (!resumed || fs::file_size(path, error) >= entry.bytes) {
      fs::remove_all(path, error);
      resumed = false;
    }
    PV_RETURN_IF_ERROR(DownloadRest(remote, path.string(), entry, on_bytes));
    if (OpenSound(path, entry)) return {};
    if (resumed) continue;  // the part of before was another file's
    const auto file = MappedFile::Open(path.string());
    const std::string seen = file.ok() ? model::Sha256Hex((*file)->bytes()) : "none";
    fs::remove_all(path, error);
    return MakeError(ErrorCode::kCorrupt,
                     "client's half: the server's '{}' has sha256 {}, its manifest says {}",
                     entry.name, seen, entry.sha256);
  }
}

Status FetchInto(RemoteModel& remote, const fs::path& incoming,
                 const model::ClientManifest& manifest, const ClientCacheOptions& options) {
  u64 before = 0;
  for (const Entry& entry : manifest.files) {
    const auto on_bytes = [&](u64 of_file) {
      if (options.on_bytes) options.on_bytes(before + of_file, manifest.total_bytes());
    };
    PV_RETURN_IF_ERROR(FetchFile(remote, incoming / entry.name, entry, on_bytes));
    before += entry.bytes;
  }
  return {};
}

// Whole or not there: the folder gets its name when every file is on the disk.
Status Publish(const fs::path& incoming, const fs::path& folder) {
  if (rename(incoming.c_str(), folder.c_str()) != 0)
    return SystemError(folder, "cannot give the folder its name");
  const int parent = open(folder.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0 || fsync(parent) != 0) {
    const Error error = SystemError(folder.parent_path(), "cannot sync the folder");
    if (parent >= 0) close(parent);
    return error;
  }
  close(parent);
  return {};
}

}  // namespace

Result<std::string> DefaultModelCache() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return std::string(cache) + "/polyveil/models";
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] == '/') return std::string(home) + "/.cache/polyveil/models";
  return MakeError(ErrorCode::kNotFound,
                   "no cache folder: neither XDG_CACHE_HOME nor HOME is an absolute path");
}

Result<model::ClientManifest> FetchManifest(RemoteModel& remote,
                                            const ClientCacheOptions& options) {
  ClientRequest request = remote.NewRequest("GET", "/v1/model/client");
  request.max_reply_bytes = model::kMaxManifestBytes;
  PV_ASSIGN_OR_RETURN(const std::string text, remote.TextRepeated(request));
  PV_ASSIGN_OR_RETURN(model::ClientManifest manifest, model::ClientManifest::Parse(text));
  if (options.text_only) manifest = manifest.OfText();
  if (manifest.total_bytes() > options.max_bytes)
    return MakeError(ErrorCode::kResource,
                     "the client's half of the server's model has {} bytes, above the limit of {} "
                     "(--max-model-gigabytes)",
                     manifest.total_bytes(), options.max_bytes);
  return manifest;
}

Result<model::ClientFiles> FetchClientFiles(RemoteModel& remote,
                                            const ClientCacheOptions& options) {
  PV_ASSIGN_OR_RETURN(const model::ClientManifest manifest, FetchManifest(remote, options));
  std::string named = options.folder;
  if (named.empty()) {
    PV_ASSIGN_OR_RETURN(named, DefaultModelCache());
  }
  // A name alone has a parent folder too.
  const fs::path root = fs::absolute(named);
  PV_RETURN_IF_ERROR(PreparePrivateFolder(root.parent_path()));
  PV_RETURN_IF_ERROR(PreparePrivateFolder(root));
  const std::string digest = manifest.Digest();
  const fs::path folder = root / digest, incoming = root / ("." + digest);
  if (auto files = OpenWhole(folder, manifest)) return *std::move(files);
  PV_ASSIGN_OR_RETURN(
      const FolderLock lock,
      FolderLock::Acquire(incoming.string() + ".lock", remote.options().cancel, options.on_wait));
  if (auto files = OpenWhole(folder, manifest)) return *std::move(files);
  PV_RETURN_IF_ERROR(PrepareIncoming(folder, incoming, manifest));
  PV_RETURN_IF_ERROR(FetchInto(remote, incoming, manifest, options));
  PV_RETURN_IF_ERROR(Publish(incoming, folder));
  if (auto files = OpenWhole(folder, manifest)) return *std::move(files);
  return MakeError(ErrorCode::kIo, "{}: files changed while they were opened", folder.string());
}

}  // namespace polyveil::serve
