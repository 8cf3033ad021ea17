// What a run of `generate` has cost, for the screen and for --json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/latency_table.h"
#include "serve/protocol.h"

namespace polyveil::tools {

struct TokenReport {
  int position = 0;
  bool generated = false;  // false: a token of the prompt
  int token = 0;           // the one that was fed
  int next = -1;           // the one picked from its result; -1 when none was
  std::string text;        // of `next`
  double seconds = 0;
  double server_seconds = 0;
  // --check: against the float64 polynomial model.
  double logits_error = -1;    // largest, infinity for what is no number; -1 when not checked
  double logits_allowed = -1;  // what noise may do to this token's logits or an earlier one's
  bool argmax_agrees = true;
  std::string not_finite{};  // the float64 model's first site that read a NaN or infinity
};

struct RunReport {
  std::string prompt, text;
  std::string end;  // why the text ended: model::TextEndName
  serve::ModelInfo info;
  std::string server;  // URL
  int threads = 0;
  std::string backend, commit, cpu;
  double server_start_seconds = 0, keys_seconds = 0;
  double tokens_seconds = 0;  // all steps, prompt included
  int generated = 0;
  std::vector<TokenReport> tokens;
  runtime::LatencyTable latency;  // server's rows and the client's; adds up to tokens_seconds
  u64 key_bytes_up = 0, bytes_up = 0, bytes_down = 0;
  u64 client_peak_rss_bytes = 0, server_peak_rss_bytes = 0;
  std::vector<MemoryReport::Entry> server_memory;  // at the end
};

nlohmann::json ReportToJson(const RunReport& report);
// Whether --check found nothing (or was not asked for). Errors: kMismatch, with the first token
// whose logits are not finite, beyond what is allowed, or have another maximum.
Status JudgeCheck(const RunReport& report);
// Tables of seconds and shares, then totals.
std::string ReportToText(const RunReport& report);
// One line an entry.
std::string MemoryToText(const std::vector<MemoryReport::Entry>& entries);
// Parameters, cost and keys, before the run.
std::string InfoToText(const serve::ModelInfo& info);
// What making the weights' plaintexts takes, and what keeping them does.
std::string WeightsToText(const compile::Estimate& estimate);

}  // namespace polyveil::tools
