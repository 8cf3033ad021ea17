// Who sends a request, and whether the account's quota has room for it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "serve/server/http_server.h"
#include "serve/server/usage.h"

namespace polyveil::serve {

class Admission {
 public:
  // accounts: null where whoever reaches the server may use it.
  explicit Admission(std::shared_ptr<Accounts> accounts) : accounts_(std::move(accounts)) {}

  // Nothing for a token of nobody.
  std::optional<Member> Find(const std::string& token);
  // Of an account by its name, without a token; nothing where it is no more.
  std::optional<Member> Named(const std::string& account);
  // 401, which does not say why.
  static Refusal Unknown();
  // Reads a changed file of accounts.
  void Refresh();

  // 429 where the quota has no room, with the time after which to ask again.
  static Refusal Full(const Member& member, const char* what, u64 held, u64 limit, bool soon);
  static std::optional<Refusal> CheckSeconds(const Member& member);

 private:
  std::optional<Member> MemberOf(std::shared_ptr<const Account> account);

  const std::shared_ptr<Accounts> accounts_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Usage>> usage_;  // by account; guarded by mutex_
};

}  // namespace polyveil::serve
