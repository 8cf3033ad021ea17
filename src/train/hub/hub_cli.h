// polyveil-train convert-hub.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

// arguments[0] is "convert-hub". Options: --config, --model, --data (stories), --out; --eval-data,
// --resume, --stop-after, --threads.
Status RunConvertHubCommand(const std::vector<std::string>& arguments, std::FILE* out);

}  // namespace polyveil::train
