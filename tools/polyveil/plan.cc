#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "base/thread_pool.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/plan_public.h"
#include "polyveil/run_report.h"
#include "runtime/client/predicted_error.h"
#include "serve/server/served_model.h"
#include "version.h"

namespace polyveil::tools {
namespace {

struct Arguments {
  std::string model, parameters = "decode16", keys = "auto", json;
  int position = 0, context = 0, public_tokens = 0;
  bool dump = false;
  size_t threads = 0;
};

std::string Components(const compile::Estimate& estimate) {
  std::string text = "estimate by component\n";
  for (size_t i = 0; i < estimate.component_seconds.size(); ++i) {
    text += fmt::format("  {:<14}{:>9.2f} s\n",
                        compile::ComponentName(static_cast<compile::Component>(i)),
                        estimate.component_seconds[i]);
  }
  return text;
}

// What an encrypted run with this parameter set would add to a logit. A folder without the client's
// tensors has a plan, but no logits.
Result<double> Predict(const std::string& directory, const serve::ServedModel& served) {
  PV_ASSIGN_OR_RETURN(const auto client, model::LoadClientBundle(directory));
  return runtime::PredictLogitError(served.decoder, client, served.model->params());
}

Status Run(const Arguments& arguments) {
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(arguments.model));
  serve::ServiceLimits limits;
  PV_ASSIGN_OR_RETURN(limits.key_storage, ckks::ParseKeyStorage(arguments.keys));
  PV_ASSIGN_OR_RETURN(
      const auto served,
      serve::LoadServedModel(directory, arguments.parameters, POLYVEIL_VERSION " " POLYVEIL_COMMIT,
                             limits, {{.context = arguments.context}, 0}));
  std::printf("%s%s%s\n%s", InfoToText(served.info).c_str(),
              WeightsToText(served.info.estimate).c_str(),
              model::CertificateToText(served.decoder->certificate).c_str(),
              Components(served.info.estimate).c_str());
  nlohmann::json json = serve::InfoToJson(served.info);
  const auto predicted = Predict(directory, served);
  if (predicted.ok()) {
    std::printf("predicted error of the logits: %.2g (sampled text, %s)\n", *predicted,
                arguments.parameters.c_str());
    json["predicted_logit_error"] = *predicted;
  } else if (predicted.error().code == ErrorCode::kOutOfRange) {
    return predicted.error();
  } else {
    std::printf("predicted error of the logits: none: %s\n", predicted.error().message.c_str());
  }
  if (arguments.public_tokens > 0) {
    PV_ASSIGN_OR_RETURN(json["public"], PlanPublic(served, arguments.public_tokens));
  }
  if (arguments.dump) {
    PV_ASSIGN_OR_RETURN(const std::string dump, served.model->Dump(arguments.position));
    std::printf("%s", dump.c_str());
  }
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, json.dump(1) + "\n");
}

}  // namespace

Command DescribePlan(Options& app) {
  auto arguments = std::make_shared<Arguments>();
  app.add_option("--model", arguments->model, "folder of the model");
  app.add_option("--parameters", arguments->parameters, "parameter set")->capture_default_str();
  app.add_option("--key-storage", arguments->keys,
                 "how a server keeps keys: auto, expanded, compact")
      ->capture_default_str();
  AddNumber(app, "--context", arguments->context, {0, 1 << 16},
            "tokens of a text; 0: a bundle's own, or as many as the polynomials were tried on");
  AddNumber(app, "--public-tokens", arguments->public_tokens, {0, 1 << 16},
            "plan a text whose first tokens are public");
  app.add_flag("--dump", arguments->dump, "print every value of a step with its level");
  AddNumber(app, "--position", arguments->position, {0, 1 << 20}, "the step that --dump prints");
  AddThreads(app, arguments->threads, "the estimate");
  AddOutputFile(app, "--json", arguments->json, "write the plan's numbers to this file");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
