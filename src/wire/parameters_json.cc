#include "wire/parameters_json.h"

#include "wire/json_fields.h"

namespace polyveil::wire {
namespace {

using ckks::LevelRole;
using nlohmann::json;

constexpr std::pair<LevelRole, const char*> kRoles[] = {
    {LevelRole::kBase, "base"},
    {LevelRole::kSlotsToCoeffs, "slots-to-coeffs"},
    {LevelRole::kWorking, "working"},
    {LevelRole::kEvalMod, "eval-mod"},
    {LevelRole::kCoeffsToSlots, "coeffs-to-slots"},
};
constexpr int kMaxGroups = 64;
constexpr int kMaxLevels = 120;  // a key's chain indices leave room for 128 primes of Q

Result<ckks::LevelGroup> GroupFromJson(const json& entry) {
  ckks::LevelGroup group{};
  PV_ASSIGN_OR_RETURN(const std::string role, JsonString(entry, "role", 32));
  bool found = false;
  for (const auto& [value, name] : kRoles) {
    if (role != name) continue;
    group.role = value;
    found = true;
  }
  if (!found) return MakeError(ErrorCode::kCorrupt, "field 'role' = '{}' is no level's role", role);
  PV_ASSIGN_OR_RETURN(const auto count, JsonInteger(entry, "count", 1, kMaxLevels));
  PV_ASSIGN_OR_RETURN(const auto log_prime, JsonInteger(entry, "log_prime", 13, 50));
  group.count = static_cast<int>(count);
  group.log_prime = static_cast<int>(log_prime);
  return group;
}

Status ChainFromJson(const json& object, std::vector<ckks::LevelGroup>& chain) {
  PV_ASSIGN_OR_RETURN(const json* groups, JsonField(object, "chain"));
  if (!groups->is_array() || groups->size() > kMaxGroups) {
    return MakeError(ErrorCode::kCorrupt,
                     "field 'chain' has {} entries, an array of at most {} is read", groups->size(),
                     kMaxGroups);
  }
  int levels = 0;
  for (const json& entry : *groups) {
    PV_ASSIGN_OR_RETURN(const ckks::LevelGroup group, GroupFromJson(entry));
    levels += group.count;
    chain.push_back(group);
  }
  if (levels > kMaxLevels) {
    return MakeError(ErrorCode::kOutOfRange, "field 'chain' has {} levels, at most {}", levels,
                     kMaxLevels);
  }
  return {};
}

Status IntegerInto(const json& object, const char* name, int lo, int hi, int& out) {
  PV_ASSIGN_OR_RETURN(const auto value, JsonInteger(object, name, lo, hi));
  out = static_cast<int>(value);
  return {};
}

}  // namespace

json SpecToJson(const ckks::ParametersSpec& spec) {
  json chain = json::array();
  for (const ckks::LevelGroup& group : spec.chain) {
    const char* role = "";
    for (const auto& [value, name] : kRoles) {
      if (group.role == value) role = name;
    }
    chain.push_back({{"role", role}, {"count", group.count}, {"log_prime", group.log_prime}});
  }
  return {{"name", spec.name},
          {"log_n", spec.log_n},
          {"chain", chain},
          {"special_primes", spec.special_primes},
          {"log_special_prime", spec.log_special_prime},
          {"sparse_hamming_weight", spec.sparse_hamming_weight},
          {"log_encapsulation_prime", spec.log_encapsulation_prime},
          {"insecure_for_tests", spec.insecure_for_tests}};
}

Result<ckks::ParametersSpec> SpecFromJson(const json& object) {
  ckks::ParametersSpec spec;
  PV_ASSIGN_OR_RETURN(spec.name, JsonString(object, "name", 64));
  PV_RETURN_IF_ERROR(IntegerInto(object, "log_n", 10, 17, spec.log_n));
  PV_RETURN_IF_ERROR(ChainFromJson(object, spec.chain));
  PV_RETURN_IF_ERROR(IntegerInto(object, "special_primes", 1, 64, spec.special_primes));
  PV_RETURN_IF_ERROR(IntegerInto(object, "log_special_prime", 13, 50, spec.log_special_prime));
  PV_RETURN_IF_ERROR(
      IntegerInto(object, "sparse_hamming_weight", 1, 1024, spec.sparse_hamming_weight));
  PV_RETURN_IF_ERROR(
      IntegerInto(object, "log_encapsulation_prime", 13, 50, spec.log_encapsulation_prime));
  PV_ASSIGN_OR_RETURN(spec.insecure_for_tests, JsonBool(object, "insecure_for_tests"));
  return spec;
}

}  // namespace polyveil::wire
