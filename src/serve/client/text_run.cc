#include "serve/client/text_run.h"

#include <algorithm>

#include "base/system.h"

namespace polyveil::serve {
namespace {

// Errors that say something of what was decrypted; others are the server's, the network's, the
// user's.
bool IsOfDecrypted(ErrorCode code) {
  return code == ErrorCode::kOutOfRange || code == ErrorCode::kUntrustedResult;
}

void AddRow(const char* name, double seconds, TextReport& report) {
  report.latency.AddComponent(name, seconds);
  report.latency.AddPrimitive(name, seconds);
}

}  // namespace

void AccountStep(const SessionStep& step, double head_seconds, double total_seconds,
                 TextReport& report) {
  report.latency.Merge(step.server);
  const double transfer = step.remote_seconds - step.server.total_seconds;
  const double rest = total_seconds - step.remote_seconds - step.encrypt_seconds -
                      step.decrypt_seconds - head_seconds;
  for (const auto& [name, seconds] : {std::pair{"client: encode, encrypt", step.encrypt_seconds},
                                      std::pair{"transfer, parsing, queue", transfer},
                                      std::pair{"client: decrypt, decode", step.decrypt_seconds},
                                      std::pair{"client: embedding, head", head_seconds + rest}}) {
    AddRow(name, seconds, report);
  }
  report.bytes_up += step.bytes_up;
  report.bytes_down += step.bytes_down;
  report.server_peak_rss_bytes = std::max(report.server_peak_rss_bytes, step.server_peak_rss_bytes);
}

void AccountCheck(double seconds, TextReport& report) {
  AddRow("client: check in float64", seconds, report);
}

Result<model::TextEnd> TextRun::Continue(std::span<const model::TokenId> more, int new_tokens,
                                         const OnText& on_text) {
  const int tokens = static_cast<int>(loop_.text().size() + more.size()) - half_.prefix();
  const int total = std::min(context_, tokens + new_tokens - 1);
  Timer timer;
  const double before = report_.tokens_seconds;
  std::vector<model::TokenId> prompt(loop_.text());
  prompt.insert(prompt.end(), more.begin(), more.end());
  PV_RETURN_IF_ERROR(ReadAtOnce(prompt, total));
  const auto feed = [&](std::span<const model::TokenId> text) { return Feed(text, total); };
  auto end = loop_.Continue(more, new_tokens, feed, [&](const model::TextStep& step) {
    report_.tokens_seconds = before + timer.Seconds();
    Take(step, total);
    if (!step.shown.empty()) on_text(step.shown);
  });
  const std::string rest = loop_.Finish();
  report_.text += rest;
  if (!rest.empty()) on_text(rest);
  // What no row covers: the terminal, the client's half of tokens that were read at once.
  report_.latency.total_seconds = 0;
  report_.latency.FinishStep(report_.tokens_seconds);
  report_.latency.steps = static_cast<int>(report_.tokens.size());
  if (end.ok()) report_.end = model::TextEndName(*end);
  if (!options_.fixed_length) return end;
  // What ended a text early is the client's secret, unless the server or the user ended it.
  if (!end.ok() && !IsOfDecrypted(end.error().code)) return end;
  const Status padded = Pad(total);
  if (end.ok() && !padded.ok()) return padded.error();
  return end;
}

Status TextRun::Pad(int total) {
  while (session_.sent() < total) {
    Timer timer;
    PV_RETURN_IF_ERROR(session_.Pad());
    // As for any other token, so that the pauses between requests say nothing either.
    PV_RETURN_IF_ERROR(half_.Head(std::vector<double>(static_cast<size_t>(half_.width()))));
    observer_.Padded(session_.sent(), total, timer.Seconds());
  }
  return {};
}

Status TextRun::ReadAtOnce(std::span<const model::TokenId> text, int total) {
  const auto prefix = static_cast<size_t>(half_.prefix());
  const int all = static_cast<int>(text.size() - std::min(prefix, text.size()));
  const auto* const program = PromptProgram(report_.info, all);
  if (program == nullptr || session_.position() > 0 || all == 0) return {};
  const int tokens = std::min(program->tokens, all);
  Timer timer;
  std::vector<std::vector<double>> embeddings(static_cast<size_t>(tokens));
  for (size_t i = 0; i < embeddings.size(); ++i) {
    PV_ASSIGN_OR_RETURN(embeddings[i], half_.Embed(text.first(prefix + i + 1)));
  }
  const auto progress =
      observer_.Asking(fmt::format("tokens 1 to {} of {}", tokens, total), program->seconds);
  const auto prompt = session_.Read(embeddings, progress);
  observer_.Answered();
  if (!prompt.ok()) return prompt.error();
  const double seconds = timer.Seconds();
  observer_.Read(tokens, seconds);
  AccountStep(prompt->cost, 0, seconds, report_);
  read_.assign(prompt->residuals.begin(), prompt->residuals.end());
  read_seconds_ = seconds / tokens;
  read_server_seconds_ = prompt->cost.server.total_seconds / tokens;
  return {};
}

Result<std::vector<double>> TextRun::Feed(std::span<const model::TokenId> text, int total) {
  Timer timer;
  token_ = {};
  token_.token = text.back();
  token_.position = static_cast<int>(text.size()) - 1 - half_.prefix();
  PV_ASSIGN_OR_RETURN(const auto embedding, half_.Embed(text));
  std::vector<double> logits;
  if (read_.empty()) {
    PV_ASSIGN_OR_RETURN(logits, Step(embedding, total));
    token_.seconds = timer.Seconds();
  } else {
    PV_ASSIGN_OR_RETURN(logits, half_.Head(read_.front()));
    read_.pop_front();
    token_.seconds = read_seconds_;
    token_.server_seconds = read_server_seconds_;
  }
  if (check_) {
    const Timer check_timer;
    PV_RETURN_IF_ERROR(check_(embedding, logits, token_));
    AccountCheck(check_timer.Seconds(), report_);
  }
  return logits;
}

Result<std::vector<double>> TextRun::Step(std::span<const double> embedding, int total) {
  Timer timer;
  const auto progress = observer_.Asking(fmt::format("token {:>3}/{}", token_.position + 1, total),
                                         report_.info.seconds_per_token());
  const auto step = session_.Step(embedding, progress);
  observer_.Answered();
  if (!step.ok()) return step.error();
  Timer head_timer;
  PV_ASSIGN_OR_RETURN(auto logits, half_.Head(step->residual));
  token_.server_seconds = step->server.total_seconds;
  AccountStep(*step, head_timer.Seconds(), timer.Seconds(), report_);
  return logits;
}

void TextRun::Take(const model::TextStep& step, int total) {
  token_.generated = report_.generated > 0;
  if (step.next) token_.next = *step.next;
  token_.text = step.shown;
  report_.text += step.shown;
  if (step.next && !step.ends) ++report_.generated;
  observer_.Fed(token_, step, total);
  report_.tokens.push_back(token_);
}

}  // namespace polyveil::serve
