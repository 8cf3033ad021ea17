#include "polyveil/job_file.h"

#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "wire/json_fields.h"

namespace polyveil::tools {
namespace {

constexpr char kJobFormat[] = "polyveil-job/1";
constexpr mode_t kJobFileMode = 0600;
constexpr size_t kMaxJobBytes = size_t{16} << 20;

}  // namespace

Status WriteJobFile(const std::string& path, const JobFile& job) {
  const nlohmann::json body = {{"format", kJobFormat},
                               {"server", job.server},
                               {"job", job.job},
                               {"tensors_sha256", job.tensors_sha256},
                               {"key_id", job.key_id},
                               {"prompt", job.prompt},
                               {"public_tokens", job.public_tokens},
                               {"new_tokens", job.new_tokens}};
  return WriteFile(path, body.dump(1) + "\n", kJobFileMode);
}

Result<JobFile> ReadJobFile(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  PV_ASSIGN_OR_RETURN(const auto body, wire::ParseJson(file->text(), kMaxJobBytes, path));
  PV_ASSIGN_OR_RETURN(const std::string format, wire::JsonString(body, "format", 64));
  if (format != kJobFormat)
    return MakeError(ErrorCode::kMismatch, "{}: format '{}', expected '{}'", path, format,
                     kJobFormat);
  JobFile job;
  for (const auto& [name, field, most] :
       {std::tuple{"server", &job.server, size_t{4096}}, std::tuple{"job", &job.job, size_t{64}},
        std::tuple{"tensors_sha256", &job.tensors_sha256, size_t{64}},
        std::tuple{"key_id", &job.key_id, size_t{64}}}) {
    PV_ASSIGN_OR_RETURN(*field, wire::JsonString(body, name, most));
  }
  PV_ASSIGN_OR_RETURN(const auto* prompt, wire::JsonField(body, "prompt"));
  if (!prompt->is_array() || prompt->empty())
    return MakeError(ErrorCode::kCorrupt, "{}: field 'prompt' has no tokens", path);
  for (const auto& token : *prompt) {
    if (!token.is_number_integer() || token < 0 || token > INT32_MAX)
      return MakeError(ErrorCode::kCorrupt, "{}: entry {} of 'prompt' is no token", path,
                       job.prompt.size());
    job.prompt.push_back(token.get<model::TokenId>());
  }
  const auto tokens = static_cast<std::int64_t>(job.prompt.size());
  PV_ASSIGN_OR_RETURN(const auto known, wire::JsonInteger(body, "public_tokens", 0, tokens - 1));
  PV_ASSIGN_OR_RETURN(const auto more, wire::JsonInteger(body, "new_tokens", 1, 1 << 24));
  job.public_tokens = static_cast<int>(known);
  job.new_tokens = static_cast<int>(more);
  return job;
}

}  // namespace polyveil::tools
