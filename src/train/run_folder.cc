#include "train/run_folder.h"

#include <filesystem>
#include <fstream>

#include "base/output_file.h"

namespace polyveil::train {

Status RunFolder::Write(const std::string& name, std::string_view bytes) const {
  return WriteFile(Path(name), bytes);
}

Result<bool> RunFolder::Open(bool resume, bool replace) const {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error) return MakeError(ErrorCode::kIo, "cannot make {}: {}", path_, error.message());
  const bool exists = std::filesystem::exists(Checkpoint());
  if (exists && !resume && !replace)
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: holds a run (--resume goes on with it, --replace starts over)", path_);
  return exists && resume;
}

Status RunFolder::Start(const std::string& config) const {
  PV_RETURN_IF_ERROR(Write("config.json", config));
  return Write("curve.jsonl", "");
}

Status RunFolder::AppendToCurve(const nlohmann::ordered_json& line) const {
  std::ofstream out(Path("curve.jsonl"), std::ios::app);
  out << line.dump() << "\n";
  if (out.flush()) return {};
  return MakeError(ErrorCode::kIo, "cannot write {}", Path("curve.jsonl"));
}

Status RunFolder::TruncateCurve(const char* counter, std::int64_t last) const {
  std::ifstream in(Path("curve.jsonl"));
  std::string kept;
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (json.is_object() && json.value(counter, std::int64_t{0}) <= last) kept += line + "\n";
  }
  return Write("curve.jsonl", kept);
}

}  // namespace polyveil::train
