// A prompt that is not among the program's arguments, which every user of a machine can list.
#pragma once

#include <string>

#include "base/result.h"

namespace polyveil::tools {

inline constexpr size_t kMaxPromptBytes = size_t{1} << 20;

// The text of a file, or of the standard input for "-", without its last line feed. Errors:
// kInvalidArgument (cannot be read), kOutOfRange (above kMaxPromptBytes), kIo, kCancelled.
Result<std::string> ReadPrompt(const std::string& path);

}  // namespace polyveil::tools
