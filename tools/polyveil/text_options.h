// How text is picked and shown, as options.
#pragma once

#include "base/command_line.h"
#include "model/client/text_loop.h"

namespace polyveil::tools {

void AddTextOptions(Options& app, model::TextOptions& options);

}  // namespace polyveil::tools
