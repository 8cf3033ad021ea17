// What a run has cost, as one HTML page that fetches nothing: it opens from a file, in light and
// dark, on a phone.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "base/command_line.h"
#include "base/memory_report.h"
#include "compile/level_stages.h"
#include "polyveil/run_report.h"
#include "runtime/latency_table.h"

namespace polyveil::tools {

struct ReportPage {
  using Facts = std::vector<std::pair<std::string, std::string>>;

  std::string title;  // the model
  Facts facts;        // name, value
  runtime::LatencyTable latency;
  std::vector<double> planned;  // seconds of a step by compile::Component; or empty
  std::vector<compile::LevelStage> levels;
  std::vector<MemoryReport::Entry> memory;
  struct Step {
    std::string name;
    double seconds = 0;
    std::string verdict;  // of a check; empty without one
  };
  std::vector<Step> steps;
};

std::string ToHtml(const ReportPage& page);

// Of a run of texts. report: what --json holds of it (ReportToJson, or an encoder's): what the page
// says of decrypted values stands there, texts do not stand here.
ReportPage PageOfRun(const RunReport& run, const nlohmann::json& report);

// --report.
void AddReportPage(Options& app, std::string& path);
// For its owner alone; nothing for an empty path. Errors: kIo.
Status WriteReportPage(const std::string& path, const ReportPage& page);

}  // namespace polyveil::tools
