#include "polyveil/evidence.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "wire/client/secret_key_file.h"
#include "wire/json_fields.h"

namespace polyveil::tools {

using nlohmann::json;

namespace {

constexpr char kEvidenceFormat[] = "polyveil-evidence/1";
constexpr u64 kMaxFileBytes = u64{64} << 20;

std::string AboutPath(const std::string& folder) { return folder + "/evidence.json"; }

Result<std::vector<int>> Numbers(const json& object, const char* name) {
  PV_ASSIGN_OR_RETURN(const json* list, wire::JsonField(object, name));
  std::vector<int> numbers;
  for (const json& each : list->is_array() ? *list : json::array()) {
    if (!each.is_number_integer() || each < -1 || each > INT32_MAX)
      return MakeError(ErrorCode::kCorrupt, "field '{}': entry {} is no token", name,
                       numbers.size());
    numbers.push_back(each.get<int>());
  }
  return numbers;
}

Result<EvidenceStep> StepFrom(const json& entry) {
  PV_ASSIGN_OR_RETURN(const auto position, wire::JsonInteger(entry, "position", 0, INT32_MAX));
  PV_ASSIGN_OR_RETURN(const auto token, wire::JsonInteger(entry, "token", 0, INT32_MAX));
  PV_ASSIGN_OR_RETURN(const auto next, wire::JsonInteger(entry, "next", -1, INT32_MAX));
  return EvidenceStep{static_cast<int>(position), static_cast<int>(token), static_cast<int>(next)};
}

}  // namespace

std::string EvidenceKeyPath(const std::string& folder) { return folder + "/secret.pvkey"; }

std::string EvidenceMessagePath(const std::string& folder, int position, bool up) {
  return fmt::format("{}/{:05}.{}", folder, position, up ? "up" : "down");
}

Result<EvidenceFolder> EvidenceFolder::Create(const std::string& path) {
  if (mkdir(path.c_str(), 0700) == 0) return EvidenceFolder(path);
  return MakeError(ErrorCode::kInvalidArgument, "--evidence {}: cannot make the folder: {}", path,
                   std::strerror(errno));
}

void EvidenceFolder::Watch(serve::RemoteModel& remote) {
  remote.set_recorder([this](u32 position, wire::ByteView up, wire::ByteView down) {
    for (const auto& [is_up, bytes] : {std::pair{true, up}, std::pair{false, down}}) {
      if (!status_.ok()) return;
      status_ = WriteFile(EvidenceMessagePath(path_, static_cast<int>(position), is_up),
                          {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, 0600);
    }
  });
}

Status EvidenceFolder::Finish(const ckks::SecretKey& key, const serve::ModelInfo& info, int context,
                              std::span<const model::TokenId> before, const RunReport& report) {
  PV_RETURN_IF_ERROR(status_);
  PV_RETURN_IF_ERROR(wire::WriteSecretKey(EvidenceKeyPath(path_), key, std::nullopt));
  json about = {{"format", kEvidenceFormat},
                {"model", info.name},
                {"tensors_sha256", info.tensors_sha256},
                {"parameters", info.parameters},
                {"parameters_digest", info.parameters_digest},
                {"program_digest", info.program_digest},
                {"key_id", ToHex(wire::KeyIdOf(key))},
                {"context", context},
                {"before", before},
                {"steps", json::array()}};
  for (const TokenReport& token : report.tokens)
    about["steps"].push_back(
        {{"position", token.position}, {"token", token.token}, {"next", token.next}});
  return WriteFile(AboutPath(path_), about.dump(1) + "\n", 0600);
}

Result<Evidence> ReadEvidence(const std::string& folder) {
  PV_ASSIGN_OR_RETURN(const auto bytes, wire::ReadFile(AboutPath(folder), kMaxFileBytes));
  PV_ASSIGN_OR_RETURN(const json about,
                      wire::ParseJson({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                                      kMaxFileBytes, AboutPath(folder)));
  PV_ASSIGN_OR_RETURN(const std::string format, wire::JsonString(about, "format", 64));
  if (format != kEvidenceFormat)
    return MakeError(ErrorCode::kMismatch, "{}: format '{}', expected '{}'", folder, format,
                     kEvidenceFormat);
  Evidence evidence;
  for (const auto& [name, text] :
       {std::pair{"model", &evidence.model}, std::pair{"tensors_sha256", &evidence.tensors_sha256},
        std::pair{"parameters", &evidence.parameters},
        std::pair{"parameters_digest", &evidence.parameters_digest},
        std::pair{"program_digest", &evidence.program_digest},
        std::pair{"key_id", &evidence.key_id}}) {
    PV_ASSIGN_OR_RETURN(*text, wire::JsonString(about, name, 256));
  }
  PV_ASSIGN_OR_RETURN(const auto context, wire::JsonInteger(about, "context", 1, 1 << 24));
  evidence.context = static_cast<int>(context);
  PV_ASSIGN_OR_RETURN(const std::vector<int> before, Numbers(about, "before"));
  evidence.before.assign(before.begin(), before.end());
  PV_ASSIGN_OR_RETURN(const json* steps, wire::JsonField(about, "steps"));
  if (!steps->is_array() || steps->empty())
    return MakeError(ErrorCode::kCorrupt, "{}: field 'steps' holds none", folder);
  for (const json& entry : *steps) {
    PV_ASSIGN_OR_RETURN(const EvidenceStep step, StepFrom(entry));
    evidence.steps.push_back(step);
  }
  return evidence;
}

}  // namespace polyveil::tools
