// What a run of `generate` has cost, for the screen and for --json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "serve/client/batch_run.h"

namespace polyveil::tools {

using serve::TokenReport;

struct RunReport : serve::TextReport {
  std::string prompt;
  std::string server;  // URL
  int threads = 0;
  std::string backend, commit, cpu;
  double server_start_seconds = 0, keys_seconds = 0;
  int public_tokens = 0;      // of the prompt: sent in the clear, no steps
  double public_seconds = 0;  // to the session behind them
  u64 key_bytes_up = 0;
  u64 client_peak_rss_bytes = 0;
  std::vector<MemoryReport::Entry> server_memory;  // at the end
  // Several, decoded together; then the one text above and its tokens are empty.
  std::vector<serve::BatchedText> texts;
};

// This machine, program and process, at a run's end.
void Finish(RunReport& report);
// Where, by what, how long and how much: nothing of the text.
nlohmann::json CostToJson(const RunReport& report);
// The same and the text. Of decrypted values it holds tokens and verdicts; with share_bits > 0 also
// the checks' errors, flooded (ckks/client/flooding.h). Errors: kOutOfRange for other bits than the
// flooding's.
Result<nlohmann::json> ReportToJson(const RunReport& report, int share_bits);
// Whether --check found nothing (or was not asked for). Errors: kMismatch, with the first token
// whose logits are not finite, beyond what is allowed, or have another maximum.
Status JudgeCheck(const RunReport& report);
// Tables of seconds and shares, and the server's memory; what was sent and the peaks of memory.
std::string LatencyToText(const RunReport& report);
std::string TrafficToText(const RunReport& report);
// Both around the totals of a text.
std::string ReportToText(const RunReport& report);
// One line an entry.
std::string MemoryToText(const std::vector<MemoryReport::Entry>& entries);
// Parameters, cost and keys, before the run.
std::string InfoToText(const serve::ModelInfo& info);
// What making the weights' plaintexts takes, and what keeping them does.
std::string WeightsToText(const compile::Estimate& estimate);

}  // namespace polyveil::tools
