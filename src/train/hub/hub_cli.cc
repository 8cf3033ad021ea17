#include "train/hub/hub_cli.h"

#include <algorithm>

#include "model/bundle.h"
#include "train/arguments.h"
#include "train/hub/hub_convert.h"

namespace polyveil::train {

Status RunConvertHubCommand(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(const Arguments arguments,
                      Arguments::Parse(words,
                                       {"--config", "--model", "--data", "--eval-data", "--out",
                                        "--stop-after", "--threads"},
                                       {"--resume"}));
  PV_RETURN_IF_ERROR(arguments.Require({"--config", "--model", "--data", "--out"}));
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(arguments.Get("--config"), 1 << 20));
  PV_ASSIGN_OR_RETURN(HubConversionConfig config,
                      ParseHubConfig({reinterpret_cast<const char*>(bytes.data()), bytes.size()}));
  PV_ASSIGN_OR_RETURN(const long threads, arguments.Number("--threads", config.threads));
  PV_ASSIGN_OR_RETURN(const long stop, arguments.Number("--stop-after", 0));
  config.threads = std::max(1, static_cast<int>(threads));
  HubRunOptions options{arguments.Get("--model"),
                        arguments.Get("--data"),
                        arguments.Get("--eval-data"),
                        arguments.Get("--out"),
                        arguments.Has("--resume"),
                        stop,
                        {},
                        {}};
  options.progress = [&](const HubProgress& p) {
    Print(out,
          "{}: step {}/{}, {} tokens  loss {:.4f}  KL {:.4f}  text {:.4f}  hidden {:.4f}  penalty "
          "{:.5f}  gradient {:.3f}  {:.1f} tokens/s\n",
          p.stage, p.step, p.steps, p.tokens, p.loss, p.kl, p.text, p.hidden, p.penalty,
          p.gradient_norm, p.tokens_per_second);
  };
  options.note = [&](const std::string& line) { Print(out, "{}\n", line); };
  return RunHubConversion(config, options);
}

}  // namespace polyveil::train
