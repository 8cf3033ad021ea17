// Text on a server: embeddings up, residuals down, one token at a time, and what it cost.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "model/client/text_loop.h"
#include "polyveil/float_model.h"
#include "polyveil/run_report.h"
#include "serve/client/encrypted_session.h"

namespace polyveil::tools {

struct TextRunOptions {
  model::TextOptions text;
  // All new tokens are run, whatever they are: the server sees neither an end of the text nor a
  // result that the client refuses.
  bool fixed_length = false;
};

// Is told what a run does.
class TextObserver {
 public:
  virtual ~TextObserver() = default;
  // A request to the server begins, of `what`; what is returned hears how far it is, until
  // Answered.
  virtual serve::RemoteProgressCallback Asking(const std::string& what,
                                               double expected_seconds) = 0;
  virtual void Answered() = 0;
  // Tokens of the prompt have been read at once.
  virtual void Read(int /*tokens*/, double /*seconds*/) {}
  // A token has been fed, the one behind it picked where step.next is.
  virtual void Fed(const TokenReport& token, const model::TextStep& step, int total) = 0;
  // A step behind the end of a text of fixed length.
  virtual void Padded(int /*sent*/, int /*total*/, double /*seconds*/) {}
};

class TextRun {
 public:
  // Everything given outlives the run; results go into `report` as they come. check: may be null.
  TextRun(const model::ClientHalf& half, int context, serve::EncryptedSession& session,
          const TextRunOptions& options, ReferenceCheck* check, TextObserver& observer,
          RunReport& report)
      : half_(half),
        context_(context),
        session_(session),
        options_(options),
        check_(check),
        observer_(observer),
        report_(report),
        loop_(half, context, options.text) {}

  // The text begins with tokens that the session's server has taken in the clear, and the prefix.
  void Preload(std::span<const model::TokenId> tokens) { loop_.Preload(tokens); }
  // Adds tokens to the text, feeds what was not fed yet, then each picked token, until new_tokens
  // are picked or the text ends otherwise. `on_text` gets what may be shown of the new tokens.
  using OnText = std::function<void(std::string_view)>;
  Result<model::TextEnd> Continue(std::span<const model::TokenId> more, int new_tokens,
                                  const OnText& on_text);
  const model::TextLoop& loop() const { return loop_; }

 private:
  // The text's first tokens at once, where the server can and it is faster: Feed takes them then.
  Status ReadAtOnce(std::span<const model::TokenId> text, int total);
  Result<std::vector<double>> Feed(std::span<const model::TokenId> text, int total);
  Result<std::vector<double>> Step(std::span<const double> embedding, int total);
  Status Pad(int total);
  void Account(const serve::SessionStep& step, double head_seconds, double total_seconds);
  void Take(const model::TextStep& step, int total);

  const model::ClientHalf& half_;
  const int context_;
  serve::EncryptedSession& session_;
  const TextRunOptions options_;
  ReferenceCheck* const check_;
  TextObserver& observer_;
  RunReport& report_;
  model::TextLoop loop_;
  TokenReport token_;  // the one under way
  // What was read at once and not fed yet, and its seconds for each token.
  std::deque<std::vector<double>> read_;
  double read_seconds_ = 0, read_server_seconds_ = 0;
};

}  // namespace polyveil::tools
