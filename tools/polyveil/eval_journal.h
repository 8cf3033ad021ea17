// The file that makes an evaluation resumable: settings, then a line for every finished example.
#pragma once

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "base/result.h"

namespace polyveil::tools {

class EvalJournal {
 public:
  // An empty path keeps results in memory alone. A file that holds something is continued: its
  // settings must be these (kMismatch, both named); a last line cut off by an interruption is
  // dropped.
  static Result<EvalJournal> Open(const std::string& path, const nlohmann::json& settings);

  // The entry of an example, or null.
  const nlohmann::json* Find(const std::string& task, std::size_t index) const;
  // Errors: kIo.
  Status Append(const std::string& task, std::size_t index, nlohmann::json entry);

 private:
  Status Read(const nlohmann::json& settings);

  std::string path_;
  std::map<std::pair<std::string, std::size_t>, nlohmann::json> entries_;
};

}  // namespace polyveil::tools
