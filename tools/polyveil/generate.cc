#include <bit>
#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/buffer.h"
#include "base/output_file.h"
#include "base/printable.h"
#include "base/secure_memory.h"
#include "base/thread_pool.h"
#include "ckks/client/flooding.h"
#include "model/import/decoder_files.h"
#include "polyveil/commands.h"
#include "polyveil/evidence.h"
#include "polyveil/float_model.h"
#include "polyveil/generate_texts.h"
#include "polyveil/model_session.h"
#include "polyveil/prompt_file.h"
#include "polyveil/public_part.h"
#include "polyveil/report_page.h"
#include "polyveil/terminal_text.h"
#include "polyveil/text_options.h"
#include "version.h"

namespace polyveil::tools {
namespace {

constexpr mode_t kPrivate = 0600;  // reports hold the texts
struct GenerateArguments {
  std::string prompt_file, prompts_file, json, page, evidence;
  std::vector<std::string> prompts;  // as given; one alone is `prompt`
  PromptText prompt;
  PublicOptions known;
  int new_tokens = 12, share_bits = 0;
  SessionOptions session;
  serve::TextRunOptions run;
  bool plain = false, check = false;

  // Several texts, decoded together.
  bool together() const { return prompts.size() > 1 || !prompts_file.empty(); }
};

void WarnOfEscapes(const model::DecoderReference& reference) {
  for (const auto& [site, count] : reference.escapes()) {
    if (count.escapes == 0) continue;
    std::fprintf(stderr, "%s: %llu of %llu inputs left the interval, by up to %.3g times its end\n",
                 site.c_str(), static_cast<unsigned long long>(count.escapes),
                 static_cast<unsigned long long>(count.evaluations), count.worst_ratio);
  }
}

void SayEnd(model::TextEnd end, int context) {
  if (end == model::TextEnd::kContext)
    std::fprintf(stderr, "the text has reached the end of the model's context of %d tokens\n",
                 context);
}

Status WriteReport(const std::string& path, const nlohmann::json& report) {
  if (path.empty()) return {};
  const auto replace = nlohmann::json::error_handler_t::replace;  // a prompt may hold any bytes
  return WriteFile(path, report.dump(1, ' ', false, replace) + "\n", kPrivate);
}

// The prompt as it was given, with the text of its tokens.
std::string ShownPrompt(const GenerateArguments& arguments, const model::ClientHalf& half) {
  return arguments.prompt.known + TextOf(half, arguments.prompt.ids) + arguments.prompt.text;
}

// The float64 polynomial model alone: nothing is encrypted.
Status RunPlain(const GenerateArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const std::string path, FindModel(arguments.session.model));
  PV_ASSIGN_OR_RETURN(const ClientHalf half, LoadClientHalf(path));
  PV_ASSIGN_OR_RETURN(const auto decoder,
                      model::LoadDecoder(path, {.context = arguments.session.context}));
  const int context = std::min(half->context(), decoder->context);
  PV_ASSIGN_OR_RETURN(const auto prompt, EncodePrompt(*half, arguments.prompt, context));
  FloatText reference(*decoder, *half);
  model::TextLoop loop(*half, context, arguments.run.text);
  std::string text;
  std::vector<int> picked;
  const auto feed = [&](std::span<const model::TokenId> tokens) -> Result<std::vector<double>> {
    if (Interrupted()) return MakeError(ErrorCode::kCancelled, "cancelled");
    PV_ASSIGN_OR_RETURN(const auto embedding, half->Embed(tokens));
    return reference.Logits(embedding);
  };
  PV_ASSIGN_OR_RETURN(const auto end, loop.Continue(prompt.all, arguments.new_tokens, feed,
                                                    [&](const model::TextStep& step) {
                                                      text += step.shown;
                                                      if (step.next && !step.ends)
                                                        picked.push_back(*step.next);
                                                    }));
  text += loop.Finish();
  WarnOfEscapes(reference.reference());
  SayEnd(end, context);
  std::printf("%s%s\n", ShownPrompt(arguments, *half).c_str(), text.c_str());
  return WriteReport(arguments.json, {{"format", "polyveil-plain-run/1"},
                                      {"prompt", ShownPrompt(arguments, *half)},
                                      {"text", text},
                                      {"tokens", picked},
                                      {"end", model::TextEndName(end)},
                                      {"commit", POLYVEIL_COMMIT}});
}

// Of all steps, the prompt's first tokens at once where that is what TextRun does.
double PlannedSeconds(const serve::ModelInfo& info, int tokens, int steps, bool private_start) {
  const serve::PromptInfo* const program =
      private_start ? serve::PromptProgram(info, tokens) : nullptr;
  if (program == nullptr) return info.seconds_per_token() * steps;
  return program->seconds + info.seconds_per_token() * (steps - std::min(tokens, program->tokens));
}

serve::TextRun::Check CheckOf(ReferenceCheck* check) {
  if (check == nullptr) return {};
  return [check](const auto& embedding, const auto& logits, TokenReport& report) {
    return check->Compare(embedding, logits, report);
  };
}

Status RunSession(const GenerateArguments& arguments, ModelSession& session, RunReport& report) {
  const model::ClientHalf& half = *session.half();
  int context = session.context();
  PV_ASSIGN_OR_RETURN(const auto prompt, EncodePrompt(half, arguments.prompt, context));
  report.prompt = ShownPrompt(arguments, half);
  PV_ASSIGN_OR_RETURN(const auto known, AnnouncePublic(half, prompt.Public(half), arguments.known,
                                                       session.remote().info()));
  const int tokens = static_cast<int>(prompt.all.size()) - half.prefix();
  const int first = static_cast<int>(known.size());
  const int steps = std::min(context, tokens + arguments.new_tokens - 1) - first;
  std::fprintf(stderr, "%d encrypted prompt tokens and up to %d new ones: about %s\n",
               tokens - first, steps - (tokens - first) + 1,
               FormatSeconds(report.info.estimate.key_generation_seconds +
                             PlannedSeconds(report.info, tokens, steps, known.empty()))
                   .c_str());
  const auto before =
      std::span(prompt.all)
          .first(known.empty() ? 0 : known.size() + static_cast<size_t>(half.prefix()));
  std::unique_ptr<ReferenceCheck> check;
  if (arguments.check) {
    PV_ASSIGN_OR_RETURN(
        check, ReferenceCheck::Create(session.path(), context, half, session.remote().params(),
                                      before, session.remote().info().texts));
  }
  std::optional<EvidenceFolder> evidence;
  if (!arguments.evidence.empty()) {
    const serve::ModelInfo& info = session.remote().info();
    if (!info.prompts.empty() || info.texts > 1)
      return MakeError(ErrorCode::kInvalidArgument,
                       "--evidence: this server {}, the record is of single steps",
                       info.texts > 1 ? "decodes several texts together" : "reads prompts at once");
    PV_ASSIGN_OR_RETURN(evidence, EvidenceFolder::Create(arguments.evidence));
    evidence->Watch(session.remote());
  }
  PV_RETURN_IF_ERROR(session.Begin(known, report));
  context = session.context();  // what the server has room for behind this beginning
  const auto show = [](std::string_view text) {
    if (!StreamsText()) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  show(report.prompt);
  TerminalText terminal;
  serve::TextRun run(half, context, session.text(), arguments.run, CheckOf(check.get()), terminal,
                     report);
  if (!known.empty()) run.Preload(before);
  PV_ASSIGN_OR_RETURN(const auto end, run.Continue(std::span(prompt.all).subspan(before.size()),
                                                   arguments.new_tokens, show));
  SayEnd(end, context);
  if (evidence) {
    const auto prefix = std::span(prompt.all).first(static_cast<size_t>(half.prefix()));
    PV_RETURN_IF_ERROR(evidence->Finish(session.key(), report.info, context,
                                        known.empty() ? prefix : before, report));
  }
  PV_ASSIGN_OR_RETURN(report.server_memory, session.remote().Memory());
  return {};
}

Status CheckPrompts(const GenerateArguments& arguments, const model::ClientHalf& half) {
  if (arguments.together()) {
    PV_RETURN_IF_ERROR(EncodePrompts(half, arguments.prompts, half.context()));
    return {};
  }
  PV_RETURN_IF_ERROR(EncodePrompt(half, arguments.prompt, half.context()));
  return {};
}

Status RunEncrypted(const GenerateArguments& arguments, RunReport& report) {
  const OrderlyEnd end;
  PV_ASSIGN_OR_RETURN(const auto session, ModelSession::Open(arguments.session));
  // A prompt that cannot be run is refused before a server is started for it.
  if (session->half()) PV_RETURN_IF_ERROR(CheckPrompts(arguments, *session->half()));
  PV_RETURN_IF_ERROR(session->Connect(report));
  const Status status =
      arguments.together()
          ? GenerateTexts({arguments.prompts, arguments.new_tokens, arguments.check, arguments.run},
                          *session, report)
          : RunSession(arguments, *session, report);
  if (!status.ok()) return session->Explain(status.error());
  return {};
}

// What texts that are decoded together cannot have, by name.
Status CheckTogether(const GenerateArguments& arguments) {
  const auto count = arguments.prompts.size();
  const std::pair<const char*, bool> alone[] = {{"--evidence", !arguments.evidence.empty()},
                                                {"--plain", arguments.plain},
                                                {"--prompt-tokens", !arguments.prompt.ids.empty()},
                                                {"a public part", !arguments.known.text.empty()},
                                                {"--at-once", arguments.session.program.at_once}};
  for (const auto& [name, given] : alone)
    if (given)
      return MakeError(ErrorCode::kInvalidArgument, "{} goes with one prompt, not with {}", name,
                       count);
  const int texts = arguments.session.program.texts;
  if (static_cast<size_t>(texts) < count)
    return MakeError(ErrorCode::kOutOfRange, "--texts {}: there are {} prompts", texts, count);
  return {};
}

Status CheckArguments(const GenerateArguments& arguments) {
  PV_RETURN_IF_ERROR(model::ValidateTextOptions(arguments.run.text));
  if (arguments.together()) PV_RETURN_IF_ERROR(CheckTogether(arguments));
  if (arguments.share_bits > 0) {
    PV_RETURN_IF_ERROR(ckks::Flooding::Create(arguments.share_bits, 1));
    if (arguments.json.empty() || !arguments.check)
      return MakeError(ErrorCode::kInvalidArgument,
                       "--share-bits {}: it goes with --json and --check", arguments.share_bits);
  }
  const bool remote = !arguments.session.server.empty() && arguments.session.model.empty();
  if (remote && (arguments.check || arguments.plain))
    return MakeError(ErrorCode::kInvalidArgument,
                     "{} needs the model's layers: name its folder with --model",
                     arguments.check ? "--check" : "--plain");
  const model::SamplingOptions& sampling = arguments.run.text.sampling;
  if (!arguments.evidence.empty() &&
      (!arguments.session.keys.empty() || arguments.plain || sampling.temperature != 0 ||
       sampling.repetition_penalty != 1))
    return MakeError(ErrorCode::kInvalidArgument,
                     "--evidence shows the run's secret key and its likeliest tokens: it goes with "
                     "no --keys, --plain, --temperature or --repetition-penalty");
  return {};
}

Status ReadAllPrompts(GenerateArguments& arguments) {
  if (!arguments.prompt_file.empty()) {
    PV_ASSIGN_OR_RETURN(arguments.prompt.text, ReadPrompt(arguments.prompt_file));
  }
  if (!arguments.prompts_file.empty()) {
    PV_ASSIGN_OR_RETURN(arguments.prompts, ReadPrompts(arguments.prompts_file));
  }
  int& texts = arguments.session.program.texts;
  if (!arguments.together() && !arguments.prompts.empty())
    arguments.prompt.text = arguments.prompts.front();
  if (arguments.together() && texts == 1)
    texts = static_cast<int>(std::bit_ceil(arguments.prompts.size()));
  return ReadPublicPart(arguments.known);
}

void PrintTexts(const RunReport& report) {
  for (const serve::BatchedText& each : report.texts) {
    const std::string text = each.prompt + each.text;
    std::printf("%s\n", isatty(STDOUT_FILENO) ? PrintableLines(text, 4 * text.size()).c_str()
                                              : text.c_str());
  }
}

Status Run(GenerateArguments arguments) {
  ProtectProcess();
  SetThreads(arguments.session.threads);
  PV_RETURN_IF_ERROR(ReadAllPrompts(arguments));
  arguments.prompt.known = arguments.known.text;
  buffer_pool::SetCacheLimit(size_t{256} << 20);
  PV_RETURN_IF_ERROR(CheckArguments(arguments));
  if (arguments.plain) return RunPlain(arguments);
  RunReport report;
  const Status status = RunEncrypted(arguments, report);
  if (StreamsText() && !report.tokens.empty()) std::fputs("\n", stdout);
  PV_RETURN_IF_ERROR(status);
  Finish(report);
  std::fprintf(stderr, "\n%s", ReportToText(report).c_str());
  PrintTexts(report);
  if (!StreamsText() && report.texts.empty()) {
    // The server has a say in what was chosen: a terminal shows it and does not obey it.
    const std::string text = report.prompt + report.text;
    std::printf("\n%s\n", isatty(STDOUT_FILENO) ? PrintableLines(text, 4 * text.size()).c_str()
                                                : text.c_str());
  }
  PV_ASSIGN_OR_RETURN(const auto json, ReportToJson(report, arguments.share_bits));
  PV_RETURN_IF_ERROR(WriteReport(arguments.json, json));
  PV_RETURN_IF_ERROR(WriteReportPage(arguments.page, PageOfRun(report, json)));
  return JudgeCheck(report);
}

}  // namespace

Command DescribeGenerate(Options& app) {
  auto a = std::make_shared<GenerateArguments>();
  auto* prompt = app.add_option("--prompt", a->prompts,
                                "the text to continue (other users of this machine can see it); "
                                "several are decoded together, a token of each a step")
                     ->one_value();
  auto* file = app.add_option(
      "--prompt-file", a->prompt_file,
      "the text is this file's, - for the standard input; a last line feed is dropped");
  file->excludes(prompt);
  app.add_option("--prompts-file", a->prompts_file,
                 "several texts, a line of this file each, - for the standard input")
      ->excludes(prompt)
      ->excludes(file);
  AddNumber(app, "--prompt-tokens", a->prompt.ids, {0, std::numeric_limits<int>::max()},
            "token ids before it")
      ->delimiter(',');
  AddPublicOptions(app, "before the prompt", a->known);
  AddNumber(app, "--tokens", a->new_tokens, {1, 1 << 20}, "new tokens");
  AddSessionOptions(app, a->session);
  AddTextOptions(app, a->run.text);
  AddOutputFile(app, "--json", a->json, "write the run's report to this file, for its owner alone");
  AddReportPage(app, a->page);
  AddNumber(
      app, "--share-bits", a->share_bits, {0, ckks::Flooding::kMaxBits},
      "with --json and --check: write errors of decrypted logits too, flooded with noise for "
      "so many bits of security (30 to 128), for a report that others read; 0: verdicts only");
  app.add_option("--evidence", a->evidence,
                 "make this folder of the run's ciphertexts, tokens and secret key, for anyone to "
                 "check (`polyveil verify`): a demonstration, nothing in it stays private");
  app.add_flag("--fixed-length", a->run.fixed_length,
               "run all announced tokens, so that the server does not see where the text ends");
  app.add_flag("--plain", a->plain, "run the float64 polynomial model, nothing encrypted");
  app.add_flag("--check", a->check, "compare each token with the float64 polynomial model");
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
