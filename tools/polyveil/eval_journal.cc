#include "polyveil/eval_journal.h"

#include <filesystem>

namespace polyveil::tools {
namespace {

using nlohmann::json;
constexpr const char* kFormat = "polyveil-eval/1";

bool IsEntry(const json& line) {
  return line.is_object() && line.contains("task") && line["task"].is_string() &&
         line.contains("index") && line["index"].is_number_unsigned();
}

}  // namespace

Result<EvalJournal> EvalJournal::Open(const std::string& path, const json& settings) {
  EvalJournal journal;
  if (path.empty()) return journal;
  journal.path_ = path;
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!error && size > 0) {  // an empty file is a new one
    PV_RETURN_IF_ERROR(journal.Read(settings));
    return journal;
  }
  std::ofstream out(path);
  out << json{{"format", kFormat}, {"settings", settings}}.dump() << "\n";
  if (!out.flush()) return MakeError(ErrorCode::kIo, "cannot write {}", path);
  return journal;
}

Status EvalJournal::Read(const json& settings) {
  std::ifstream in(path_);
  std::string text, whole;
  bool header = true;
  while (std::getline(in, text)) {
    const bool ended = !in.eof();
    const json line = json::parse(text, nullptr, false);
    if (header) {
      if (!line.is_object() || line.value("format", json()) != kFormat)
        return MakeError(ErrorCode::kCorrupt, "{}: line 1 names no format \"{}\"", path_, kFormat);
      if (line.value("settings", json()) != settings)
        return MakeError(ErrorCode::kMismatch, "{} is a run with {}, asked for {}", path_,
                         line.value("settings", json()).dump(), settings.dump());
      header = false;
    } else if (!ended) {
      break;
    } else if (!IsEntry(line)) {
      return MakeError(ErrorCode::kCorrupt, "{}: \"{}\" is no entry", path_, text.substr(0, 80));
    } else {
      entries_[{line["task"].get<std::string>(), line["index"].get<std::size_t>()}] = line;
    }
    whole += text + "\n";
  }
  // Without what was cut off, so that the next entry begins a line.
  std::ofstream out(path_, std::ios::trunc);
  out << whole;
  if (!out.flush()) return MakeError(ErrorCode::kIo, "cannot write {}", path_);
  return {};
}

const json* EvalJournal::Find(const std::string& task, std::size_t index) const {
  const auto it = entries_.find({task, index});
  return it == entries_.end() ? nullptr : &it->second;
}

Status EvalJournal::Append(const std::string& task, std::size_t index, json entry) {
  entry["task"] = task;
  entry["index"] = index;
  const std::string line = entry.dump() + "\n";
  entries_[{task, index}] = std::move(entry);
  if (path_.empty()) return {};
  std::ofstream out(path_, std::ios::app);
  out << line;
  if (!out.flush()) return MakeError(ErrorCode::kIo, "cannot write {}", path_);
  return {};
}

}  // namespace polyveil::tools
