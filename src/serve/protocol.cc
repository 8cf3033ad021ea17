#include "serve/protocol.h"

#include <bit>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "base/printable.h"
#include "wire/json_fields.h"

namespace polyveil::serve {

using nlohmann::json;
using wire::JsonField;
using wire::JsonInteger;
using wire::JsonNumber;
using wire::JsonString;

namespace {

constexpr int kMaxLevel = 128;
constexpr int kMaxSlots = 1 << 16;
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;
constexpr double kMaxSeconds = 1e9;
constexpr double kMaxShare = 1e300;
constexpr size_t kMaxRows = 256;
constexpr size_t kMaxNameBytes = 256;  // of a name as it is shown

json KeysToJson(const ckks::KeyRequest& keys) {
  json rotations = json::array();
  for (const auto& [rotation, level] : keys.rotations) rotations.push_back({rotation, level});
  return {{"rotations", rotations},
          {"relinearization_levels", keys.relinearization_levels},
          {"conjugation_levels", keys.conjugation_levels},
          {"encapsulation", keys.encapsulation}};
}

Status Into(const json& object, const char* name, std::int64_t lo, std::int64_t hi, auto& out) {
  PV_ASSIGN_OR_RETURN(const std::int64_t value, JsonInteger(object, name, lo, hi));
  out = static_cast<std::remove_reference_t<decltype(out)>>(value);
  return {};
}

// What a message says of a value that is not what it should be: numbers as they are, the rest by
// type (printing nested values recurses).
std::string Brief(const json& value) {
  return value.is_number() ? value.dump() : std::string(value.type_name());
}

bool IsIntegerIn(const json& value, std::int64_t lo, std::int64_t hi) {
  return value.is_number_integer() && value >= lo && value <= hi;
}

Status LevelsInto(const json& object, const char* name, std::set<int>& out) {
  PV_ASSIGN_OR_RETURN(const json* levels, JsonField(object, name));
  if (!levels->is_array() || levels->size() > kMaxLevel + 1) {
    return MakeError(ErrorCode::kCorrupt, "field '{}' is no array of at most {}", name,
                     kMaxLevel + 1);
  }
  for (const json& level : *levels) {
    if (!IsIntegerIn(level, 0, kMaxLevel)) {
      return MakeError(ErrorCode::kCorrupt, "field '{}': {} is no level", name, Brief(level));
    }
    out.insert(level.get<int>());
  }
  return {};
}

Result<ckks::KeyRequest> KeysFromJson(const json& object) {
  ckks::KeyRequest keys;
  PV_ASSIGN_OR_RETURN(const json* rotations, JsonField(object, "rotations"));
  if (!rotations->is_array() || rotations->size() > kMaxSlots) {
    return MakeError(ErrorCode::kCorrupt, "field 'rotations' is no array of at most {}", kMaxSlots);
  }
  for (const json& entry : *rotations) {
    if (!entry.is_array() || entry.size() != 2) {
      return MakeError(ErrorCode::kCorrupt, "field 'rotations': entry {} is no pair but {}",
                       keys.rotations.size(), Brief(entry));
    }
    if (!IsIntegerIn(entry[0], 1, kMaxSlots) || !IsIntegerIn(entry[1], 0, kMaxLevel)) {
      return MakeError(ErrorCode::kCorrupt, "field 'rotations': [{}, {}] is no [rotation, level]",
                       Brief(entry[0]), Brief(entry[1]));
    }
    keys.rotations.emplace(entry[0].get<int>(), entry[1].get<int>());
  }
  PV_RETURN_IF_ERROR(LevelsInto(object, "relinearization_levels", keys.relinearization_levels));
  PV_RETURN_IF_ERROR(LevelsInto(object, "conjugation_levels", keys.conjugation_levels));
  PV_ASSIGN_OR_RETURN(keys.encapsulation, wire::JsonBool(object, "encapsulation"));
  return keys;
}

// [[component, layer, from, to]]
json LevelsToJson(const std::vector<compile::LevelStage>& stages) {
  json out = json::array();
  for (const compile::LevelStage& stage : stages)
    out.push_back({compile::ComponentName(stage.component), stage.layer, stage.from, stage.to});
  return out;
}

Result<compile::Component> ComponentFromJson(const json& value) {
  for (int i = 0; i < compile::kComponentCount; ++i)
    if (const auto component = static_cast<compile::Component>(i);
        value == compile::ComponentName(component))
      return component;
  return MakeError(ErrorCode::kCorrupt, "field 'levels': a component that is a {}", Brief(value));
}

Result<std::vector<compile::LevelStage>> LevelsFromJson(const json& object) {
  constexpr size_t kMaxStages = 1 << 14;
  PV_ASSIGN_OR_RETURN(const json* entries, JsonField(object, "levels"));
  if (!entries->is_array() || entries->size() > kMaxStages)
    return MakeError(ErrorCode::kCorrupt, "field 'levels' is no array of at most {}", kMaxStages);
  std::vector<compile::LevelStage> stages;
  for (const json& entry : *entries) {
    if (!entry.is_array() || entry.size() != 4 || !IsIntegerIn(entry[1], -1, 1 << 16) ||
        !IsIntegerIn(entry[2], 0, kMaxLevel) || !IsIntegerIn(entry[3], 0, kMaxLevel))
      return MakeError(ErrorCode::kCorrupt,
                       "field 'levels': entry {} is no [component, layer, "
                       "level, level]",
                       stages.size());
    PV_ASSIGN_OR_RETURN(const compile::Component component, ComponentFromJson(entry[0]));
    stages.push_back({component, entry[1].get<int>(), entry[2].get<int>(), entry[3].get<int>()});
  }
  return stages;
}

Result<compile::Estimate> EstimateFromJson(const json& object) {
  constexpr int kMaxCount = 1 << 30;
  compile::Estimate e;
  PV_ASSIGN_OR_RETURN(e.seconds_per_token, JsonNumber(object, "seconds_per_token", 0, kMaxSeconds));
  PV_ASSIGN_OR_RETURN(e.key_generation_seconds,
                      JsonNumber(object, "key_generation_seconds", 0, kMaxSeconds));
  PV_RETURN_IF_ERROR(Into(object, "key_bytes_wire", 0, kMaxBytes, e.key_bytes_wire));
  PV_RETURN_IF_ERROR(Into(object, "key_bytes_memory", 0, kMaxBytes, e.key_bytes_memory));
  PV_RETURN_IF_ERROR(Into(object, "key_bytes_compact", 0, kMaxBytes, e.key_bytes_compact));
  PV_ASSIGN_OR_RETURN(e.compact_seconds, JsonNumber(object, "compact_seconds", 0, kMaxSeconds));
  PV_RETURN_IF_ERROR(Into(object, "server_bytes", 0, kMaxBytes, e.server_bytes));
  PV_RETURN_IF_ERROR(Into(object, "token_bytes_up", 0, kMaxBytes, e.token_bytes_up));
  PV_RETURN_IF_ERROR(Into(object, "token_bytes_down", 0, kMaxBytes, e.token_bytes_down));
  PV_RETURN_IF_ERROR(Into(object, "depth_per_token", 0, kMaxCount, e.depth_per_token));
  PV_RETURN_IF_ERROR(Into(object, "bootstraps_per_token", 0, kMaxCount, e.bootstraps_per_token));
  PV_RETURN_IF_ERROR(Into(object, "rotations_per_token", 0, kMaxCount, e.rotations_per_token));
  PV_RETURN_IF_ERROR(Into(object, "products_per_token", 0, kMaxCount, e.products_per_token));
  PV_ASSIGN_OR_RETURN(const json* components, JsonField(object, "component_seconds"));
  for (int i = 0; i < compile::kComponentCount; ++i) {
    const char* name = compile::ComponentName(static_cast<compile::Component>(i));
    PV_ASSIGN_OR_RETURN(const double seconds, JsonNumber(*components, name, 0, kMaxSeconds));
    e.component_seconds.push_back(seconds);
  }
  PV_ASSIGN_OR_RETURN(e.levels, LevelsFromJson(object));
  return e;
}

json SharesToJson(const runtime::NoiseShares& s) {
  return {{"fresh", s.fresh},
          {"bootstrap", s.bootstrap},
          {"rescale", s.rescale},
          {"key_switch", s.key_switch},
          {"key_switch_rows", s.key_switch_rows}};
}

Result<runtime::NoiseShares> SharesFromJson(const json& object, const char* name) {
  PV_ASSIGN_OR_RETURN(const json* field, JsonField(object, name));
  runtime::NoiseShares s;
  for (const auto& [key, value] :
       {std::pair{"fresh", &s.fresh}, std::pair{"bootstrap", &s.bootstrap},
        std::pair{"rescale", &s.rescale}, std::pair{"key_switch", &s.key_switch},
        std::pair{"key_switch_rows", &s.key_switch_rows}}) {
    PV_ASSIGN_OR_RETURN(*value, JsonNumber(*field, key, 0, kMaxShare));
  }
  return s;
}

// JSON has no infinity: null is no bound of the mean square. One that is no number allows nothing.
json ResultToJson(const runtime::ResultBounds& bounds) {
  const double mean_square = std::isnan(bounds.mean_square) ? 0 : bounds.mean_square;
  return {{"mean_square", std::isinf(mean_square) ? json() : json(mean_square)},
          {"copies", SharesToJson(bounds.copies)},
          {"imaginary", SharesToJson(bounds.imaginary)}};
}

Result<runtime::ResultBounds> ResultFromJson(const json& object) {
  runtime::ResultBounds bounds;
  PV_ASSIGN_OR_RETURN(const json* mean_square, JsonField(object, "mean_square"));
  if (!mean_square->is_null()) {
    PV_ASSIGN_OR_RETURN(bounds.mean_square, JsonNumber(object, "mean_square", 0, kMaxShare));
  }
  PV_ASSIGN_OR_RETURN(bounds.copies, SharesFromJson(object, "copies"));
  PV_ASSIGN_OR_RETURN(bounds.imaginary, SharesFromJson(object, "imaginary"));
  return bounds;
}

json RowsToJson(const std::vector<runtime::LatencyTable::Row>& rows) {
  json out = json::array();
  for (const auto& row : rows) {
    out.push_back({{"name", row.name}, {"count", row.count}, {"seconds", row.seconds}});
  }
  return out;
}

Result<std::vector<runtime::LatencyTable::Row>> RowsFromJson(const json& object, const char* name) {
  PV_ASSIGN_OR_RETURN(const json* rows, JsonField(object, name));
  if (!rows->is_array() || rows->size() > kMaxRows) {
    return MakeError(ErrorCode::kCorrupt, "field '{}' is no array of at most {}", name, kMaxRows);
  }
  std::vector<runtime::LatencyTable::Row> out;
  for (const json& entry : *rows) {
    runtime::LatencyTable::Row row;
    PV_ASSIGN_OR_RETURN(row.name, PeerText(entry, "name", kMaxNameBytes));
    PV_RETURN_IF_ERROR(Into(entry, "count", 0, std::numeric_limits<int>::max(), row.count));
    PV_ASSIGN_OR_RETURN(row.seconds, JsonNumber(entry, "seconds", -kMaxSeconds, kMaxSeconds));
    out.push_back(std::move(row));
  }
  return out;
}

json PromptsToJson(const std::vector<PromptInfo>& prompts) {
  json out = json::array();
  for (const PromptInfo& p : prompts)
    out.push_back({{"tokens", p.tokens},
                   {"input_level", p.input_level},
                   {"output_level", p.output_level},
                   {"seconds", p.seconds}});
  return out;
}

Result<std::vector<PromptInfo>> PromptsFromJson(const json& object, int context) {
  constexpr size_t kMaxPrompts = 16;
  PV_ASSIGN_OR_RETURN(const json* entries, JsonField(object, "prompts"));
  if (!entries->is_array() || entries->size() > kMaxPrompts)
    return MakeError(ErrorCode::kCorrupt, "field 'prompts' is no array of at most {}", kMaxPrompts);
  std::vector<PromptInfo> prompts;
  for (const json& entry : *entries) {
    PromptInfo p;
    PV_RETURN_IF_ERROR(
        Into(entry, "tokens", prompts.empty() ? 1 : prompts.back().tokens + 1, context, p.tokens));
    PV_RETURN_IF_ERROR(Into(entry, "input_level", 0, kMaxLevel, p.input_level));
    PV_RETURN_IF_ERROR(Into(entry, "output_level", 0, kMaxLevel, p.output_level));
    PV_ASSIGN_OR_RETURN(p.seconds, JsonNumber(entry, "seconds", 0, kMaxSeconds));
    prompts.push_back(p);
  }
  return prompts;
}

}  // namespace

Result<std::string> PeerText(const json& object, const char* name, size_t max_bytes) {
  PV_ASSIGN_OR_RETURN(const std::string text, JsonString(object, name, kMaxPeerTextBytes));
  return Printable(text, max_bytes);
}

compile::TokenLayout LayoutOf(const ModelInfo& info, const PromptInfo& program, int slots) {
  return {slots, info.prompt_row_slots, program.tokens, info.prompt_blocks};
}

const PromptInfo* PromptProgram(const ModelInfo& info, int tokens) {
  const PromptInfo* program = nullptr;
  for (const PromptInfo& each : info.prompts)
    if (program == nullptr || program->tokens < tokens) program = &each;
  const bool faster = program != nullptr && program->seconds < std::min(tokens, program->tokens) *
                                                                   info.estimate.seconds_per_token;
  return faster ? program : nullptr;
}

void DescribeParameters(const ckks::Parameters& params, ModelInfo& info) {
  info.parameters = params.spec().name;
  info.parameters_digest = ToHex(params.digest());
  info.security = params.Describe();
  info.insecure = params.insecure();
  info.log_qp = params.log_qp();
  info.max_log_qp = ckks::MaxLogQp(params.log_n());
}

json EstimateToJson(const compile::Estimate& e) {
  json components = json::object();
  for (int i = 0; i < compile::kComponentCount; ++i) {
    const bool known = static_cast<size_t>(i) < e.component_seconds.size();
    components[compile::ComponentName(static_cast<compile::Component>(i))] =
        known ? e.component_seconds[i] : 0.0;
  }
  return {{"seconds_per_token", e.seconds_per_token},
          {"key_generation_seconds", e.key_generation_seconds},
          {"key_bytes_wire", e.key_bytes_wire},
          {"key_bytes_memory", e.key_bytes_memory},
          {"key_bytes_compact", e.key_bytes_compact},
          {"compact_seconds", e.compact_seconds},
          {"server_bytes", e.server_bytes},
          {"token_bytes_up", e.token_bytes_up},
          {"token_bytes_down", e.token_bytes_down},
          {"depth_per_token", e.depth_per_token},
          {"bootstraps_per_token", e.bootstraps_per_token},
          {"rotations_per_token", e.rotations_per_token},
          {"products_per_token", e.products_per_token},
          {"component_seconds", components},
          {"levels", LevelsToJson(e.levels)}};
}

json InfoToJson(const ModelInfo& info) {
  return {{"name", info.name},
          {"tensors_sha256", info.tensors_sha256},
          {"program_digest", info.program_digest},
          {"context", info.context},
          {"texts", info.texts},
          {"public_tokens", info.public_tokens},
          {"choice",
           {{"vocabulary", info.choice.vocabulary},
            {"temperature", info.choice.temperature},
            {"seconds", info.choice.seconds},
            {"level", info.choice.level},
            {"prompt_seconds", info.choice.prompt_seconds}}},
          {"d_model", info.d_model},
          {"input_unit", info.input_unit},
          {"result_unit", info.result_unit},
          {"result", ResultToJson(info.result)},
          {"parameters", info.parameters},
          {"parameters_digest", info.parameters_digest},
          {"security", info.security},
          {"insecure", info.insecure},
          {"log_qp", info.log_qp},
          {"max_log_qp", info.max_log_qp},
          {"input_level", info.input_level},
          {"output_level", info.output_level},
          {"prompt_row_slots", info.prompt_row_slots},
          {"prompt_blocks", info.prompt_blocks},
          {"labels", info.labels},
          {"prompts", PromptsToJson(info.prompts)},
          {"encoder", info.encoder},
          {"keys", KeysToJson(info.keys)},
          {"key_stream_bytes", info.key_stream_bytes},
          {"chunk_bytes", info.chunk_bytes},
          {"key_storage", info.key_storage},
          {"key_set_bytes", info.key_set_bytes},
          {"key_expansion_seconds", info.key_expansion_seconds},
          {"estimate", EstimateToJson(info.estimate)},
          {"threads", info.threads},
          {"backend", info.backend},
          {"version", info.version}};
}

Result<ModelInfo> InfoFromJson(const json& object) {
  ModelInfo info;
  for (const auto& [name, field] :
       {std::pair{"name", &info.name}, std::pair{"tensors_sha256", &info.tensors_sha256},
        std::pair{"program_digest", &info.program_digest},
        std::pair{"parameters", &info.parameters},
        std::pair{"parameters_digest", &info.parameters_digest},
        std::pair{"key_storage", &info.key_storage}, std::pair{"backend", &info.backend},
        std::pair{"version", &info.version}}) {
    PV_ASSIGN_OR_RETURN(*field, PeerText(object, name, kMaxNameBytes));
  }
  PV_RETURN_IF_ERROR(Into(object, "context", 1, 1 << 24, info.context));
  PV_RETURN_IF_ERROR(Into(object, "texts", 1, kMaxSlots, info.texts));
  if (!std::has_single_bit(static_cast<unsigned>(info.texts)))
    return MakeError(ErrorCode::kCorrupt, "field 'texts': {} is no power of two", info.texts);
  PV_RETURN_IF_ERROR(Into(object, "public_tokens", 0, info.context - 1, info.public_tokens));
  PV_RETURN_IF_ERROR(Into(object, "d_model", 1, kMaxSlots, info.d_model));
  PV_ASSIGN_OR_RETURN(const json* choice, JsonField(object, "choice"));
  PV_RETURN_IF_ERROR(Into(*choice, "vocabulary", 0, 2 * kMaxSlots, info.choice.vocabulary));
  PV_ASSIGN_OR_RETURN(info.choice.temperature, JsonNumber(*choice, "temperature", 0, 1e6));
  PV_ASSIGN_OR_RETURN(info.choice.seconds, JsonNumber(*choice, "seconds", 0, 1e9));
  PV_RETURN_IF_ERROR(Into(*choice, "level", 0, kMaxLevel, info.choice.level));
  PV_ASSIGN_OR_RETURN(info.choice.prompt_seconds, JsonNumber(*choice, "prompt_seconds", 0, 1e9));
  PV_ASSIGN_OR_RETURN(info.input_unit, JsonNumber(object, "input_unit", 1e-9, 1e9));
  PV_ASSIGN_OR_RETURN(info.result_unit, JsonNumber(object, "result_unit", 1e-9, 1e9));
  PV_ASSIGN_OR_RETURN(const json* result, JsonField(object, "result"));
  PV_ASSIGN_OR_RETURN(info.result, ResultFromJson(*result));
  PV_RETURN_IF_ERROR(Into(object, "input_level", 0, kMaxLevel, info.input_level));
  PV_RETURN_IF_ERROR(Into(object, "output_level", 0, kMaxLevel, info.output_level));
  PV_RETURN_IF_ERROR(Into(object, "prompt_row_slots", 0, kMaxSlots, info.prompt_row_slots));
  PV_ASSIGN_OR_RETURN(info.prompt_blocks, wire::JsonBool(object, "prompt_blocks"));
  PV_ASSIGN_OR_RETURN(info.encoder, wire::JsonBool(object, "encoder"));
  PV_RETURN_IF_ERROR(Into(object, "labels", 0, info.d_model, info.labels));
  // An encoder reads several texts.
  PV_ASSIGN_OR_RETURN(info.prompts,
                      PromptsFromJson(object, info.encoder ? kMaxSlots : info.context));
  PV_ASSIGN_OR_RETURN(const json* keys, JsonField(object, "keys"));
  PV_ASSIGN_OR_RETURN(info.keys, KeysFromJson(*keys));
  PV_RETURN_IF_ERROR(Into(object, "key_stream_bytes", 1, kMaxBytes, info.key_stream_bytes));
  PV_RETURN_IF_ERROR(Into(object, "chunk_bytes", 1024, kMaxChunkBytes, info.chunk_bytes));
  PV_RETURN_IF_ERROR(Into(object, "key_set_bytes", 0, kMaxBytes, info.key_set_bytes));
  PV_ASSIGN_OR_RETURN(info.key_expansion_seconds,
                      JsonNumber(object, "key_expansion_seconds", 0, kMaxSeconds));
  PV_ASSIGN_OR_RETURN(const json* estimate, JsonField(object, "estimate"));
  PV_ASSIGN_OR_RETURN(info.estimate, EstimateFromJson(*estimate));
  PV_RETURN_IF_ERROR(Into(object, "threads", 1, 1 << 16, info.threads));
  return info;
}

json MemoryToJson(const MemoryReport& report) {
  json entries = json::array();
  for (const auto& [name, bytes] : report.entries())
    entries.push_back({{"name", name}, {"bytes", bytes}});
  return entries;
}

Result<std::vector<MemoryReport::Entry>> MemoryFromJson(const json& entries) {
  if (!entries.is_array() || entries.size() > kMaxRows) {
    return MakeError(ErrorCode::kCorrupt, "memory report: no array of at most {}", kMaxRows);
  }
  std::vector<MemoryReport::Entry> out;
  for (const json& entry : entries) {
    MemoryReport::Entry& row = out.emplace_back();
    PV_ASSIGN_OR_RETURN(row.name, PeerText(entry, "name", kMaxNameBytes));
    PV_RETURN_IF_ERROR(Into(entry, "bytes", 0, kMaxBytes, row.bytes));
  }
  return out;
}

json LatencyToJson(const runtime::LatencyTable& table) {
  return {{"steps", table.steps},
          {"total_seconds", table.total_seconds},
          {"components", RowsToJson(table.components)},
          {"primitives", RowsToJson(table.primitives)}};
}

Result<runtime::LatencyTable> LatencyFromJson(const json& object) {
  runtime::LatencyTable table;
  PV_RETURN_IF_ERROR(Into(object, "steps", 0, 1 << 30, table.steps));
  PV_ASSIGN_OR_RETURN(table.total_seconds, JsonNumber(object, "total_seconds", 0, kMaxSeconds));
  PV_ASSIGN_OR_RETURN(table.components, RowsFromJson(object, "components"));
  PV_ASSIGN_OR_RETURN(table.primitives, RowsFromJson(object, "primitives"));
  return table;
}

Digest ChunkChecksum(wire::ByteView bytes) { return HashBytes("polyveil/chunk/1", bytes); }

Digest PublicDigest(std::string_view tensors_sha256, std::span<const std::int32_t> tokens) {
  Hasher hasher("polyveil/public/1");
  hasher.UpdateField(tensors_sha256).UpdateU64(tokens.size());
  for (const std::int32_t token : tokens) hasher.UpdateU64(static_cast<u64>(token));
  return hasher.Final();
}

}  // namespace polyveil::serve
