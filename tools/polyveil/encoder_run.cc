#include "polyveil/encoder_run.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/buffer.h"
#include "base/output_file.h"
#include "base/secure_memory.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "model/decoder_reference.h"
#include "model/import/decoder_files.h"
#include "polyveil/prompt_file.h"
#include "polyveil/report_page.h"
#include "polyveil/terminal_text.h"
#include "version.h"

namespace polyveil::tools {
namespace {

constexpr mode_t kOwnerOnly = 0600;  // reports hold the texts

Status ReadTexts(EncoderOptions& options) {
  if (!options.file.empty()) {
    PV_ASSIGN_OR_RETURN(const std::string all, ReadPrompt(options.file));
    std::istringstream lines(all);
    for (std::string line; std::getline(lines, line);)
      if (!line.empty()) options.texts.push_back(line);
  }
  if (options.texts.empty())
    return MakeError(ErrorCode::kInvalidArgument, "no text: --text or --text-file");
  if (!options.second.empty() && options.texts.size() > 1)
    return MakeError(ErrorCode::kInvalidArgument, "--second goes with one text, not {}",
                     options.texts.size());
  if (options.check && !options.session.server.empty() && options.session.model.empty())
    return MakeError(ErrorCode::kInvalidArgument,
                     "--check needs the model's layers: name its folder with --model");
  return {};
}

Result<std::vector<model::EncoderText>> Encode(const model::ClientHalf& half,
                                               const EncoderOptions& options, int context) {
  if (!half.is_encoder())
    return MakeError(ErrorCode::kInvalidArgument,
                     "{} is no encoder: 'polyveil generate' and 'polyveil chat' write with it",
                     half.config().name);
  std::vector<model::EncoderText> encoded;
  for (size_t i = 0; i < options.texts.size(); ++i) {
    PV_ASSIGN_OR_RETURN(auto text, EncodeWithin(half, options.texts[i], options.second, context,
                                                fmt::format("text {}", i + 1)));
    encoded.push_back(std::move(text));
  }
  return encoded;
}

// Tells on the terminal, and keeps the costs.
class BatchesOnTerminal final : public BatchObserver {
 public:
  BatchesOnTerminal(size_t texts, std::span<const serve::PromptInfo> programs,
                    EncoderResults& results)
      : texts_(texts), programs_(programs), results_(results) {}
  serve::RemoteProgressCallback Asking(size_t first, size_t end, int tokens) override {
    return terminal_.Asking(
        fmt::format("texts {} to {} of {}, {} tokens", first + 1, end, texts_, tokens),
        ProgramFor(programs_, static_cast<size_t>(tokens)).seconds);
  }
  void Answered() override { terminal_.Answered(); }
  void Read(int tokens, const serve::SessionStep& cost, double seconds) override {
    terminal_.Read(tokens, cost.remote_seconds);
    ++results_.runs;
    serve::AccountStep(cost, 0, seconds, results_.report);
  }

 private:
  const size_t texts_;
  const std::span<const serve::PromptInfo> programs_;
  EncoderResults& results_;
  TerminalText terminal_;
};

Status RunEncrypted(ModelSession& session, const std::vector<model::EncoderText>& texts,
                    EncoderResults& results) {
  const std::vector<serve::PromptInfo>& programs = session.remote().info().prompts;
  BatchesOnTerminal terminal(texts.size(), programs, results);
  Timer timer;
  PV_ASSIGN_OR_RETURN(results.encrypted,
                      RunBatches(*session.half(), session.text(), programs, texts, terminal));
  RunReport& report = results.report;
  report.tokens_seconds = timer.Seconds();
  report.latency.total_seconds = 0;
  report.latency.FinishStep(report.tokens_seconds);
  report.latency.steps = results.runs;
  PV_ASSIGN_OR_RETURN(report.server_memory, session.remote().Memory());
  return {};
}

// The same of the float64 polynomial model.
Status RunPlain(const std::string& path, const model::ClientHalf& half, int context,
                const std::vector<model::EncoderText>& texts, EncoderResults& results) {
  PV_ASSIGN_OR_RETURN(const auto decoder,
                      model::LoadDecoder(path, {.context = context, .head = results.logits}));
  model::DecoderReference reference(*decoder);
  for (const model::EncoderText& text : texts) {
    PV_ASSIGN_OR_RETURN(const auto embedded, half.EmbedWhole(text));
    PV_ASSIGN_OR_RETURN(auto residuals, reference.Read(embedded));
    if (results.logits)
      residuals = {decoder->head->Logits(
          model::Normalised(decoder->blocks.back().forms.norm2, residuals.front()))};
    results.plain.push_back(std::move(residuals));
  }
  for (const auto& [site, count] : reference.escapes())
    if (count.escapes > 0)
      std::fprintf(stderr,
                   "%s: %llu of %llu inputs left the interval, by up to %.3g times its end\n",
                   site.c_str(), static_cast<unsigned long long>(count.escapes),
                   static_cast<unsigned long long>(count.evaluations), count.worst_ratio);
  return {};
}

// That the server's results are what is wanted of it.
Status CheckHead(const model::ClientHalf& half, const serve::ModelInfo& info, bool wanted) {
  const size_t labels = half.config().encoder->labels.size();
  if (wanted && info.labels == 0)
    return MakeError(ErrorCode::kMismatch,
                     "--head server: this server's results are residuals; `polyveil-server --head` "
                     "runs the classification head");
  if (!wanted && info.labels > 0)
    return MakeError(ErrorCode::kMismatch,
                     "this server's results are logits of {} labels: `polyveil classify --head "
                     "server` reads them",
                     info.labels);
  if (!wanted || static_cast<size_t>(info.labels) == labels) return {};
  return MakeError(ErrorCode::kMismatch, "the server's head has {} labels, the model's files {}",
                   info.labels, labels);
}

Status RunSession(const EncoderOptions& options, ModelSession& session, EncoderResults& results) {
  PV_RETURN_IF_ERROR(session.Connect(results.report));
  results.half = session.half();
  const serve::ModelInfo& info = session.remote().info();
  if (!info.encoder || info.prompts.empty())
    return MakeError(ErrorCode::kMismatch, "the server's model reads no whole texts");
  PV_RETURN_IF_ERROR(CheckHead(*session.half(), info, options.session.head));
  results.logits = options.session.head;
  const int context = std::min(session.context(), info.prompts.back().tokens);
  PV_ASSIGN_OR_RETURN(const auto texts, Encode(*session.half(), options, context));
  PV_RETURN_IF_ERROR(session.Begin({}, results.report));
  PV_RETURN_IF_ERROR(RunEncrypted(session, texts, results));
  Finish(results.report);
  if (!options.check) return {};
  return RunPlain(session.path(), *session.half(), context, texts, results);
}

}  // namespace

void AddEncoderOptions(Options& app, EncoderOptions& options) {
  app.add_option("--text", options.texts,
                 "a text (repeatable; other users of this machine can see it)")
      ->one_value();
  app.add_option("--text-file", options.file,
                 "a text a line of this file, - for the standard input");
  AddSessionOptions(app, options.session);
  AddOutputFile(app, "--json", options.json,
                "write results and costs to this file, for its owner alone (what may be shared: "
                "docs/operate.md)");
  AddReportPage(app, options.page);
  app.add_flag("--check", options.check, "compare with the float64 polynomial model");
}

Result<EncoderResults> RunEncoder(EncoderOptions options) {
  ProtectProcess();
  SetThreads(options.session.threads);
  buffer_pool::SetCacheLimit(size_t{256} << 20);
  PV_RETURN_IF_ERROR(ReadTexts(options));
  const OrderlyEnd end;
  PV_ASSIGN_OR_RETURN(const auto session, ModelSession::Open(options.session));
  // What cannot be run is refused before a server is started for it.
  if (session->half())
    PV_RETURN_IF_ERROR(Encode(*session->half(), options, session->half()->context()));
  EncoderResults results;
  const Status status = RunSession(options, *session, results);
  if (!status.ok()) return session->Explain(status.error());
  results.texts = std::move(options.texts);
  return results;
}

std::string CostToText(const EncoderResults& results) {
  return LatencyToText(results.report) +
         fmt::format("{} texts in {} runs: {}\n", results.texts.size(), results.runs,
                     FormatSeconds(results.report.tokens_seconds)) +
         TrafficToText(results.report);
}

Status WriteEncoderReport(const EncoderOptions& options, const EncoderResults& results,
                          const nlohmann::json& report) {
  PV_RETURN_IF_ERROR(WriteReportPage(options.page, PageOfRun(results.report, report)));
  if (options.json.empty()) return {};
  const auto replace = nlohmann::json::error_handler_t::replace;  // a text may hold any bytes
  return WriteFile(options.json, report.dump(1, ' ', false, replace) + "\n", kOwnerOnly);
}

}  // namespace polyveil::tools
