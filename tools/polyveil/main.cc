// polyveil: the user's program. Key generation, encrypted generation, plans and benchmarks.
#include <cstring>

#include "backend/backends.h"
#include "polyveil/commands.h"
#include "version.h"

namespace polyveil::tools {
namespace {

// Programs of their own, which get every word behind the verb.
Command DescribeElsewhere(Options& app) {
  app.prefix_command();
  return [] { return Status(); };
}

Command Describe(Options& app) {
  const Command command = AddVerbs(
      app,
      {
          {"serve", "run the server (options: polyveil-server --help)", DescribeElsewhere},
          {"train", "run the trainer, where it is installed", DescribeElsewhere},
          {"convert", "make a trained model polynomial (the trainer's command)", DescribeElsewhere},
          {"distil", "train a released model to be polynomial (the trainer's command)",
           DescribeElsewhere},
          {"study", "twins of attention forms, compared (the trainer's command)",
           DescribeElsewhere},
          {"generate", "continue a prompt on ciphertexts", DescribeGenerate},
          {"chat", "turns with a model on one encrypted session", DescribeChat},
          {"submit", "leave an encrypted prompt with a server that chooses the tokens itself",
           DescribeSubmit},
          {"collect", "how far a submitted text is, and its tokens", DescribeCollect},
          {"embed", "embed texts by an encoder on ciphertexts", DescribeEmbed},
          {"classify", "classify texts by an encoder on ciphertexts", DescribeClassify},
          {"proxy", "the OpenAI API on this machine, for software that speaks it", DescribeProxy},
          {"verify", "check a run that `generate --evidence` has recorded", DescribeVerify},
          {"keygen", "make a secret key and its evaluation keys", DescribeKeygen},
          {"info", "describe a model, a server or a key file", DescribeInfo},
          {"plan", "what a token of any model will cost on ciphertexts", DescribePlan},
          {"simulate", "compare simulated noisy runs with the float64 model", DescribeSimulate},
          {"fit-choice", "let a server choose this model's tokens: fit the polynomials of a choice",
           DescribeFitChoice},
          {"bench", "measure parts of the engine", DescribeBench},
#ifdef POLYVEIL_RELEASED
          {"import", "read a released model's files and say what is in them", DescribeImport},
          {"eval", "perplexity and task scores of a model in the clear", DescribeEval},
          {"fit", "make a released model polynomial without training", DescribeFit},
#endif
      });
  return [command]() -> Status {
    PV_RETURN_IF_ERROR(backend::CheckVariable());
    return command();
  };
}

// `polyveil serve ...` is another program, found before any option is parsed: options are its own.
// `estimate` became `plan`.
Status RunElsewhere(int argc, char** argv) {
  const char* verb = argc > 1 ? argv[1] : "";
  if (std::strcmp(verb, "serve") == 0) return ExecProgram("polyveil-server", argc - 1, argv + 1);
  if (std::strcmp(verb, "train") == 0) return ExecProgram("polyveil-train", argc - 1, argv + 1);
  static char plan[] = "plan";
  if (std::strcmp(verb, "estimate") == 0) argv[1] = plan;  // its name in 0.1.0
  // Commands of the trainer by their own names.
  for (const char* name : {"convert", "distil", "study"})
    if (std::strcmp(verb, name) == 0) return ExecProgram("polyveil-train", argc, argv);
  return {};
}

}  // namespace
}  // namespace polyveil::tools

int main(int argc, char** argv) {
  using namespace polyveil;
  const Program program{"polyveil", "polyveil: text generation on ciphertexts",
                        POLYVEIL_VERSION " " POLYVEIL_COMMIT};
  const Status elsewhere = tools::RunElsewhere(argc, argv);
  if (!elsewhere.ok()) return Fail(program, elsewhere.error());
  return RunProgram(program, argc, argv, tools::Describe);
}
