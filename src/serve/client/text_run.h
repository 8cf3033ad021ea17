// Text on a server: embeddings up, residuals down, one token at a time, and what it cost.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/client/text_loop.h"
#include "runtime/latency_table.h"
#include "serve/client/encrypted_session.h"

namespace polyveil::serve {

struct TokenReport {
  int position = 0;
  bool generated = false;  // false: a token of the prompt
  int token = 0;           // the one that was fed
  int next = -1;           // the one picked from its result; -1 when none was
  std::string text;        // of `next`
  double seconds = 0;
  double server_seconds = 0;
  // Of a check: against the float64 polynomial model.
  double logits_error = -1;    // largest, infinity for what is no number; -1 when not checked
  double logits_allowed = -1;  // what noise may do to this token's logits or an earlier one's
  bool argmax_agrees = true;
  std::string not_finite{};  // the float64 model's first site that read a NaN or infinity
};

// What a text is and has cost so far.
struct TextReport {
  std::string text;
  std::string end;  // why it ended: model::TextEndName
  ModelInfo info;
  double tokens_seconds = 0;  // all steps, prompt included
  int generated = 0;
  std::vector<TokenReport> tokens;
  runtime::LatencyTable latency;  // server's rows and the client's; adds up to tokens_seconds
  u64 bytes_up = 0, bytes_down = 0;
  u64 server_peak_rss_bytes = 0;
};

// Adds a step's times and bytes; head_seconds: of the client's embedding and head, total_seconds:
// of the whole step.
void AccountStep(const SessionStep& step, double head_seconds, double total_seconds,
                 TextReport& report);
// Seconds that the float64 model beside the run took.
void AccountCheck(double seconds, TextReport& report);

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
  virtual RemoteProgressCallback Asking(const std::string& what, double expected_seconds) = 0;
  virtual void Answered() = 0;
  // Tokens of the prompt have been read at once.
  virtual void Read(int /*tokens*/, double /*seconds*/) {}
  // A token has been fed, the one behind it picked where step.next is.
  virtual void Fed(const TokenReport& token, const model::TextStep& step, int total) = 0;
  // A step of several texts, of which so many go on.
  virtual void Stepped(int /*step*/, int /*total*/, double /*seconds*/, int /*going_on*/) {}
  // A step behind the end of a text of fixed length.
  virtual void Padded(int /*sent*/, int /*total*/, double /*seconds*/) {}
};

class TextRun {
 public:
  // Gets the embedding and the logits of every token that is fed; fills what it finds into the
  // report. An error ends the text.
  using Check = std::function<Status(const std::vector<double>& embedding,
                                     const std::vector<double>& logits, TokenReport& report)>;
  // Everything given outlives the run; results go into `report` as they come, whose info is the
  // server's. check: may be empty.
  TextRun(const model::ClientHalf& half, int context, EncryptedSession& session,
          const TextRunOptions& options, Check check, TextObserver& observer, TextReport& report)
      : half_(half),
        context_(context),
        session_(session),
        options_(options),
        check_(std::move(check)),
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
  void Take(const model::TextStep& step, int total);

  const model::ClientHalf& half_;
  const int context_;
  EncryptedSession& session_;
  const TextRunOptions options_;
  const Check check_;
  TextObserver& observer_;
  TextReport& report_;
  model::TextLoop loop_;
  TokenReport token_;  // the one under way
  // What was read at once and not fed yet, and its seconds for each token.
  std::deque<std::vector<double>> read_;
  double read_seconds_ = 0, read_server_seconds_ = 0;
};

}  // namespace polyveil::serve
