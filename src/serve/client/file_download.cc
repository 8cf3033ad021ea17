#include "serve/client/file_download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "base/printable.h"
#include "base/system.h"

namespace polyveil::serve {
namespace {

constexpr double kPatienceSeconds = 600, kBytesPerSecond = 16384;

// A file that grows at its end.
class GrowingFile {
 public:
  static Result<GrowingFile> Open(const std::string& path) {
    GrowingFile file(path);
    file.fd_ = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat info {};
    if (file.fd_ < 0 || fstat(file.fd_, &info) != 0) return file.Failed("cannot open the file");
    file.size_ = static_cast<u64>(info.st_size);
    return file;
  }
  GrowingFile(GrowingFile&& other) noexcept
      : path_(other.path_), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}
  GrowingFile& operator=(GrowingFile&&) = delete;
  ~GrowingFile() {
    if (fd_ >= 0) close(fd_);
  }

  Status Append(wire::ByteView bytes) {
    while (!bytes.empty()) {
      const ssize_t wrote = write(fd_, bytes.data(), bytes.size());
      if (wrote < 0 && errno == EINTR) continue;
      if (wrote <= 0) return Failed("cannot write");
      size_ += static_cast<u64>(wrote);
      bytes = bytes.subspan(static_cast<size_t>(wrote));
    }
    return {};
  }
  Status Sync() { return fsync(fd_) == 0 ? Status() : Failed("cannot sync"); }
  u64 size() const { return size_; }

 private:
  explicit GrowingFile(std::string path) : path_(std::move(path)) {}
  Error Failed(const char* action) const {
    return MakeError(ErrorCode::kIo, "{}: {} behind {} bytes: {}", path_, action, size_,
                     std::strerror(errno));
  }

  const std::string path_;
  int fd_ = -1;
  u64 size_ = 0;
};

// Bytes [first, end) of the entry; what arrives before an error is kept.
Status DownloadPart(RemoteModel& remote, const model::ClientManifest::Entry& entry, u64 end,
                    GrowingFile& file, const std::function<void(u64)>& on_bytes) {
  const u64 first = file.size();
  ClientRequest request = remote.NewRequest("GET", "/v1/model/client/files/" + entry.sha256);
  request.range = fmt::format("bytes={}-{}", first, end - 1);
  request.max_reply_bytes = end - first;
  PV_ASSIGN_OR_RETURN(const ClientReply reply,
                      remote.http().SendStreaming(request, [&](wire::ByteView bytes) -> Status {
                        PV_RETURN_IF_ERROR(file.Append(bytes));
                        on_bytes(file.size());
                        return {};
                      }));
  const std::string expected = fmt::format("bytes {}-{}/{}", first, end - 1, entry.bytes);
  const bool whole = reply.status == 200 && first == 0 && end == entry.bytes;
  if (reply.status / 100 != 2) return ErrorFromReply(reply.status, reply.text());
  if (!whole && (reply.status != 206 || reply.content_range != expected))
    return MakeError(ErrorCode::kCorrupt,
                     "client's half: '{}': asked for {}, answered with status {} and \"{}\"",
                     entry.name, expected, reply.status, Printable(reply.content_range, 128));
  if (file.size() == end) return {};
  return MakeError(ErrorCode::kCorrupt, "client's half: '{}': {} of {} bytes of a part came",
                   entry.name, file.size() - first, end - first);
}

}  // namespace

Status DownloadRest(RemoteModel& remote, const std::string& path,
                    const model::ClientManifest::Entry& entry,
                    const std::function<void(u64 done)>& on_bytes) {
  PV_ASSIGN_OR_RETURN(GrowingFile file, GrowingFile::Open(path));
  const double seconds = kPatienceSeconds + static_cast<double>(entry.bytes) / kBytesPerSecond;
  Timer timer;
  std::optional<Backoff> backoff(remote.NewBackoff());
  while (file.size() < entry.bytes) {
    const u64 before = file.size(), end = std::min(entry.bytes, before + kDownloadPartBytes);
    const Status part = DownloadPart(remote, entry, end, file, on_bytes);
    if (part.ok()) continue;
    if (timer.Seconds() > seconds)
      return MakeError(ErrorCode::kUnavailable,
                       "client's half: '{}': {} of {} bytes after {:.0f} s", entry.name,
                       file.size(), entry.bytes, timer.Seconds());
    if (file.size() > before) backoff.emplace(remote.NewBackoff());
    if (!backoff->Again(part.error())) return part.error();
  }
  return file.Sync();
}

}  // namespace polyveil::serve
