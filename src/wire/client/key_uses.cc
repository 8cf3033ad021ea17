#include "wire/client/key_uses.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/file_descriptor.h"
#include "wire/json_fields.h"

namespace polyveil::wire {
namespace {

using nlohmann::json;

constexpr char kFormat[] = "polyveil-key-uses/1";
constexpr size_t kMaxBytes = 1024;
constexpr std::int64_t kMaxCount = std::int64_t{1} << 53;

struct Record {
  std::string key_id;
  std::int64_t sessions = 0, written = 0;
};

Result<Record> Parse(std::string_view text, const std::string& path) {
  PV_ASSIGN_OR_RETURN(const json object, ParseJson(text, kMaxBytes, path));
  PV_ASSIGN_OR_RETURN(const std::string format, JsonString(object, "format", 64));
  if (format != kFormat)
    return MakeError(ErrorCode::kMismatch, "{}: format '{}', required '{}'", path, format, kFormat);
  Record record;
  PV_ASSIGN_OR_RETURN(record.key_id, JsonString(object, "key_id", 64));
  PV_ASSIGN_OR_RETURN(record.sessions, JsonInteger(object, "sessions", 0, kMaxCount));
  PV_ASSIGN_OR_RETURN(record.written, JsonInteger(object, "written", 0, kMaxCount));
  return record;
}

Result<std::string> ReadAll(int fd, const std::string& path) {
  std::array<char, kMaxBytes + 1> bytes;
  const ssize_t got = pread(fd, bytes.data(), bytes.size(), 0);
  if (got < 0) return SystemError(path, "cannot read");
  return std::string(bytes.data(), static_cast<size_t>(got));
}

// One write below a block's size: a crash leaves the old text or the new one.
Status WriteAll(int fd, const std::string& path, const Record& record) {
  const std::string text = json{{"format", kFormat},
                                {"key_id", record.key_id},
                                {"sessions", record.sessions},
                                {"written", record.written}}
                               .dump() +
                           "\n";
  if (pwrite(fd, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()) ||
      ftruncate(fd, static_cast<off_t>(text.size())) != 0 || fsync(fd) != 0) {
    return SystemError(path, "cannot write");
  }
  return {};
}

}  // namespace

std::string KeyUsesPath(const std::string& key_file) { return key_file + ".uses"; }

Result<KeyUses> CountSession(const std::string& key_file, const Digest& key_id) {
  struct stat key;
  if (stat(key_file.c_str(), &key) != 0) return SystemError(key_file, "cannot look at the key");
  const std::string path = KeyUsesPath(key_file);
  const Descriptor file{open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600)};
  if (file.fd < 0) return SystemError(path, "cannot open");
  if (flock(file.fd, LOCK_EX) != 0) return SystemError(path, "cannot lock");
  PV_ASSIGN_OR_RETURN(const std::string text, ReadAll(file.fd, path));
  Record record{ToHex(key_id), 0, static_cast<std::int64_t>(key.st_mtime)};
  if (!text.empty()) {
    PV_ASSIGN_OR_RETURN(const Record before, Parse(text, path));
    if (before.key_id == record.key_id) record = before;
  }
  ++record.sessions;
  PV_RETURN_IF_ERROR(WriteAll(file.fd, path, record));
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  return KeyUses{static_cast<u64>(record.sessions),
                 std::max(0.0, static_cast<double>(seconds - record.written) / 86400)};
}

}  // namespace polyveil::wire
