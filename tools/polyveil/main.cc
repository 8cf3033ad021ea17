// polyveil: the user's program. Key generation, encrypted generation, plans and benchmarks.
#include <cstdio>
#include <cstring>

#include "polyveil/commands.h"
#include "polyveil/terminal.h"
#include "version.h"

namespace polyveil::tools {
namespace {

int Fail(const Error& error) {
  std::fprintf(stderr, "polyveil: %s: %s\n", ErrorCodeName(error.code), error.message.c_str());
  if (error.code == ErrorCode::kUntrustedResult) return 5;
  return error.code == ErrorCode::kCancelled ? 130 : 1;
}

int RunMain(int argc, char** argv) {
  // Both pass everything on, options included.
  if (argc > 1 && std::strcmp(argv[1], "serve") == 0) {
    return Fail(ExecProgram("polyveil-server", argc - 1, argv + 1).error());
  }
  if (argc > 1 && std::strcmp(argv[1], "train") == 0) {
    return Fail(ExecProgram("polyveil-train", argc - 1, argv + 1).error());
  }
  // Commands of the trainer by their own names.
  if (argc > 1 && (std::strcmp(argv[1], "convert") == 0 || std::strcmp(argv[1], "study") == 0)) {
    return Fail(ExecProgram("polyveil-train", argc, argv).error());
  }
  CLI::App app("polyveil: text generation on ciphertexts");
  app.set_version_flag("--version", POLYVEIL_VERSION " " POLYVEIL_COMMIT);
  app.require_subcommand(1);
  app.add_subcommand("serve", "run the server (options: polyveil-server --help)");
  app.add_subcommand("train", "run the trainer, where it is installed");
  app.add_subcommand("convert", "make a trained model polynomial (the trainer's command)");
  app.add_subcommand("study", "twins of attention forms, compared (the trainer's command)");
  const std::pair<CLI::App*, Command> commands[] = {
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeGenerate(*sub));
      }(app.add_subcommand("generate", "continue a prompt on ciphertexts")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeKeygen(*sub));
      }(app.add_subcommand("keygen", "make a secret key and its evaluation keys")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeInfo(*sub));
      }(app.add_subcommand("info", "describe a model, a server or a key file")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribePlan(*sub));
      }(app.add_subcommand("plan", "compile a model and show what a token will cost")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeSimulate(*sub));
      }(app.add_subcommand("simulate", "compare simulated noisy runs with the float64 model")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeBench(*sub));
      }(app.add_subcommand("bench", "measure parts of the engine")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeForms(*sub));
      }(app.add_subcommand("forms", "what forms of attention cost, side by side")),
#ifdef POLYVEIL_HUB
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeImport(*sub));
      }(app.add_subcommand("import", "read a released model's files and say what is in them")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeEval(*sub));
      }(app.add_subcommand("eval", "perplexity and task scores of a model in the clear")),
      [&](CLI::App* sub) {
        return std::pair(sub, DescribeEstimate(*sub));
      }(app.add_subcommand("estimate", "what a released model would cost on ciphertexts")),
#endif
  };
  CLI11_PARSE(app, argc, argv);
  for (const auto& [sub, command] : commands) {
    if (!sub->parsed()) continue;
    const Status status = command();
    return status.ok() ? 0 : Fail(status.error());
  }
  return 1;
}

}  // namespace
}  // namespace polyveil::tools

int main(int argc, char** argv) {
  polyveil::tools::InstallSignalHandlers();
  return polyveil::tools::RunMain(argc, argv);
}
