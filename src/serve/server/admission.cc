#include "serve/server/admission.h"

namespace polyveil::serve {
namespace {

constexpr char kSoonSeconds[] = "1", kLaterSeconds[] = "60";

std::shared_ptr<const Account> Anyone() {
  static const auto kAnyone = std::make_shared<const Account>();
  return kAnyone;
}

Refusal OverQuota(Error error, std::string after) {
  return {429, std::move(error), {{"Retry-After", std::move(after)}}};
}

}  // namespace

std::optional<Member> Admission::Find(const std::string& token) {
  return MemberOf(accounts_ ? accounts_->Find(token) : Anyone());
}

std::optional<Member> Admission::Named(const std::string& name) {
  if (!accounts_) return MemberOf(name.empty() ? Anyone() : nullptr);
  return MemberOf(accounts_->Named(name));
}

std::optional<Member> Admission::MemberOf(std::shared_ptr<const Account> account) {
  if (!account) return std::nullopt;
  const std::lock_guard lock(mutex_);
  std::shared_ptr<Usage>& usage = usage_[account->name];
  if (!usage) usage = std::make_shared<Usage>(account->name);
  return Member{account, usage};
}

Refusal Admission::Unknown() {
  return {401,
          MakeError(ErrorCode::kSecurity, "request: no token of an account (--token-file)"),
          {{"WWW-Authenticate", "Bearer"}}};
}

void Admission::Refresh() {
  // Those of before stay: who changes the file tries it with --check-config.
  if (accounts_) (void)accounts_->Refresh().ok();
}

Refusal Admission::Full(const Member& member, const char* what, u64 held, u64 limit, bool soon) {
  return OverQuota(
      MakeError(soon ? ErrorCode::kUnavailable : ErrorCode::kResource,
                "account '{}': {} {} of at most {}", member.account->name, held, what, limit),
      soon ? kSoonSeconds : kLaterSeconds);
}

std::optional<Refusal> Admission::CheckSeconds(const Member& member) {
  const std::optional<double> limit = member.account->quota.compute_seconds;
  const double used = member.usage->SecondsToday();
  if (!limit || used < *limit) return std::nullopt;
  return OverQuota(MakeError(ErrorCode::kResource,
                             "account '{}': {:.1f} s of computation today of at most {:.1f}",
                             member.account->name, used, *limit),
                   std::to_string(Usage::SecondsToMidnight()));
}

}  // namespace polyveil::serve
