// Options that several verbs of the trainer share, and how they print.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "base/command_line.h"
#include "model/bundle.h"

namespace polyveil::train {

// Lines for people on standard output, as they come.
template <typename... Args>
void Print(fmt::format_string<Args...> format, Args&&... args) {
  const std::string text = fmt::format(format, std::forward<Args>(args)...);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

inline Option* AddData(Options& app, std::string& data) {
  return app.add_option("--data", data, "folder written by `prepare`");
}

inline constexpr int kMaxSteps = 1'000'000'000;

// Whether a run goes on, is lost or stands, and what of its config a command overrides.
struct Continuation {
  bool resume = false, replace = false;
  int stop_after = 0, threads = 0;
};
inline void AddContinuation(Options& app, Continuation& c) {
  auto* resume = app.add_flag("--resume", c.resume, "go on where the run that is there stopped");
  app.add_flag("--replace", c.replace, "start over, replacing the run that is there")
      ->excludes(resume);
  AddNumber(app, "--stop-after", c.stop_after, {0, kMaxSteps},
            "stop with a checkpoint after so many steps in all; 0: at the end");
  AddNumber(app, "--threads", c.threads, {0, static_cast<int>(kMaxThreads)},
            "threads, 0 for the configuration's");
}

// The text of a config file.
inline Result<std::string> ReadConfigText(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, 1 << 20));
  return std::string(bytes.begin(), bytes.end());
}

// What another run has left is kept unless the user says otherwise.
inline void AddReplace(Options& app, bool& replace) {
  app.add_flag("--replace", replace, "replace what the folder holds already");
}
inline Status CheckReplace(const std::string& file, bool replace) {
  if (replace || !std::filesystem::exists(file)) return {};
  return MakeError(ErrorCode::kInvalidArgument, "{}: it exists (--replace replaces it)", file);
}

}  // namespace polyveil::train
