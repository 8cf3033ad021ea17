#include "serve/server/accounts.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/csprng.h"
#include "base/output_file.h"
#include "base/printable.h"
#include "wire/file.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;

namespace {

constexpr char kFormat[] = "polyveil-accounts/1";
constexpr u64 kMaxFileBytes = u64{16} << 20;
constexpr double kMostSeconds = 86400.0 * 1024;  // of a day, on so many threads

// A token has 256 random bits: no slow hash is needed to keep it from being guessed.
Digest HashOf(std::string_view token) {
  return HashBytes("polyveil/token/1",
                   {reinterpret_cast<const std::uint8_t*>(token.data()), token.size()});
}

Status CheckNames(const json& object, const std::string& what,
                  std::initializer_list<const char*> names) {
  if (!object.is_object()) return MakeError(ErrorCode::kCorrupt, "{} is no object", what);
  for (const auto& [field, value] : object.items())
    if (std::ranges::find(names, field) == names.end())
      return MakeError(ErrorCode::kCorrupt, "{}: unknown field '{}'", what, Printable(field, 64));
  return {};
}

Status ReadLimit(const json& quota, const char* name, std::optional<u64>& limit) {
  if (!quota.contains(name)) return {};
  PV_ASSIGN_OR_RETURN(const auto value, wire::JsonInteger(quota, name, 0, INT64_MAX));
  limit = static_cast<u64>(value);
  return {};
}

Result<Quota> QuotaFrom(const json& object, const std::string& what) {
  PV_RETURN_IF_ERROR(
      CheckNames(object, what, {"key_sets", "key_bytes", "sessions", "steps", "compute_seconds"}));
  Quota quota;
  PV_RETURN_IF_ERROR(ReadLimit(object, "key_sets", quota.key_sets));
  PV_RETURN_IF_ERROR(ReadLimit(object, "key_bytes", quota.key_bytes));
  PV_RETURN_IF_ERROR(ReadLimit(object, "sessions", quota.sessions));
  PV_RETURN_IF_ERROR(ReadLimit(object, "steps", quota.steps));
  if (object.contains("compute_seconds")) {
    PV_ASSIGN_OR_RETURN(quota.compute_seconds,
                        wire::JsonNumber(object, "compute_seconds", 0, kMostSeconds));
  }
  return quota;
}

Result<json> ReadJson(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, wire::ReadPrivateFile(path, kMaxFileBytes));
  PV_ASSIGN_OR_RETURN(json file,
                      wire::ParseJson({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                                      kMaxFileBytes, path));
  PV_RETURN_IF_ERROR(CheckNames(file, path, {"format", "accounts"}));
  PV_ASSIGN_OR_RETURN(const std::string format, wire::JsonString(file, "format", 64));
  if (format != kFormat)
    return MakeError(ErrorCode::kMismatch, "{}: format '{}', expected '{}'", path,
                     Printable(format), kFormat);
  PV_ASSIGN_OR_RETURN(const json* accounts, wire::JsonField(file, "accounts"));
  if (accounts->is_array()) return file;
  return MakeError(ErrorCode::kCorrupt, "{}: field 'accounts' is no array", path);
}

Result<std::pair<Digest, std::shared_ptr<const Account>>> AccountFrom(const json& entry,
                                                                      const std::string& what) {
  PV_RETURN_IF_ERROR(CheckNames(entry, what, {"name", "token", "quota"}));
  auto account = std::make_shared<Account>();
  PV_ASSIGN_OR_RETURN(account->name, wire::JsonString(entry, "name", kMaxFileName));
  PV_RETURN_IF_ERROR(CheckFileName(what + ": name", account->name));
  PV_ASSIGN_OR_RETURN(const std::string hex, wire::JsonString(entry, "token", 64));
  PV_ASSIGN_OR_RETURN(const Digest digest, DigestFromHex(hex));
  if (entry.contains("quota")) {
    PV_ASSIGN_OR_RETURN(account->quota, QuotaFrom(entry["quota"], what + ": quota"));
  }
  return std::pair(digest, std::shared_ptr<const Account>(std::move(account)));
}

// Differs when the file does.
std::string StampOf(const std::string& path) {
  struct stat file {};
  if (stat(path.c_str(), &file) != 0) return {};
  return fmt::format("{} {} {} {}", file.st_ino, file.st_size, file.st_mtim.tv_sec,
                     file.st_mtim.tv_nsec);
}

}  // namespace

Result<std::unique_ptr<Accounts>> Accounts::Load(const std::string& path) {
  std::unique_ptr<Accounts> accounts(new Accounts(path));
  PV_RETURN_IF_ERROR(accounts->Refresh());
  return accounts;
}

Status Accounts::Refresh() {
  const std::string stamp = StampOf(path_);
  {
    const std::lock_guard lock(mutex_);
    if (!stamp.empty() && stamp == stamp_) return {};
    stamp_ = stamp;
  }
  PV_ASSIGN_OR_RETURN(const json file, ReadJson(path_));
  Table table;
  std::map<std::string, int, std::less<>> names;
  for (const json& entry : file["accounts"]) {
    PV_ASSIGN_OR_RETURN(auto account,
                        AccountFrom(entry, fmt::format("{}: account {}", path_, table.size())));
    const std::string& name = account.second->name;
    if (++names[name] > 1 || table.contains(account.first))
      return MakeError(ErrorCode::kCorrupt, "{}: account '{}' or its token stands twice", path_,
                       name);
    table.insert(std::move(account));
  }
  const std::lock_guard lock(mutex_);
  table_ = std::move(table);
  return {};
}

std::shared_ptr<const Account> Accounts::Find(std::string_view token) const {
  const Digest digest = HashOf(token);
  const std::lock_guard lock(mutex_);
  const auto found = table_.find(digest);
  return found == table_.end() ? nullptr : found->second;
}

std::shared_ptr<const Account> Accounts::Named(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [digest, account] : table_)
    if (account->name == name) return account;
  return nullptr;
}

Result<std::string> AddAccount(const std::string& path, const std::string& name) {
  PV_RETURN_IF_ERROR(CheckFileName("account", name));
  json file = {{"format", kFormat}, {"accounts", json::array()}};
  if (!StampOf(path).empty()) {
    PV_ASSIGN_OR_RETURN(file, ReadJson(path));
  }
  const Seed seed = RandomSeed();
  std::string token = "pv_" + ToHex(seed);
  json& accounts = file["accounts"];
  auto entry = std::ranges::find_if(accounts, [&](const json& account) {
    return account.is_object() && account.value("name", json()) == name;
  });
  if (entry == accounts.end()) {
    accounts.push_back({{"name", name}});
    entry = std::prev(accounts.end());
  }
  (*entry)["token"] = ToHex(HashOf(token));
  PV_ASSIGN_OR_RETURN(auto out, wire::PrivateFile::Create(path));
  const std::string text = file.dump(1) + "\n";
  PV_RETURN_IF_ERROR(out.Write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  PV_RETURN_IF_ERROR(out.Commit());
  return token;
}

}  // namespace polyveil::serve
