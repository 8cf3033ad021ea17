// The folder of a run: whether the run that is there goes on, is lost or stands, and its curve.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace polyveil::train {

class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string Path(const std::string& name) const { return path_ + "/" + name; }
  std::string Checkpoint() const { return Path("last.pt"); }
  Status Write(const std::string& name, std::string_view bytes) const;

  // Makes the folder; whether its run goes on. Errors: kInvalidArgument for a run that is neither
  // to be resumed nor to be replaced.
  Result<bool> Open(bool resume, bool replace) const;

  // A new run: its config, and an empty curve.
  Status Start(const std::string& config) const;
  // Adds a line to curve.jsonl. Errors: kIo.
  Status AppendToCurve(const nlohmann::ordered_json& line) const;
  // A run that was cut off has written lines beyond its checkpoint, whose `counter` is `last`: they
  // come again.
  Status TruncateCurve(const char* counter, std::int64_t last) const;

 private:
  std::string path_;
};

}  // namespace polyveil::train
