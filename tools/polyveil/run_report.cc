#include "polyveil/run_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/system.h"
#include "base/thread_pool.h"
#include "base/worst.h"
#include "ckks/client/flooding.h"
#include "polyveil/terminal.h"
#include "ring/kernels.h"
#include "version.h"

namespace polyveil::tools {

using nlohmann::json;
using runtime::LatencyTable;

namespace {

// What is wrong with a checked token; empty: nothing.
std::string Fault(const TokenReport& token) {
  if (!token.not_finite.empty()) return "no number in the float64 model: " + token.not_finite;
  if (!std::isfinite(token.logits_error)) return "a logit that is no number";
  if (!(token.logits_error <= token.logits_allowed))
    return fmt::format("logit error {:.3g} > {:.3g}", token.logits_error, token.logits_allowed);
  return token.argmax_agrees ? "" : "another next token";
}

// The gate to the file: verdicts pass, numbers of decrypted values pass flooded or not at all.
void CheckToJson(const TokenReport& token, std::optional<ckks::Flooding>& sharing, json& out) {
  out["logits_allowed"] = token.logits_allowed;  // predicted: of nothing decrypted
  out["within_noise"] = token.logits_error <= token.logits_allowed;
  out["argmax_agrees"] = token.argmax_agrees;
  if (!sharing) return;
  const auto flooded = sharing->Flood(token.logits_error, token.logits_allowed);
  out["logits_error"] = flooded.ok() ? json(*flooded) : json();
  out["flooding_sigma"] = sharing->Sigma(token.logits_allowed);
}

json TokenToJson(const TokenReport& token, std::optional<ckks::Flooding>& sharing) {
  json out = {{"position", token.position},
              {"generated", token.generated},
              {"token", token.token},
              {"seconds", token.seconds},
              {"server_seconds", token.server_seconds}};
  if (token.next >= 0) {
    out["next"] = token.next;
    out["text"] = token.text;
  }
  if (token.logits_error >= 0) CheckToJson(token, sharing, out);
  if (!token.not_finite.empty()) out["not_finite"] = token.not_finite;
  return out;
}

std::string Rows(const char* title, std::vector<LatencyTable::Row> rows, double total) {
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  std::string text = fmt::format("{:<30}{:>9}{:>12}{:>8}\n", title, "count", "seconds", "share");
  for (const LatencyTable::Row& row : rows) {
    text += fmt::format("  {:<28}{:>9}{:>12.3f}{:>7.1f}%\n", row.name, row.count, row.seconds,
                        total > 0 ? row.seconds / total * 100 : 0);
  }
  return text + fmt::format("  {:<28}{:>9}{:>12.3f}\n", "total", "", total);
}

// fn(token, what to call it) of every token that was checked, of all texts.
template <typename F>
void ForChecked(const RunReport& report, F&& fn) {
  const auto each = [&](const std::vector<TokenReport>& tokens, const std::string& of) {
    for (const TokenReport& token : tokens)
      if (token.logits_error >= 0) fn(token, fmt::format("{}token {}", of, token.position + 1));
  };
  each(report.tokens, "");
  for (size_t i = 0; i < report.texts.size(); ++i)
    each(report.texts[i].tokens, fmt::format("text {}, ", i + 1));
}

size_t CountTokens(const RunReport& report) {
  size_t tokens = report.tokens.size();
  for (const serve::BatchedText& text : report.texts) tokens += text.tokens.size();
  return tokens;
}

std::string CheckSummary(const RunReport& report) {
  double worst = -1, allowed = -1;
  int agree = 0, checked = 0;
  ForChecked(report, [&](const TokenReport& token, const std::string&) {
    worst = Worse(worst, token.logits_error);
    allowed = Worse(allowed, token.logits_allowed);
    agree += token.argmax_agrees;
    ++checked;
  });
  if (checked == 0) return {};
  return fmt::format(
      "check against the float64 polynomial model: largest logit error {:.3g} (noise allows "
      "{:.3g}), argmax agrees at {} of {} positions\n",
      worst, allowed, agree, checked);
}

}  // namespace

std::string MemoryToText(const std::vector<MemoryReport::Entry>& entries) {
  std::string text = "memory of the server\n";
  for (const auto& [name, bytes] : entries)
    text += fmt::format("  {:<40}{:>12}\n", name, Bytes(bytes));
  return text;
}

void Finish(RunReport& report) {
  report.client_peak_rss_bytes = PeakRssBytes();
  report.threads = static_cast<int>(Threads());
  report.backend = ring::ActiveKernels().name;
  report.cpu = CpuName();
  report.commit = POLYVEIL_COMMIT;
}

json CostToJson(const RunReport& r) {
  json memory = json::array();
  for (const auto& [name, bytes] : r.server_memory)
    memory.push_back({{"name", name}, {"bytes", bytes}});
  return {{"model", serve::InfoToJson(r.info)},
          {"server", r.server},
          {"threads", r.threads},
          {"backend", r.backend},
          {"cpu", r.cpu},
          {"commit", r.commit},
          {"server_start_seconds", r.server_start_seconds},
          {"keys_seconds", r.keys_seconds},
          {"tokens_seconds", r.tokens_seconds},
          {"latency", serve::LatencyToJson(r.latency)},
          {"key_bytes_up", r.key_bytes_up},
          {"bytes_up", r.bytes_up},
          {"bytes_down", r.bytes_down},
          {"client_peak_rss_bytes", r.client_peak_rss_bytes},
          {"server_peak_rss_bytes", r.server_peak_rss_bytes},
          {"server_memory", memory}};
}

namespace {

json TokensToJson(const std::vector<TokenReport>& tokens, std::optional<ckks::Flooding>& sharing) {
  json out = json::array();
  for (const TokenReport& token : tokens) out.push_back(TokenToJson(token, sharing));
  return out;
}

json TextsToJson(const RunReport& r, std::optional<ckks::Flooding>& sharing) {
  json texts = json::array();
  for (const serve::BatchedText& text : r.texts)
    texts.push_back({{"prompt", text.prompt},
                     {"text", text.text},
                     {"end", text.end},
                     {"generated", text.generated},
                     {"tokens", TokensToJson(text.tokens, sharing)}});
  return {{"format", "polyveil-batch-run/1"}, {"texts", texts}};
}

}  // namespace

Result<json> ReportToJson(const RunReport& r, int share_bits) {
  std::optional<ckks::Flooding> sharing;
  if (share_bits > 0) {
    PV_ASSIGN_OR_RETURN(auto flooding,
                        ckks::Flooding::Create(share_bits, std::max<u64>(1, CountTokens(r))));
    sharing.emplace(std::move(flooding));
  }
  json report = CostToJson(r);
  report.update({{"generated", r.generated},
                 {"tokens_per_second", r.tokens_seconds > 0 ? r.generated / r.tokens_seconds : 0},
                 {"share_bits", share_bits}});
  if (!r.texts.empty()) {
    report.update(TextsToJson(r, sharing));
    return report;
  }
  report.update({{"format", "polyveil-run/1"},
                 {"prompt", r.prompt},
                 {"text", r.text},
                 {"end", r.end},
                 {"public_tokens", r.public_tokens},
                 {"public_seconds", r.public_seconds},
                 {"tokens", TokensToJson(r.tokens, sharing)}});
  return report;
}

Status JudgeCheck(const RunReport& report) {
  std::string first;
  int faults = 0, checked = 0;
  ForChecked(report, [&](const TokenReport& token, const std::string& name) {
    ++checked;
    const std::string fault = Fault(token);
    if (!fault.empty() && faults++ == 0) first = name + ": " + fault;
  });
  if (faults == 0) return {};
  return MakeError(ErrorCode::kMismatch, "check: {} of {} tokens differ from float64, first {}",
                   faults, checked, first);
}

std::string LatencyToText(const RunReport& r) {
  std::string text = Rows("component", r.latency.components, r.latency.total_seconds);
  text += Rows("primitive", r.latency.primitives, r.latency.total_seconds);
  return r.server_memory.empty() ? text : text + MemoryToText(r.server_memory);
}

std::string TrafficToText(const RunReport& r) {
  return fmt::format(
      "sent {} of keys and {} of tokens, received {}\npeak memory: client {}, server {}\n",
      Bytes(r.key_bytes_up), Bytes(r.bytes_up), Bytes(r.bytes_down), Bytes(r.client_peak_rss_bytes),
      Bytes(r.server_peak_rss_bytes));
}

std::string ReportToText(const RunReport& r) {
  const double steps = std::max(1, r.latency.steps);
  std::string text = LatencyToText(r) + CheckSummary(r);
  if (!r.texts.empty())
    text += fmt::format("{} texts together, {} steps; ", r.texts.size(), r.latency.steps);
  text += fmt::format("{} tokens fed ({} generated) in {}: {} per {}, {:.4f} generated tokens/s\n",
                      CountTokens(r), r.generated, FormatSeconds(r.tokens_seconds),
                      FormatSeconds(r.tokens_seconds / steps), r.texts.empty() ? "token" : "step",
                      r.tokens_seconds > 0 ? r.generated / r.tokens_seconds : 0);
  if (r.public_tokens > 0)
    text += fmt::format("behind {} public tokens, which the server took in {}\n", r.public_tokens,
                        FormatSeconds(r.public_seconds));
  return text + TrafficToText(r);
}

std::string InfoToText(const serve::ModelInfo& info) {
  const compile::Estimate& e = info.estimate;
  std::string text = fmt::format("model       {} (width {}, context {}), program {}\n", info.name,
                                 info.d_model, info.context, info.program_digest.substr(0, 16));
  if (info.texts > 1) text += fmt::format("            {} texts decoded together\n", info.texts);
  text += fmt::format("parameters  {}\n", info.security);
  text += fmt::format("            logQP = {:.1f} bits, table bound {} bits\n", info.log_qp,
                      info.max_log_qp);
  text += fmt::format("keys        {} rotations and {} others: {} up\n", info.keys.rotations.size(),
                      info.keys.count() - static_cast<int>(info.keys.rotations.size()),
                      Bytes(info.key_stream_bytes));
  text += fmt::format(
      "            in the server's memory {} ({}, {} of a token); {} expanded, {} compact ({} "
      "more "
      "a token)\n",
      Bytes(info.key_set_bytes), info.key_storage, FormatSeconds(info.key_expansion_seconds),
      Bytes(e.key_bytes_memory), Bytes(e.key_bytes_compact), FormatSeconds(e.compact_seconds));
  text += fmt::format("            about {} to make\n", FormatSeconds(e.key_generation_seconds));
  text += fmt::format(
      "{}     about {} on {} threads ({}); {} up, {} down\n"
      "            depth {} levels, {} bootstraps, {} rotations, {} products; in at level {}, out "
      "at "
      "{}\n",
      info.encoder     ? "texts  "
      : info.texts > 1 ? "a step "
                       : "a token",
      FormatSeconds(info.seconds_per_token()), info.threads, info.backend, Bytes(e.token_bytes_up),
      Bytes(e.token_bytes_down), e.depth_per_token, e.bootstraps_per_token, e.rotations_per_token,
      e.products_per_token, info.input_level, info.output_level);
  for (const serve::PromptInfo& prompt : info.prompts)
    text += fmt::format("{}up to {} tokens at once: about {}\n",
                        &prompt == &info.prompts.front() ? "a prompt    " : "            ",
                        prompt.tokens, FormatSeconds(prompt.seconds));
  return text + fmt::format("server      about {} of memory; {}\n", Bytes(info.server_bytes()),
                            info.version);
}

std::string WeightsToText(const compile::Estimate& e) {
  return fmt::format(
      "weights     {} of plaintexts kept, made by the first token: {} more; {} a token for those "
      "that are not kept\n",
      Bytes(e.weight_bytes), FormatSeconds(e.first_seconds), FormatSeconds(e.make_seconds));
}

}  // namespace polyveil::tools
