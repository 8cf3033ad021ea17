// polyveil collect: how far a submitted text is, and its tokens.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/output_file.h"
#include "base/printable.h"
#include "base/secure_memory.h"
#include "base/thread_pool.h"
#include "model/client/text_output.h"
#include "polyveil/commands.h"
#include "polyveil/job_file.h"
#include "polyveil/model_session.h"
#include "polyveil/terminal_text.h"
#include "polyveil/text_options.h"
#include "serve/client/submitted_text.h"
#include "serve/client/text_run.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::tools {
namespace {

constexpr double kPollSeconds = 2;

struct CollectArguments {
  std::string job, json;
  SessionOptions session;
  bool wait = false, remove = false, go_on = false;
};

struct Collected {
  serve::SubmittedState state;
  std::vector<model::TokenId> tokens;  // of the text: up to its end or what is undecided
  std::optional<compile::ReadChoice> undecided;
  bool ended = false;  // by the model's end token
  std::string text;
};

std::string Describe(const serve::SubmittedState& state) {
  std::string text =
      fmt::format("{}: {} of {} tokens chosen", state.state, state.chosen, state.new_tokens);
  if (state.state == "receiving")
    text = fmt::format("receiving: {} of {} messages of the prompt are there", state.received,
                       state.messages);
  if (!state.waiting.empty()) text += ", waiting: " + state.waiting;
  if (state.state == "running" && !state.operation.empty())
    text += fmt::format(", {:.0f}% of a step: {}", 100 * state.done, state.operation);
  return Printable(text);
}

Result<serve::SubmittedState> WaitForState(serve::SubmittedText& text, bool to_end) {
  std::string last;
  while (true) {
    PV_ASSIGN_OR_RETURN(auto state, text.State());
    if (!to_end || state.over() || state.state == "receiving") return state;
    if (const std::string said =
            fmt::format("{} of {} tokens chosen", state.chosen, state.new_tokens);
        said != last) {
      std::fprintf(stderr, "%s\n", said.c_str());
      last = said;
    }
    for (Timer timer; timer.Seconds() < kPollSeconds;) {
      if (Interrupted()) return MakeError(ErrorCode::kCancelled, "cancelled; the text goes on");
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
}

Status TakeTokens(const model::ClientHalf& half, const serve::SubmittedText::Chosen& chosen,
                  Collected& collected) {
  model::TextOutput output;
  for (const compile::ReadChoice& each : chosen.tokens) {
    if (half.Ends(each.token)) {
      collected.ended = true;
      break;
    }
    PV_ASSIGN_OR_RETURN(const std::string piece, half.Piece(each.token));
    collected.tokens.push_back(each.token);
    collected.text += output.Push(piece);
  }
  collected.text += output.Finish();
  // Behind the text's end nothing is of interest.
  if (!collected.ended) collected.undecided = chosen.undecided;
  return {};
}

// What is left of an undecided text, interactively: its tokens so far are its prompt.
Status GoOn(ModelSession& session, const JobFile& job, Collected& collected) {
  PV_RETURN_IF_ERROR(session.FetchTables());
  const model::ClientHalf& half = *session.half();
  const int left = job.new_tokens - static_cast<int>(collected.tokens.size());
  std::vector<model::TokenId> all = half.Beginning();
  all.resize(static_cast<size_t>(half.prefix()));
  all.insert(all.end(), job.prompt.begin(), job.prompt.end());
  all.insert(all.end(), collected.tokens.begin(), collected.tokens.end());
  RunReport report;
  report.info = session.remote().info();
  const auto known = std::span(job.prompt).first(static_cast<size_t>(job.public_tokens));
  PV_RETURN_IF_ERROR(session.Begin(known, report));
  TerminalText terminal;
  serve::TextRun run(half, session.context(), session.text(), {}, {}, terminal, report);
  const size_t before = known.empty() ? 0 : known.size() + static_cast<size_t>(half.prefix());
  if (before > 0) run.Preload(std::span(all).first(before));
  PV_RETURN_IF_ERROR(run.Continue(std::span(all).subspan(before), left, [](std::string_view) {}));
  for (const TokenReport& token : report.tokens)
    if (token.next >= 0 && !half.Ends(token.next)) collected.tokens.push_back(token.next);
  collected.text += report.text;
  collected.undecided.reset();
  return {};
}

Status WriteReport(const std::string& path, const Collected& collected) {
  if (path.empty()) return {};
  const nlohmann::json body = {{"state", collected.state.state},
                               {"chosen", collected.state.chosen},
                               {"new_tokens", collected.state.new_tokens},
                               {"tokens", collected.tokens},
                               {"undecided", collected.undecided.has_value()},
                               {"text", collected.text}};
  const auto replace = nlohmann::json::error_handler_t::replace;
  return WriteFile(path, body.dump(1, ' ', false, replace) + "\n", 0600);
}

// What a text is not all of, as the end of this program.
Status Judge(const JobFile& job, const Collected& collected) {
  if (collected.state.error) return *collected.state.error;
  if (!collected.undecided) return {};
  const compile::ReadChoice& read = *collected.undecided;
  return MakeError(ErrorCode::kUntrustedResult,
                   "undecided at token {} of {} (certainty {:.3f}, a bit {:.2g} from 1 and -1, its "
                   "copies {:.2g} apart): the text ends before it; --continue goes on from there, "
                   "step by step",
                   collected.tokens.size() + 1, job.new_tokens, read.certainty, read.rounding,
                   read.spread);
}

Status CheckSame(const JobFile& job, const ModelSession& session, serve::RemoteModel& remote) {
  const std::string key_id = ToHex(wire::KeyIdOf(session.key()));
  if (key_id != job.key_id)
    return MakeError(ErrorCode::kMismatch, "the job is of key {}..., this key is {}...",
                     job.key_id.substr(0, 16), key_id.substr(0, 16));
  if (remote.info().tensors_sha256 != job.tensors_sha256)
    return MakeError(ErrorCode::kMismatch, "the job is of model {}..., the server has {}...",
                     job.tensors_sha256.substr(0, 16), remote.info().tensors_sha256.substr(0, 16));
  remote.http().set_key_digest(key_id);
  return {};
}

Status Collect(const CollectArguments& arguments, const JobFile& job, ModelSession& session) {
  RunReport report;
  PV_RETURN_IF_ERROR(session.Connect(report));
  PV_RETURN_IF_ERROR(session.OpenKey());
  PV_RETURN_IF_ERROR(CheckSame(job, session, session.remote()));
  serve::SubmittedText text(session.remote(), job.job);
  Collected collected;
  PV_ASSIGN_OR_RETURN(collected.state, WaitForState(text, arguments.wait));
  if (collected.state.new_tokens != job.new_tokens)
    return MakeError(ErrorCode::kMismatch, "the server's text has new_tokens = {}, the job {}",
                     collected.state.new_tokens, job.new_tokens);
  std::fprintf(stderr, "%s\n", Describe(collected.state).c_str());
  PV_ASSIGN_OR_RETURN(const auto chosen,
                      text.Collect(session.key(), job.first_chosen(), collected.state.chosen));
  PV_RETURN_IF_ERROR(TakeTokens(*session.half(), chosen, collected));
  Status went_on;
  if (collected.undecided && arguments.go_on) went_on = GoOn(session, job, collected);
  const std::string all = TextOf(*session.half(), job.prompt) + collected.text;
  std::printf("%s\n",
              isatty(STDOUT_FILENO) ? PrintableLines(all, 4 * all.size()).c_str() : all.c_str());
  PV_RETURN_IF_ERROR(FlushOutput());
  PV_RETURN_IF_ERROR(WriteReport(arguments.json, collected));
  PV_RETURN_IF_ERROR(went_on);
  PV_RETURN_IF_ERROR(Judge(job, collected));
  if (arguments.remove && collected.state.over()) return text.Remove();
  return {};
}

Status Run(CollectArguments arguments) {
  ProtectProcess();
  SetThreads(arguments.session.threads);
  PV_ASSIGN_OR_RETURN(const JobFile job, ReadJobFile(arguments.job));
  if (arguments.session.keys.empty())
    return MakeError(ErrorCode::kInvalidArgument, "collect needs --keys: the key of `submit`");
  if (arguments.session.server.empty()) arguments.session.server = job.server;
  arguments.session.text_only = true;
  const OrderlyEnd end;
  PV_ASSIGN_OR_RETURN(const auto session, ModelSession::Open(arguments.session));
  return Collect(arguments, job, *session);
}

}  // namespace

Command DescribeCollect(Options& app) {
  auto a = std::make_shared<CollectArguments>();
  app.description(
      "Says how far a text of `polyveil submit` is, and decrypts the tokens that are there. An\n"
      "undecided choice ends the text (status 5).");
  app.add_option("job", a->job, "the file that `submit --job` wrote")->required();
  app.add_flag("--wait", a->wait, "until all tokens are chosen");
  app.add_flag("--continue", a->go_on,
               "go on behind an undecided choice step by step, as `generate` does");
  app.add_flag("--remove", a->remove, "take a text that is over off the server");
  AddOutputFile(app, "--json", a->json, "also write what was found, for its owner alone");
  AddSessionOptions(app, a->session);
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
