#include "polyveil/text_run.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/printable.h"
#include "base/system.h"
#include "base/worst.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"
#include "runtime/result_noise.h"

namespace polyveil::tools {
namespace {

// Errors that say something of what was decrypted; others are the server's, the network's, the
// user's.
bool IsOfDecrypted(ErrorCode code) {
  return code == ErrorCode::kOutOfRange || code == ErrorCode::kUntrustedResult;
}

size_t ArgMax(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

}  // namespace

bool StreamsText() {
  struct stat out {
  }, progress{};
  if (isatty(STDOUT_FILENO) || fstat(STDOUT_FILENO, &out) != 0) return false;
  if (fstat(STDERR_FILENO, &progress) != 0) return true;
  return out.st_dev != progress.st_dev || out.st_ino != progress.st_ino;
}

ReferenceCheck::ReferenceCheck(std::shared_ptr<const compile::CompiledDecoder> program,
                               const ClientModel& model)
    : client_(model.bundle),
      program_(std::move(program)),
      reference_(program_->decoder(), client_),
      simulator_(program_, runtime::NoiseModel::ForParameters(*program_->params()), 1) {}

Result<std::unique_ptr<ReferenceCheck>> ReferenceCheck::Create(const ClientModel& model,
                                                               const ckks::ParametersPtr& params) {
  PV_ASSIGN_OR_RETURN(auto body, model::LoadBodyBundle(model.directory));
  auto decoder = std::make_shared<const model::Decoder>(model::DecoderOfBundle(std::move(body)));
  PV_ASSIGN_OR_RETURN(auto program, runtime::CompileModel(std::move(decoder), params, {}));
  return std::unique_ptr<ReferenceCheck>(new ReferenceCheck(std::move(program), model));
}

Status ReferenceCheck::Compare(model::TokenId token, const std::vector<double>& embedding,
                               const std::vector<double>& logits, TokenReport& report) {
  PV_ASSIGN_OR_RETURN(const auto expected, reference_.Step(token, report.position));
  PV_ASSIGN_OR_RETURN(const auto residual, simulator_.Step(embedding));
  PV_ASSIGN_OR_RETURN(const auto simulated, model::Head(client_, residual));
  const double predicted = LargestDifference(simulated, expected);
  // A prediction that is no number allows nothing.
  if (std::isfinite(predicted)) allowed_ = std::max(allowed_, runtime::kNoiseAccuracy * predicted);
  report.logits_error = LargestDifference(logits, expected);
  report.logits_allowed = allowed_;
  report.argmax_agrees = ArgMax(logits) == ArgMax(expected);
  report.not_finite = reference_.body().first_not_finite();
  return {};
}

Status TextRun::Run(std::vector<model::TokenId> tokens) {
  const size_t total = tokens.size() + static_cast<size_t>(options_.new_tokens) - 1;
  const Status status = RunToEnd(std::move(tokens));
  if (!options_.fixed_length) return status;
  const Status padded = Pad(total, status);
  return status.ok() ? padded : status;
}

// What ended a text early is the client's secret, unless the server or the user ended it.
Status TextRun::Pad(size_t total, const Status& status) {
  if (!status.ok() && !IsOfDecrypted(status.error().code)) return {};
  while (static_cast<size_t>(session_.sent()) < total) {
    Timer timer;
    PV_RETURN_IF_ERROR(session_.Pad());
    // As for any other token, so that the pauses between requests say nothing either.
    const std::vector<double> nothing(static_cast<size_t>(model_.bundle.config.d_model));
    PV_RETURN_IF_ERROR(model::Head(model_.bundle, nothing));
    std::fprintf(stderr, "token %3d/%zu  %8s  (fixed length)\n", session_.sent(), total,
                 FormatSeconds(timer.Seconds()).c_str());
  }
  return {};
}

Status TextRun::RunToEnd(std::vector<model::TokenId> tokens) {
  if (options_.check) {
    PV_ASSIGN_OR_RETURN(check_, ReferenceCheck::Create(model_, session_.params()));
  }
  const size_t prompt = tokens.size();
  const size_t total = prompt + static_cast<size_t>(options_.new_tokens) - 1;
  Timer timer;
  for (size_t i = 0; i < total; ++i) {
    TokenReport report;
    report.generated = i >= prompt;
    PV_ASSIGN_OR_RETURN(const auto logits, Feed(std::span(tokens).first(i + 1), total, report));
    if (i + 1 >= prompt) {
      PV_RETURN_IF_ERROR(Pick(logits, report));
      tokens.push_back(report.next);
    }
    report_.tokens.push_back(report);
    report_.tokens_seconds = timer.Seconds();
    Show(report, i, total);
    if (report.next == model::Tokenizer::kEnd) break;
  }
  // What no row covers: the terminal, the check.
  report_.latency.total_seconds = 0;
  report_.latency.FinishStep(report_.tokens_seconds);
  report_.latency.steps = static_cast<int>(report_.tokens.size());
  return {};
}

Result<std::vector<double>> TextRun::Feed(std::span<const model::TokenId> text, size_t total,
                                          TokenReport& report) {
  Timer timer;
  report.token = text.back();
  report.position = session_.position();
  PV_ASSIGN_OR_RETURN(const auto embedding, model::Embed(model_.bundle, text));
  ProgressBar bar(fmt::format("token {:>3}/{}", text.size(), total),
                  report_.info.estimate.seconds_per_token);
  PV_ASSIGN_OR_RETURN(const serve::SessionStep step,
                      session_.Step(embedding, [&](const serve::RemoteProgress& progress) {
                        bar.Update(progress.done,
                                   progress.queued > 0
                                       ? fmt::format("waiting behind {} steps", progress.queued)
                                       : progress.operation);
                      }));
  bar.Clear();
  Timer head_timer;
  PV_ASSIGN_OR_RETURN(auto logits, model::Head(model_.bundle, step.residual));
  report.seconds = timer.Seconds();
  report.server_seconds = step.server.total_seconds;
  Account(step, head_timer.Seconds(), report.seconds);
  if (check_) PV_RETURN_IF_ERROR(check_->Compare(report.token, embedding, logits, report));
  return logits;
}

void TextRun::Account(const serve::SessionStep& step, double head_seconds, double total_seconds) {
  runtime::LatencyTable& table = report_.latency;
  table.Merge(step.server);
  const double transfer = step.remote_seconds - step.server.total_seconds;
  const double rest = total_seconds - step.remote_seconds - step.encrypt_seconds -
                      step.decrypt_seconds - head_seconds;
  for (const auto& [name, seconds] : {std::pair{"client: encode, encrypt", step.encrypt_seconds},
                                      std::pair{"transfer, parsing, queue", transfer},
                                      std::pair{"client: decrypt, decode", step.decrypt_seconds},
                                      std::pair{"client: embedding, head", head_seconds + rest}}) {
    table.AddComponent(name, seconds);
    table.AddPrimitive(name, seconds);
  }
  report_.bytes_up += step.bytes_up;
  report_.bytes_down += step.bytes_down;
  report_.server_peak_rss_bytes =
      std::max(report_.server_peak_rss_bytes, step.server_peak_rss_bytes);
}

Status TextRun::Pick(const std::vector<double>& logits, TokenReport& report) {
  for (const double logit : logits) {
    if (std::isfinite(logit)) continue;
    return MakeError(ErrorCode::kUntrustedResult,
                     "a value left its interval at token {}: a logit is {}", report.position + 1,
                     logit);
  }
  report.next = sampler_.Pick(logits);
  if (report.next == model::Tokenizer::kEnd) return {};
  PV_ASSIGN_OR_RETURN(report.text, model_.tokenizer.Piece(report.next));
  report_.text += report.text;
  ++report_.generated;
  return {};
}

void TextRun::Show(const TokenReport& token, size_t index, size_t total) {
  std::string line =
      fmt::format("token {:>3}/{}  {:>8}", index + 1, total, FormatSeconds(token.seconds));
  if (token.logits_error >= 0) {
    line += fmt::format("  logit error {:.2e}{}", token.logits_error,
                        token.argmax_agrees ? "" : " (argmax differs)");
  }
  if (token.next == model::Tokenizer::kEnd) {
    line += "  end of the story";
  } else if (token.next >= 0) {
    line += "  \"" + Printable(token.text) + "\"";
  } else {
    line += "  (prompt)";
  }
  std::fprintf(stderr, "%s\n", line.c_str());
  if (token.text.empty() || !StreamsText()) return;
  std::fwrite(token.text.data(), 1, token.text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace polyveil::tools
