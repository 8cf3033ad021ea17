// polyveil submit: an encrypted prompt that a server continues by itself, for `polyveil collect`.
#include <unistd.h>

#include <cstdio>
#include <limits>
#include <memory>

#include "base/output_file.h"
#include "base/secure_memory.h"
#include "base/thread_pool.h"
#include "polyveil/commands.h"
#include "polyveil/job_file.h"
#include "polyveil/model_session.h"
#include "polyveil/prompt_file.h"
#include "polyveil/public_part.h"
#include "serve/client/submitted_text.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::tools {
namespace {

struct SubmitArguments {
  PromptText prompt;
  std::string prompt_file, job;
  PublicOptions known;
  int new_tokens = 12;
  double temperature = 0;
  std::uint64_t seed = 0;
  SessionOptions session;
};

// What collecting will need, before gigabytes of keys are sent.
Status CheckArguments(const SubmitArguments& arguments) {
  const std::pair<const char*, bool> missing[] = {
      {"--server: where the text runs when this program has ended",
       arguments.session.server.empty()},
      {"--keys: a stored key (polyveil keygen --out FILE), which collecting takes too",
       arguments.session.keys.empty()}};
  for (const auto& [what, is] : missing)
    if (is) return MakeError(ErrorCode::kInvalidArgument, "submit needs {}", what);
  if (access(arguments.job.c_str(), F_OK) == 0)
    return MakeError(ErrorCode::kInvalidArgument,
                     "--job {}: it is there, and may be another text's only name: collect that, or "
                     "give another name",
                     arguments.job);
  return {};
}

Status Submit(const SubmitArguments& arguments, ModelSession& session) {
  RunReport report;
  PV_RETURN_IF_ERROR(session.Connect(report));
  const model::ClientHalf& half = *session.half();
  const serve::ModelInfo& info = session.remote().info();
  PV_ASSIGN_OR_RETURN(const auto prompt, EncodePrompt(half, arguments.prompt, session.context()));
  PV_ASSIGN_OR_RETURN(const auto known,
                      AnnouncePublic(half, prompt.Public(half), arguments.known, info));
  PV_RETURN_IF_ERROR(session.SendKeys(report));
  const int tokens = static_cast<int>(prompt.all.size()) - half.prefix();
  const int first = static_cast<int>(known.size());
  PV_ASSIGN_OR_RETURN(
      auto text, serve::SubmittedText::Create(
                     session.remote(),
                     {session.keys(), tokens - first, arguments.new_tokens, arguments.temperature,
                      DeriveSeed(Seed{}, "polyveil/choice-seed/1", arguments.seed), known}));
  JobFile job;
  job.server = report.server;
  job.job = text.id();
  job.tensors_sha256 = info.tensors_sha256;
  job.key_id = ToHex(wire::KeyIdOf(session.key()));
  job.prompt.assign(prompt.all.begin() + half.prefix(), prompt.all.end());
  job.public_tokens = first;
  job.new_tokens = arguments.new_tokens;
  // The file first: a text that runs has a name here, whatever ends this program.
  Status sent = WriteJobFile(arguments.job, job);
  const bool written = sent.ok();
  if (written)
    sent = text.SendPrompt(session.key(), first,
                           std::span(job.prompt).subspan(static_cast<size_t>(first)));
  if (!sent.ok()) {
    (void)text.Remove().ok();
    if (written) unlink(arguments.job.c_str());
    return sent;
  }
  session.LeaveKeys();
  const double seconds = (tokens - first + arguments.new_tokens - 1) * info.seconds_per_token() +
                         (tokens - first) * info.choice.prompt_seconds +
                         arguments.new_tokens * info.choice.seconds;
  std::fprintf(stderr,
               "%s has %d encrypted tokens and chooses %d more: about %s\n"
               "collect them with: polyveil collect %s --keys %s\n",
               job.server.c_str(), tokens - first, arguments.new_tokens,
               FormatSeconds(seconds).c_str(), arguments.job.c_str(),
               arguments.session.keys.c_str());
  return {};
}

Status Run(SubmitArguments arguments) {
  ProtectProcess();
  SetThreads(arguments.session.threads);
  if (!arguments.prompt_file.empty()) {
    PV_ASSIGN_OR_RETURN(arguments.prompt.text, ReadPrompt(arguments.prompt_file));
  }
  PV_RETURN_IF_ERROR(ReadPublicPart(arguments.known));
  arguments.prompt.known = arguments.known.text;
  PV_RETURN_IF_ERROR(CheckArguments(arguments));
  arguments.session.text_only = true;
  const OrderlyEnd end;
  PV_ASSIGN_OR_RETURN(const auto session, ModelSession::Open(arguments.session));
  return Submit(arguments, *session);
}

}  // namespace

Command DescribeSubmit(Options& app) {
  auto a = std::make_shared<SubmitArguments>();
  app.description(
      "Sends an encrypted prompt to a server that chooses the tokens behind it by itself, on\n"
      "ciphertexts, and ends. `polyveil collect JOB --keys FILE` shows how far it is and decrypts\n"
      "what is there.");
  auto* prompt = app.add_option("--prompt", a->prompt.text,
                                "the text to continue (other users of this machine can see it)");
  app.add_option("--prompt-file", a->prompt_file,
                 "the text is this file's, - for the standard input; a last line feed is dropped")
      ->excludes(prompt);
  AddNumber(app, "--prompt-tokens", a->prompt.ids, {0, std::numeric_limits<int>::max()},
            "token ids before it")
      ->delimiter(',');
  AddPublicOptions(app, "before the prompt", a->known);
  AddNumber(app, "--tokens", a->new_tokens, {1, 1 << 20}, "tokens that the server chooses");
  AddNumber(app, "--temperature", a->temperature, {0, 100},
            "0: the likeliest tokens; above, the server adds noise of its own to the logits");
  AddSeed(app, a->seed, "of that noise");
  AddOutputFile(app, "--job", a->job,
                "what `collect` needs, for its owner alone: it holds the prompt")
      ->required();
  AddSessionOptions(app, a->session);
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
