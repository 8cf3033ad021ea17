#include "polyveil/terminal_text.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

#include "base/printable.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {

bool StreamsText() {
  struct stat out {
  }, progress{};
  if (isatty(STDOUT_FILENO) || fstat(STDOUT_FILENO, &out) != 0) return false;
  if (fstat(STDERR_FILENO, &progress) != 0) return true;
  return out.st_dev != progress.st_dev || out.st_ino != progress.st_ino;
}

serve::RemoteProgressCallback TerminalText::Asking(const std::string& what,
                                                   double expected_seconds) {
  bar_.emplace(what, expected_seconds);
  return [this](const serve::RemoteProgress& progress) {
    bar_->Update(progress.done, progress.queued > 0
                                    ? fmt::format("waiting behind {} steps", progress.queued)
                                    : progress.operation);
  };
}

void TerminalText::Read(int tokens, double seconds) {
  std::fprintf(stderr, "%d tokens of the prompt at once: %s\n", tokens,
               FormatSeconds(seconds).c_str());
}

void TerminalText::Fed(const serve::TokenReport& token, const model::TextStep& step, int total) {
  std::string line =
      fmt::format("token {:>3}/{}  {:>8}", token.position + 1, total, FormatSeconds(token.seconds));
  if (token.logits_error >= 0) {
    line += fmt::format("  logit error {:.2e}{}", token.logits_error,
                        token.argmax_agrees ? "" : " (argmax differs)");
  }
  if (step.ends) {
    line += "  end of the text";
  } else {
    line += step.next ? "  \"" + Printable(step.shown) + "\"" : "  (prompt)";
  }
  std::fprintf(stderr, "%s\n", line.c_str());
}

void TerminalText::Stepped(int step, int total, double seconds, int going_on) {
  std::fprintf(stderr, "step %3d/%d  %8s  %d texts go on\n", step, total,
               FormatSeconds(seconds).c_str(), going_on);
}

void TerminalText::Padded(int sent, int total, double seconds) {
  std::fprintf(stderr, "token %3d/%d  %8s  (fixed length)\n", sent, total,
               FormatSeconds(seconds).c_str());
}

}  // namespace polyveil::tools
