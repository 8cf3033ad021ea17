// Who may use a server, and how much of it: a file of accounts, their tokens hashed
// (docs/formats/accounts.md).
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.h"
#include "base/int_types.h"
#include "base/result.h"

namespace polyveil::serve {

// Of one account; the server's own limits stand beside them.
struct Quota {
  std::optional<u64> key_sets;
  std::optional<u64> key_bytes;  // of evaluation keys, as they were sent
  std::optional<u64> sessions;
  std::optional<u64> steps;               // that run and wait
  std::optional<double> compute_seconds;  // of steps, in a day (UTC)
};

struct Account {
  std::string name;
  Quota quota;
};

class Accounts {
 public:
  // Errors: those of reading, kCorrupt (field named); kSecurity for a file that others may read.
  static Result<std::unique_ptr<Accounts>> Load(const std::string& path);
  // Null for a token of nobody. What it points to stays as it is when the file changes.
  std::shared_ptr<const Account> Find(std::string_view token) const;
  std::shared_ptr<const Account> Named(std::string_view name) const;  // null: nobody
  // Reads the file again when it has changed; an error leaves the accounts of before.
  Status Refresh();

 private:
  using Table = std::map<Digest, std::shared_ptr<const Account>>;
  explicit Accounts(std::string path) : path_(std::move(path)) {}

  const std::string path_;
  mutable std::mutex mutex_;
  Table table_;        // guarded by mutex_, as is
  std::string stamp_;  // of the file that it was read from
};

// Adds an account, or gives one of this name another token; the file is made where it is missing.
// Returns the token, which is nowhere else. Errors: kInvalidArgument (the name), those of Load and
// of writing.
Result<std::string> AddAccount(const std::string& path, const std::string& name);

}  // namespace polyveil::serve
