// What a terminal, or a file in its place, shows of a text that is being generated.
#pragma once

#include <optional>
#include <string>

#include "polyveil/progress_bar.h"
#include "serve/client/text_run.h"

namespace polyveil::tools {

// Whether standard output takes the text piece by piece. It does not where it is a terminal, whose
// lines of progress show the pieces already, nor where progress goes to the same file: the two
// would mix. Such a one gets the whole text at the end.
bool StreamsText();

// A bar and a line for each token on stderr.
class TerminalText final : public serve::TextObserver {
 public:
  serve::RemoteProgressCallback Asking(const std::string& what, double expected_seconds) override;
  void Answered() override { bar_.reset(); }
  void Read(int tokens, double seconds) override;
  void Fed(const serve::TokenReport& token, const model::TextStep& step, int total) override;
  void Stepped(int step, int total, double seconds, int going_on) override;
  void Padded(int sent, int total, double seconds) override;

 private:
  std::optional<ProgressBar> bar_;
};

}  // namespace polyveil::tools
