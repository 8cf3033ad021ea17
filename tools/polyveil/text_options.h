// How text is picked and shown, as options.
#pragma once

#include <CLI/CLI.hpp>

#include "model/client/text_loop.h"

namespace polyveil::tools {

void AddTextOptions(CLI::App& app, model::TextOptions& options);

}  // namespace polyveil::tools
