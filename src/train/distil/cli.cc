#include "train/distil/cli.h"

#include <memory>

#include "base/output_file.h"
#include "train/cli_options.h"
#include "train/distil/run.h"

namespace polyveil::train {
namespace {

struct Arguments {
  std::string config;
  DistilRunOptions run;
  Continuation continuation;
};

Status Run(const Arguments& arguments) {
  PV_ASSIGN_OR_RETURN(const std::string text, ReadConfigText(arguments.config));
  PV_ASSIGN_OR_RETURN(DistilConfig config, ParseDistilConfig(text));
  const Continuation& continuation = arguments.continuation;
  if (continuation.threads > 0) config.threads = continuation.threads;
  PV_RETURN_IF_ERROR(CheckWritableFolder(arguments.run.out));
  DistilRunOptions options = arguments.run;
  options.resume = continuation.resume;
  options.replace = continuation.replace;
  options.stop_after = continuation.stop_after;
  options.progress = [&](const DistilProgress& p) {
    Print(
        "{}: step {}/{}, {} tokens  loss {:.4f}  KL {:.4f}  text {:.4f}  pooled {:.5f}  hidden "
        "{:.4f}  penalty "
        "{:.5f}  gradient {:.3f}  {:.1f} tokens/s\n",
        p.stage, p.step, p.steps, p.tokens, p.loss, p.kl, p.text, p.pooled, p.hidden, p.penalty,
        p.gradient_norm, p.tokens_per_second);
  };
  options.note = [&](const std::string& line) { Print("{}\n", line); };
  return RunDistil(config, options);
}

}  // namespace

Command DescribeDistil(Options& app) {
  auto a = std::make_shared<Arguments>();
  app.description(
      "Makes a released model polynomial: attention exchanged, distilled, ranges minimised,\n"
      "polynomials trained through. Ctrl-C saves a checkpoint before it ends; --resume goes on.");
  app.add_option("--config", a->config, "the conversion's stages, JSON")->required();
  app.add_option("--model", a->run.model, "folder or *.gguf of the released model")->required();
  app.add_option("--data", a->run.stories, "folder of texts: one subfolder a source, *.txt inside")
      ->required();
  app.add_option("--out", a->run.out, "folder of the conversion")->required();
  app.add_option("--eval-data", a->run.evaluation, "folder of tasks and WikiText");
  app.add_option("--start", a->run.start, "an adapter's folder that a new run goes on from");
  app.add_option("--device", a->run.device, "cpu, cuda or cuda:N")->capture_default_str();
  AddContinuation(app, a->continuation);
  return [a] { return Run(*a); };
}

}  // namespace polyveil::train
