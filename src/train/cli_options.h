// Options that several verbs of the trainer share, and how they print.
#pragma once

#include <cstdio>
#include <filesystem>
#include <string>

#include "base/command_line.h"

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

// What another run has left is kept unless the user says otherwise.
inline void AddReplace(Options& app, bool& replace) {
  app.add_flag("--replace", replace, "replace what the folder holds already");
}
inline Status CheckReplace(const std::string& file, bool replace) {
  if (replace || !std::filesystem::exists(file)) return {};
  return MakeError(ErrorCode::kInvalidArgument, "{}: it exists (--replace replaces it)", file);
}

}  // namespace polyveil::train
