// Commands of the trainer whose bodies stand apart from cli.cc; cli.h has their options.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

Status Convert(const std::vector<std::string>& words, std::FILE* out);
Status RunStudyCommand(const std::vector<std::string>& words, std::FILE* out);
Status SearchCommand(const std::vector<std::string>& words, std::FILE* out);
Status MakeBaseline(const std::vector<std::string>& words, std::FILE* out);

}  // namespace polyveil::train
