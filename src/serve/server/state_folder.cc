#include "serve/server/state_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file_descriptor.h"
#include "base/output_file.h"
#include "wire/file.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr char kKeysFormat[] = "polyveil-stored-keys/1";
constexpr char kSessionFormat[] = "polyveil-stored-session/1";
constexpr char kSubmissionFormat[] = "polyveil-stored-job/1";
constexpr char kAbout[] = "/about.json", kStream[] = "/stream", kState[] = ".state";
constexpr u64 kMaxAboutBytes = u64{4} << 20;
constexpr u64 kMaxStateBytes = u64{1} << 36;

Status MakeFolder(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0 || errno == EEXIST) return {};
  return SystemError(path, "making the folder");
}

Status WriteWhole(const std::string& path, wire::ByteView bytes) {
  PV_ASSIGN_OR_RETURN(auto file, wire::PrivateFile::Create(path));
  PV_RETURN_IF_ERROR(file.Write(bytes));
  return file.Commit();
}

Status WriteAbout(const std::string& folder, const json& about) {
  PV_RETURN_IF_ERROR(MakeFolder(folder));
  const std::string text = about.dump();
  return WriteWhole(folder + kAbout,
                    {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

Result<json> ReadAbout(const std::string& folder, const char* format) {
  PV_ASSIGN_OR_RETURN(const auto bytes, wire::ReadFile(folder + kAbout, kMaxAboutBytes));
  PV_ASSIGN_OR_RETURN(json about,
                      wire::ParseJson({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                                      kMaxAboutBytes, folder));
  PV_ASSIGN_OR_RETURN(const std::string found, wire::JsonString(about, "format", 64));
  if (found == format) return about;
  return MakeError(ErrorCode::kMismatch, "{}: format '{}', expected '{}'", folder, found, format);
}

Result<StoredKeys> KeysOf(const std::string& folder, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const json about, ReadAbout(folder, kKeysFormat));
  StoredKeys keys;
  keys.handle = handle;
  PV_ASSIGN_OR_RETURN(keys.key_id, wire::JsonString(about, "key_id", 64));
  PV_ASSIGN_OR_RETURN(keys.request_id, wire::JsonString(about, "request_id", 64));
  PV_ASSIGN_OR_RETURN(keys.account, wire::JsonString(about, "account", kMaxFileName));
  PV_ASSIGN_OR_RETURN(const auto total, wire::JsonInteger(about, "total_bytes", 1, INT64_MAX));
  PV_ASSIGN_OR_RETURN(const auto chunk, wire::JsonInteger(about, "chunk_bytes", 1, INT64_MAX));
  keys.total_bytes = static_cast<u64>(total);
  keys.chunk_bytes = static_cast<u64>(chunk);
  return keys;
}

Result<std::vector<std::int32_t>> PublicTokensOf(const json& about, const std::string& folder) {
  PV_ASSIGN_OR_RETURN(const json* tokens, wire::JsonField(about, "public_tokens"));
  if (!tokens->is_array())
    return MakeError(ErrorCode::kCorrupt, "{}: field 'public_tokens' is no array", folder);
  std::vector<std::int32_t> ids;
  for (const json& token : *tokens) {
    if (!token.is_number_integer() || token < 0 || token > INT32_MAX)
      return MakeError(ErrorCode::kCorrupt, "{}: entry {} of 'public_tokens' is no token", folder,
                       ids.size());
    ids.push_back(token.get<std::int32_t>());
  }
  return ids;
}

Result<StoredSession> SessionOf(const std::string& folder, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const json about, ReadAbout(folder, kSessionFormat));
  StoredSession session;
  session.handle = handle;
  PV_ASSIGN_OR_RETURN(session.keys, wire::JsonString(about, "keys", kMaxFileName));
  PV_ASSIGN_OR_RETURN(session.request_id, wire::JsonString(about, "request_id", 64));
  PV_ASSIGN_OR_RETURN(session.public_tokens, PublicTokensOf(about, folder));
  return session;
}

Result<StoredSubmission> SubmissionOf(const std::string& folder, const std::string& handle) {
  PV_ASSIGN_OR_RETURN(const json about, ReadAbout(folder, kSubmissionFormat));
  StoredSubmission stored;
  stored.handle = handle;
  PV_ASSIGN_OR_RETURN(stored.keys, wire::JsonString(about, "keys", kMaxFileName));
  PV_ASSIGN_OR_RETURN(stored.key_id, wire::JsonString(about, "key_id", 64));
  PV_ASSIGN_OR_RETURN(stored.request_id, wire::JsonString(about, "request_id", 64));
  PV_ASSIGN_OR_RETURN(stored.account, wire::JsonString(about, "account", kMaxFileName));
  PV_ASSIGN_OR_RETURN(const auto prompt, wire::JsonInteger(about, "prompt_tokens", 1, INT32_MAX));
  PV_ASSIGN_OR_RETURN(const auto more, wire::JsonInteger(about, "new_tokens", 1, INT32_MAX));
  stored.prompt_tokens = static_cast<int>(prompt);
  stored.new_tokens = static_cast<int>(more);
  PV_ASSIGN_OR_RETURN(stored.temperature, wire::JsonNumber(about, "temperature", 0, 1e6));
  PV_ASSIGN_OR_RETURN(stored.seed, wire::JsonString(about, "seed", 64));
  PV_ASSIGN_OR_RETURN(stored.public_tokens, PublicTokensOf(about, folder));
  return stored;
}

std::string StateFile(const std::string& folder, int position) {
  return fmt::format("{}/{}{}", folder, position, kState);
}

// Of the newest file in it.
double AgeSeconds(const std::string& folder) {
  time_t newest = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    struct stat file {};
    if (stat(entry.path().c_str(), &file) == 0) newest = std::max(newest, file.st_mtime);
  }
  return std::difftime(std::time(nullptr), newest);
}

// Folders whose names are handles, each read by `read`; of any age those that are used.
template <typename Part>
std::vector<Part> List(const std::string& parent, double max_age_seconds,
                       Result<Part> (*read)(const std::string&, const std::string&),
                       const std::set<std::string>& used = {}) {
  std::vector<Part> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    const bool young = used.contains(name) || AgeSeconds(entry.path()) <= max_age_seconds;
    auto part = read(entry.path().string(), name);
    if (young && part.ok() && CheckFileName("handle", name).ok()) {
      found.push_back(std::move(*part));
    } else {
      fs::remove_all(entry.path(), error);
    }
  }
  return found;
}

}  // namespace

StoredPart::~StoredPart() {
  std::error_code error;
  if (removed_) fs::remove_all(folder_, error);
}

Result<std::unique_ptr<StateFolder>> StateFolder::Open(const std::string& path) {
  PV_RETURN_IF_ERROR(MakeFolder(path));
  struct stat folder {};
  if (stat(path.c_str(), &folder) != 0 || !S_ISDIR(folder.st_mode))
    return SystemError(path, "using the folder");
  if (folder.st_uid != geteuid() || (folder.st_mode & 077) != 0)
    return MakeError(ErrorCode::kSecurity, "{}: mode {:o} of user {}: it must be this user's alone",
                     path, folder.st_mode & 0777, folder.st_uid);
  PV_RETURN_IF_ERROR(MakeFolder(path + "/keys"));
  PV_RETURN_IF_ERROR(MakeFolder(path + "/sessions"));
  PV_RETURN_IF_ERROR(MakeFolder(path + "/jobs"));
  const int lock = open((path + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  std::unique_ptr<StateFolder> state(new StateFolder(path, lock));
  if (lock < 0) return SystemError(path, "locking");
  if (flock(lock, LOCK_EX | LOCK_NB) == 0) return state;
  return MakeError(ErrorCode::kUnavailable, "{}: another server uses it", path);
}

void StateFolder::Remove(const std::string& folder) const {
  std::error_code error;
  fs::remove_all(folder, error);
}

Status StateFolder::AddKeys(const StoredKeys& keys) {
  return WriteAbout(KeysFolder(keys.handle), {{"format", kKeysFormat},
                                              {"key_id", keys.key_id},
                                              {"request_id", keys.request_id},
                                              {"account", keys.account},
                                              {"total_bytes", keys.total_bytes},
                                              {"chunk_bytes", keys.chunk_bytes}});
}

// At its place: what a killed write has left there is written over.
Status StateFolder::WriteChunk(const StoredKeys& keys, u64 index, wire::ByteView bytes) {
  const std::string path = KeysFolder(keys.handle) + kStream;
  const Descriptor file{open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  if (file.fd < 0) return SystemError(path, "opening");
  auto offset = static_cast<off_t>(index * keys.chunk_bytes);
  while (!bytes.empty()) {
    const ssize_t wrote = pwrite(file.fd, bytes.data(), bytes.size(), offset);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return SystemError(path, "writing");
    bytes = bytes.subspan(static_cast<size_t>(wrote));
    offset += wrote;
  }
  if (fdatasync(file.fd) != 0) return SystemError(path, "syncing");
  return {};
}

Status StateFolder::AddSession(const StoredSession& session) {
  return WriteAbout(SessionFolder(session.handle), {{"format", kSessionFormat},
                                                    {"keys", session.keys},
                                                    {"request_id", session.request_id},
                                                    {"public_tokens", session.public_tokens}});
}

Status StateFolder::AddSubmission(const StoredSubmission& stored) {
  return WriteAbout(SubmissionFolder(stored.handle), {{"format", kSubmissionFormat},
                                                      {"keys", stored.keys},
                                                      {"key_id", stored.key_id},
                                                      {"request_id", stored.request_id},
                                                      {"account", stored.account},
                                                      {"prompt_tokens", stored.prompt_tokens},
                                                      {"new_tokens", stored.new_tokens},
                                                      {"temperature", stored.temperature},
                                                      {"seed", stored.seed},
                                                      {"public_tokens", stored.public_tokens}});
}

Status StateFolder::WriteState(const std::string& folder, int position, wire::ByteView bytes) {
  return WriteWhole(StateFile(folder, position), bytes);
}

bool StateFolder::HasState(const std::string& folder, int position) const {
  return access(StateFile(folder, position).c_str(), F_OK) == 0;
}

void StateFolder::KeepStates(const std::string& folder, int one, int other) {
  std::error_code error;
  for (const int position : Positions(folder))
    if (position != one && position != other) fs::remove(StateFile(folder, position), error);
}

Status StateFolder::WritePart(const std::string& folder, const std::string& name,
                              wire::ByteView bytes) {
  return WriteWhole(folder + "/" + name, bytes);
}

Result<wire::Bytes> StateFolder::ReadPart(const std::string& folder,
                                          const std::string& name) const {
  return wire::ReadFile(folder + "/" + name, kMaxStateBytes);
}

bool StateFolder::HasPart(const std::string& folder, const std::string& name) const {
  return access((folder + "/" + name).c_str(), F_OK) == 0;
}

void StateFolder::RemovePart(const std::string& folder, const std::string& name) const {
  std::error_code error;
  fs::remove(folder + "/" + name, error);
}

void StateFolder::TouchKeys(const std::string& handle) const {
  (void)utimensat(AT_FDCWD, (KeysFolder(handle) + kAbout).c_str(), nullptr, 0);
}

std::vector<StoredKeys> StateFolder::ListKeys(double max_age_seconds,
                                              const std::set<std::string>& used) {
  return List(path_ + "/keys", max_age_seconds, KeysOf, used);
}

std::vector<StoredSession> StateFolder::ListSessions(double max_age_seconds) {
  return List(path_ + "/sessions", max_age_seconds, SessionOf);
}

std::vector<StoredSubmission> StateFolder::ListSubmissions(double max_age_seconds) {
  return List(path_ + "/jobs", max_age_seconds, SubmissionOf);
}

// One that was killed in the middle of its writing does not count.
u64 StateFolder::CountChunks(const StoredKeys& keys) const {
  std::error_code missing;
  const u64 size = fs::file_size(KeysFolder(keys.handle) + kStream, missing);
  if (missing) return 0;
  const u64 all = (keys.total_bytes + keys.chunk_bytes - 1) / keys.chunk_bytes;
  return size >= keys.total_bytes ? all : size / keys.chunk_bytes;
}

Result<u64> StateFolder::ReadChunks(const StoredKeys& keys,
                                    const std::function<Status(wire::ByteView)>& take) {
  const u64 count = CountChunks(keys);
  if (count == 0) return count;
  PV_ASSIGN_OR_RETURN(auto file, wire::FileReader::Open(KeysFolder(keys.handle) + kStream));
  for (u64 i = 0; i < count; ++i) {
    const u64 left = keys.total_bytes - i * keys.chunk_bytes;
    PV_ASSIGN_OR_RETURN(const wire::Bytes bytes, file.Read(std::min(left, keys.chunk_bytes)));
    PV_RETURN_IF_ERROR(take(bytes));
  }
  return count;
}

std::vector<int> StateFolder::Positions(const std::string& folder) const {
  std::vector<int> positions;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    int position = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), position);
    if (bad == std::errc() && std::string_view(end) == kState) positions.push_back(position);
  }
  std::ranges::sort(positions, std::greater());
  return positions;
}

Result<wire::Bytes> StateFolder::ReadState(const std::string& folder, int position) const {
  return wire::ReadFile(StateFile(folder, position), kMaxStateBytes);
}

}  // namespace polyveil::serve
