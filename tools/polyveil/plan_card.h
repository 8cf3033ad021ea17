// A page about an encrypted model for people who are to trust it: `plan --card`.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "polyveil/plan_model.h"
#include "serve/server/served_model.h"

namespace polyveil::tools {

// Markdown: what is computed and on which intervals, the scheme and what its security rests on,
// cost, what is public and what a server learns. Times are the plan's, of this machine, beside
// those that `run` measured (null: none; what `generate --json` writes). Errors: kMismatch for a
// run of another program, kCorrupt for a file that is no run's (field and values).
Result<std::string> ModelCard(const std::string& path, const PlannedModel& planned,
                              const serve::ServedModel& served, const nlohmann::json& run);

}  // namespace polyveil::tools
