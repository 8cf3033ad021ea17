#include <cstdio>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/buffer.h"
#include "base/output_file.h"
#include "base/printable.h"
#include "base/secure_memory.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "compile/units.h"
#include "polyveil/child_server.h"
#include "polyveil/commands.h"
#include "polyveil/key_files.h"
#include "polyveil/prompt_file.h"
#include "polyveil/remote_limits.h"
#include "polyveil/text_run.h"
#include "ring/kernels.h"
#include "version.h"

namespace polyveil::tools {
namespace {

constexpr mode_t kPrivate = 0600;          // reports hold the texts
constexpr unsigned kPatienceSeconds = 10;  // to take keys off the server, to end an own one

struct Arguments {
  std::string model, prompt, server, keys, parameters = "decode16", key_storage = "auto", json;
  std::string prompt_file;
  std::vector<int> prompt_tokens;
  PassphraseSource passphrase;
  RemoteLimits limits;
  TextRunOptions run;
  bool plain = false, insecure = false;
  size_t threads = 0;
  double largest_error = model::kLargestLogitError;
};

void WarnOfEscapes(const model::DecoderReference& body) {
  for (const auto& [site, count] : body.escapes()) {
    if (count.escapes == 0) continue;
    std::fprintf(stderr, "%s: %llu of %llu inputs left the interval, by up to %.3g times its end\n",
                 site.c_str(), static_cast<unsigned long long>(count.escapes),
                 static_cast<unsigned long long>(count.evaluations), count.worst_ratio);
  }
}

// The float64 polynomial model alone: nothing is encrypted.
Status RunPlain(const Arguments& arguments, const ClientModel& model,
                const std::vector<model::TokenId>& tokens) {
  PV_ASSIGN_OR_RETURN(const auto body, model::LoadBodyBundle(model.directory));
  model::ReferenceLanguageModel reference(model::DecoderOfBundle(body), model.bundle);
  const std::vector<model::TokenId> prompt(tokens.begin() + 1, tokens.end());
  PV_ASSIGN_OR_RETURN(
      const auto picked,
      model::Generate(reference, prompt, arguments.run.new_tokens, arguments.run.sampling));
  WarnOfEscapes(reference.body());
  PV_ASSIGN_OR_RETURN(const std::string text, model.tokenizer.Decode(picked));
  std::printf("%s%s\n", arguments.prompt.c_str(), text.c_str());
  if (arguments.json.empty()) return {};
  const nlohmann::json report = {{"format", "polyveil-plain-run/1"},
                                 {"prompt", arguments.prompt},
                                 {"text", text},
                                 {"tokens", picked},
                                 {"commit", POLYVEIL_COMMIT}};
  return WriteFile(arguments.json,
                   report.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
                   kPrivate);
}

// What a run holds, in the order of its making: the child server ends last.
struct Connection {
  std::unique_ptr<ChildServer> child;
  std::unique_ptr<serve::RemoteModel> remote;
  std::string keys;
  ~Connection() {
    if (remote && !keys.empty()) (void)remote->RemoveKeys(keys).ok();
  }
};

Status Connect(const Arguments& arguments, const ClientModel& model, Connection& connection,
               RunReport& report) {
  Timer timer;
  serve::Url url;
  if (arguments.server.empty()) {
    std::fprintf(stderr, "starting a server of its own on this machine ...\n");
    PV_ASSIGN_OR_RETURN(
        connection.child,
        ChildServer::Start(model.directory, arguments.parameters, arguments.key_storage,
                           arguments.threads, arguments.largest_error, Interrupted()));
    url = connection.child->url();
  } else {
    PV_ASSIGN_OR_RETURN(url, serve::ParseUrl(arguments.server));
  }
  serve::RemoteOptions options = ToRemoteOptions(arguments.limits, arguments.insecure);
  if (connection.child) options.retry_seconds = 1;  // it is here or it has ended
  PV_ASSIGN_OR_RETURN(connection.remote, serve::RemoteModel::Connect(url, options));
  report.server = url.Text();
  report.server_start_seconds = timer.Seconds();
  report.info = connection.remote->info();
  return CheckSameModel(model, report.info);
}

Status RunSession(const Arguments& arguments, const ClientModel& model,
                  const std::vector<model::TokenId>& tokens, Connection& connection,
                  RunReport& report) {
  serve::RemoteModel& remote = *connection.remote;
  Timer timer;
  PV_ASSIGN_OR_RETURN(const ckks::SecretKey key,
                      OpenSecretKey(arguments.keys, arguments.passphrase, remote.params()));
  if (!arguments.keys.empty()) CountSession(arguments.keys, key);
  const u64 sent = remote.http().bytes_sent();
  PV_ASSIGN_OR_RETURN(connection.keys, UploadKeys(remote, key, arguments.keys, Interrupted()));
  report.key_bytes_up = remote.http().bytes_sent() - sent;
  report.keys_seconds = timer.Seconds();
  std::fprintf(stderr, "keys are on the server: %s in %s\n",
               FormatBytes(static_cast<double>(report.key_bytes_up)).c_str(),
               FormatSeconds(report.keys_seconds).c_str());
  PV_ASSIGN_OR_RETURN(auto session, serve::EncryptedSession::Create(remote, key, connection.keys,
                                                                    model.bundle.config));
  const std::string& prompt = report.prompt;
  if (StreamsText()) std::fwrite(prompt.data(), 1, prompt.size(), stdout);
  PV_RETURN_IF_ERROR(TextRun(model, *session, arguments.run, report).Run(tokens));
  PV_ASSIGN_OR_RETURN(report.server_memory, remote.Memory());
  return {};
}

void Finish(RunReport& report) {
  report.client_peak_rss_bytes = PeakRssBytes();
  report.threads = static_cast<int>(Threads());
  report.backend = ring::ActiveKernels().name;
  report.cpu = CpuName();
  report.commit = POLYVEIL_COMMIT;
}

// A server that died explains more than a broken connection does.
Error Explain(const Error& error, Connection& connection) {
  if (error.code != ErrorCode::kUnavailable || !connection.child) return error;
  const std::string ended = connection.child->HowItEnded();
  if (ended.empty()) return error;
  return MakeError(error.code, "{} (polyveil-server {})", error.message, ended);
}

Status RunEncrypted(const Arguments& arguments, const ClientModel& model,
                    const std::vector<model::TokenId>& tokens, RunReport& report) {
  const OrderlyEnd end(kPatienceSeconds);
  Connection connection;
  Status status = Connect(arguments, model, connection, report);
  if (status.ok()) {
    std::fprintf(
        stderr, "%s%s\n%zu prompt tokens and up to %d new ones: about %s\n",
        InfoToText(report.info).c_str(),
        model::CertificateToText(model.bundle.config.certificate).c_str(), tokens.size(),
        arguments.run.new_tokens,
        FormatSeconds(report.info.estimate.key_generation_seconds +
                      report.info.estimate.seconds_per_token *
                          (static_cast<double>(tokens.size()) + arguments.run.new_tokens - 1))
            .c_str());
    status = RunSession(arguments, model, tokens, connection, report);
  }
  if (!status.ok()) return Explain(status.error(), connection);
  return {};
}

Status Run(Arguments arguments) {
  ProtectProcess();
  SetThreads(arguments.threads);
  if (!arguments.prompt_file.empty()) {
    PV_ASSIGN_OR_RETURN(arguments.prompt, ReadPrompt(arguments.prompt_file));
  }
  buffer_pool::SetCacheLimit(size_t{256} << 20);
  PV_RETURN_IF_ERROR(model::ValidateSampling(arguments.run.sampling));
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(arguments.model));
  PV_ASSIGN_OR_RETURN(const ClientModel model, LoadClientModel(directory));
  PV_ASSIGN_OR_RETURN(
      const auto tokens,
      PromptTokens(model, arguments.prompt, arguments.prompt_tokens, arguments.run.new_tokens));
  if (arguments.plain) return RunPlain(arguments, model, tokens);
  PV_RETURN_IF_ERROR(
      model::CheckPredictedError(model.bundle.config.certificate, arguments.largest_error));
  RunReport report;
  PV_ASSIGN_OR_RETURN(report.prompt, model.tokenizer.Decode(tokens));
  const Status status = RunEncrypted(arguments, model, tokens, report);
  if (StreamsText() && !report.tokens.empty()) std::fputs("\n", stdout);
  PV_RETURN_IF_ERROR(status);
  Finish(report);
  std::fprintf(stderr, "\n%s", ReportToText(report).c_str());
  if (!StreamsText()) {
    // The server has a say in what was chosen: a terminal shows it and does not obey it.
    const std::string text = report.prompt + report.text;
    std::printf("\n%s\n", isatty(STDOUT_FILENO) ? PrintableLines(text, 4 * text.size()).c_str()
                                                : text.c_str());
  }
  if (!arguments.json.empty()) {
    const auto replace =
        nlohmann::json::error_handler_t::replace;  // tokens may end inside a character
    PV_RETURN_IF_ERROR(WriteFile(
        arguments.json, ReportToJson(report).dump(1, ' ', false, replace) + "\n", kPrivate));
  }
  return JudgeCheck(report);
}

}  // namespace

Command DescribeGenerate(Options& app) {
  auto a = std::make_shared<Arguments>();
  auto* prompt = app.add_option("--prompt", a->prompt,
                                "the text to continue (other users of this machine can see it)");
  app.add_option("--prompt-file", a->prompt_file,
                 "the text is this file's, - for the standard input; a last line feed is dropped")
      ->excludes(prompt);
  AddNumber(app, "--prompt-tokens", a->prompt_tokens, {0, std::numeric_limits<int>::max()},
            "token ids before it")
      ->delimiter(',');
  AddNumber(app, "--tokens", a->run.new_tokens, {1, 1 << 20}, "new tokens");
  app.add_option("--model", a->model, "folder of the model (default: the embedded one)");
  app.add_option("--server", a->server,
                 "http://host:port (default: a server of its own, on loopback)");
  app.add_option("--keys", a->keys,
                 "a secret key of `keygen` (default: a fresh one, never stored)");
  app.add_option("--parameters", a->parameters, "parameter set of the own server")
      ->capture_default_str();
  app.add_option("--key-storage", a->key_storage,
                 "how the own server keeps keys: auto, expanded, compact")
      ->capture_default_str()
      ->one_of({"auto", "expanded", "compact"});
  AddNumber(app, "--temperature", a->run.sampling.temperature, {0, 1000}, "0 is greedy");
  AddNumber(app, "--top-p", a->run.sampling.top_p, {1e-9, 1}, "nucleus");
  AddSeed(app, a->run.sampling.seed, "of sampling");
  app.add_flag("--passphrase", a->passphrase.ask, "ask for the key's passphrase");
  app.add_option("--passphrase-file", a->passphrase.file,
                 "the passphrase is this file's first line");
  AddThreads(app, a->threads);
  AddOutputFile(app, "--json", a->json, "write the run's report to this file, for its owner alone");
  app.add_flag("--fixed-length", a->run.fixed_length,
               "run all announced tokens, so that the server does not see where the text ends");
  AddRemoteLimits(app, a->limits);
  app.add_flag("--plain", a->plain, "run the float64 polynomial model, nothing encrypted");
  app.add_flag("--check", a->run.check, "compare each token with the float64 polynomial model");
  AddNumber(app, "--largest-error", a->largest_error, {0, 1e9},
            "refuse a model whose certificate predicts a larger error of a logit");
  app.add_flag("--insecure-test", a->insecure, "allow parameters for tests");
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
