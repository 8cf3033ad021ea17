#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/buffer.h"
#include "base/printable.h"
#include "base/secure_memory.h"
#include "base/thread_pool.h"
#include "model/client/chat_template.h"
#include "polyveil/commands.h"
#include "polyveil/model_session.h"
#include "polyveil/prompt_file.h"
#include "polyveil/public_part.h"
#include "polyveil/report_page.h"
#include "polyveil/terminal_text.h"
#include "polyveil/text_options.h"

namespace polyveil::tools {
namespace {

struct ChatArguments {
  std::optional<std::string> system;
  PublicOptions known;
  int new_tokens = 256;
  std::string page;
  SessionOptions session;
  model::TextOptions text;
};

// Lines of the standard input, which a terminal's user ends by Ctrl-D.
class Lines {
 public:
  // Nothing at the end. Errors: kCancelled, kIo, kOutOfRange for an endless line.
  Result<std::optional<std::string>> Next() {
    while (true) {
      if (const size_t end = pending_.find('\n'); end != std::string::npos) {
        std::string line = pending_.substr(0, end);
        pending_.erase(0, end + 1);
        return std::optional(std::move(line));
      }
      PV_ASSIGN_OR_RETURN(const bool more, Read());
      if (more) continue;
      if (pending_.empty()) return std::optional<std::string>();
      return std::optional(std::exchange(pending_, {}));
    }
  }

 private:
  Result<bool> Read() {
    std::array<char, 4096> piece;
    pollfd wait{STDIN_FILENO, POLLIN, 0};
    while (poll(&wait, 1, 100) == 0 && !Interrupted()) continue;
    if (Interrupted()) return MakeError(ErrorCode::kCancelled, "cancelled");
    const ssize_t got = read(STDIN_FILENO, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) return true;
    if (got < 0) return MakeError(ErrorCode::kIo, "standard input: {}", std::strerror(errno));
    pending_.append(piece.data(), static_cast<size_t>(got));
    if (pending_.size() > kMaxPromptBytes)
      return MakeError(ErrorCode::kOutOfRange, "a line of more than {} bytes", kMaxPromptBytes);
    return got > 0;
  }

  std::string pending_;
};

model::TextOptions WithEnds(model::TextOptions options, const model::ChatTemplate& form) {
  options.ends = form.ends();
  return options;
}

std::string SystemOf(const ChatArguments& arguments, const model::ChatTemplate& form) {
  if (!arguments.known.text.empty()) return arguments.known.text;
  return arguments.system.value_or(form.default_system());
}

// The first turn's constant head, the prefix first: with a public system text or the template's own
// all up to the user's words, otherwise what stands before any system text.
std::vector<model::TokenId> HeadOf(const ChatArguments& arguments,
                                   const model::ChatTemplate& form) {
  const bool constant = !arguments.known.text.empty() || !arguments.system;
  return form.Head(constant ? std::optional(SystemOf(arguments, form)) : std::nullopt);
}

class Dialogue {
 public:
  // head: what the server has taken of the first turn, the prefix first; or nothing.
  Dialogue(const ChatArguments& arguments, const model::ChatTemplate& form,
           std::vector<model::TokenId> head, ModelSession& session, RunReport& report)
      : arguments_(arguments),
        form_(form),
        session_(session),
        head_(std::move(head)),
        run_(*session.half(), session.context(), session.text(),
             {WithEnds(arguments.text, form), false}, nullptr, terminal_, report) {
    if (!head_.empty()) run_.Preload(head_);
  }

  // The user's turns until /quit, the input's end or the context's.
  Status Run() {
    while (true) {
      if (isatty(STDIN_FILENO)) std::fputs("> ", stderr);
      PV_ASSIGN_OR_RETURN(const std::optional<std::string> line, lines_.Next());
      if (!line || *line == "/quit") return {};
      if (line->empty()) continue;
      PV_ASSIGN_OR_RETURN(const bool goes_on, Turn(*line));
      if (!goes_on) return {};
    }
  }

 private:
  // Nothing where the first turn's tokens do not begin with those that the server has.
  std::optional<std::vector<model::TokenId>> Tokens(std::string_view user) const {
    if (run_.loop().text().size() > head_.size()) return form_.NextTurn(user, ended_);
    auto turn = form_.FirstTurn(SystemOf(arguments_, form_), user);
    if (!std::ranges::equal(std::span(turn).first(std::min(turn.size(), head_.size())), head_))
      return std::nullopt;
    turn.erase(turn.begin(), turn.begin() + static_cast<ptrdiff_t>(head_.size()));
    return turn;
  }

  int Room() const { return run_.loop().room(); }

  // False when the context leaves no room for another turn.
  Result<bool> Turn(std::string_view user) {
    const auto tokens = Tokens(user);
    if (!tokens) {
      std::fprintf(stderr,
                   "the text's beginning merges with the template's head, which is public: "
                   "begin it otherwise, or use --all-private\n");
      return true;
    }
    const int needed = static_cast<int>(tokens->size()), room = Room();
    if (needed > room) {
      std::fprintf(stderr,
                   "this turn has %d tokens, the model's context has room for %d more of its %d: a "
                   "shorter one, or /quit\n",
                   needed, std::max(0, room), session_.context());
      return room > 0;
    }
    std::string answer;
    PV_ASSIGN_OR_RETURN(const auto end,
                        run_.Continue(*tokens, arguments_.new_tokens, [&](std::string_view text) {
                          if (StreamsText()) Show(text);
                          answer += text;
                        }));
    ended_ = LastEnds(end);
    // Elsewhere the lines of progress have shown its pieces.
    Show(StreamsText() ? "\n" : answer + "\n");
    return Say(end);
  }

  // A terminal shows the text of a model and does not obey it.
  static void Show(std::string_view text) {
    const std::string shown =
        isatty(STDOUT_FILENO) ? PrintableLines(text, 4 * text.size()) : std::string(text);
    std::fwrite(shown.data(), 1, shown.size(), stdout);
    std::fflush(stdout);
  }

  bool LastEnds(model::TextEnd end) const {
    return end == model::TextEnd::kEndToken && form_.Ends(run_.loop().text().back());
  }

  bool Say(model::TextEnd end) const {
    const int room = Room(), context = session_.context();
    if (end == model::TextEnd::kContext || room <= 1) {
      std::fprintf(stderr, "the dialogue has reached the end of the model's context of %d tokens\n",
                   context);
      return false;
    }
    if (4 * room <= context)
      std::fprintf(stderr, "%d of the context's %d tokens are left\n", room, context);
    return true;
  }

  const ChatArguments& arguments_;
  const model::ChatTemplate& form_;
  ModelSession& session_;
  const std::vector<model::TokenId> head_;
  TerminalText terminal_;
  serve::TextRun run_;
  Lines lines_;
  bool ended_ = false;  // the last answer, by its own token
};

Status Talk(const ChatArguments& arguments, ModelSession& session, RunReport& report) {
  PV_ASSIGN_OR_RETURN(const auto form, model::ChatTemplate::For(*session.half()));
  if (!SystemOf(arguments, form).empty() && !form.has_system())
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: the model's chat template ({}) has no place for a system text",
                     arguments.system ? "--system" : "--public", form.name());
  std::fprintf(stderr,
               "chat: %s form, %d tokens of context; about %s a token; /quit or the input's end "
               "ends it\n",
               form.name().c_str(), session.context(),
               FormatSeconds(report.info.seconds_per_token()).c_str());
  std::vector<model::TokenId> head = HeadOf(arguments, form);
  const auto prefix = static_cast<size_t>(session.half()->prefix());
  PV_ASSIGN_OR_RETURN(const auto known,
                      AnnouncePublic(*session.half(), std::span(head).subspan(prefix),
                                     WithoutPlace(arguments.known, report.info), report.info));
  PV_RETURN_IF_ERROR(session.Begin(known, report));
  if (known.empty()) head.clear();
  return Dialogue(arguments, form, std::move(head), session, report).Run();
}

Status Run(ChatArguments arguments) {
  ProtectProcess();
  PV_RETURN_IF_ERROR(ReadPublicPart(arguments.known));
  SetThreads(arguments.session.threads);
  buffer_pool::SetCacheLimit(size_t{256} << 20);
  PV_RETURN_IF_ERROR(model::ValidateTextOptions(arguments.text));
  const OrderlyEnd end;
  RunReport report;
  PV_ASSIGN_OR_RETURN(const auto session, ModelSession::Open(arguments.session));
  PV_RETURN_IF_ERROR(session->Connect(report));
  const Status status = Talk(arguments, *session, report);
  if (!status.ok()) return session->Explain(status.error());
  if (arguments.page.empty()) return {};
  Finish(report);
  PV_ASSIGN_OR_RETURN(report.server_memory, session->remote().Memory());
  PV_ASSIGN_OR_RETURN(const auto json, ReportToJson(report, 0));
  return WriteReportPage(arguments.page, PageOfRun(report, json));
}

}  // namespace

Command DescribeChat(Options& app) {
  auto a = std::make_shared<ChatArguments>();
  auto* system = app.add_option(
      "--system", a->system,
      "what the model is told first, encrypted (default: its template's own text, which is no "
      "secret; \"\": nothing)");
  AddPublicOptions(app, "for the model to be told first, in place of --system,", a->known, system);
  AddNumber(app, "--tokens", a->new_tokens, {1, 1 << 20}, "of an answer, at most");
  AddReportPage(app, a->page);
  AddSessionOptions(app, a->session);
  AddTextOptions(app, a->text);
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
