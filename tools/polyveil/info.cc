#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/remote_limits.h"
#include "polyveil/run_report.h"
#include "polyveil/terminal.h"
#include "serve/client/remote_model.h"
#include "serve/server/served_model.h"
#include "version.h"
#include "wire/client/secret_key_file.h"
#include "wire/file.h"

namespace polyveil::tools {
namespace {

constexpr u64 kMaxCardBytes = 1 << 20;

struct InfoArguments {
  std::string model, server, keys, parameters = "decode16", json;
  RemoteLimits limits;
  bool insecure = false;
};

std::string ConfigText(const model::ModelConfig& c) {
  std::string text = fmt::format(
      "{} layers, width {}, {} heads of {}, feed-forward {} ({}), vocabulary {}, context {}, power "
      "{}\n"
      "calibrated on {} tokens, margin {}\n",
      c.n_layers, c.d_model, c.n_heads, c.d_head, c.d_ff, model::FeedForwardName(c.ffn),
      c.vocab_size, c.context, c.power, c.calibration.tokens, c.calibration.margin);
  for (size_t i = 0; i < c.layers.size(); ++i) {
    const model::LayerConfig& layer = c.layers[i];
    text += fmt::format("layer {}: ", i);
    for (const auto& [name, p] :
         {std::pair{"norm 1", &layer.norm1}, std::pair{"divisor's inverse", &layer.divisor_inverse},
          std::pair{"norm 2", &layer.norm2}}) {
      text +=
          fmt::format("{} degree {} on [{:.4g}, {:.4g}]; ", name, p->coeffs.size() - 1, p->a, p->b);
    }
    text += "\n";
  }
  return text + model::CertificateToText(c.certificate) + "\n";
}

Status ShowKeys(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto info, wire::ReadSecretKeyInfo(path));
  PV_ASSIGN_OR_RETURN(const auto params, ckks::Parameters::Create(info.spec));
  std::printf("secret key %s\nkey id      %s\nencrypted   %s\nparameters  %s\n", path.c_str(),
              ToHex(info.key_id).c_str(), info.encrypted ? "yes" : "no",
              params->Describe().c_str());
  return {};
}

// Every key of the request is in the JSON; people get their number and size.
Status WriteInfo(const InfoArguments& arguments, const serve::ModelInfo& info) {
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, serve::InfoToJson(info).dump(1) + "\n");
}

Status ShowServer(const InfoArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const serve::Url url, serve::ParseUrl(arguments.server));
  PV_ASSIGN_OR_RETURN(const auto options, ToRemoteOptions(arguments.limits, arguments.insecure));
  PV_ASSIGN_OR_RETURN(auto remote, serve::RemoteModel::Connect(url, options));
  PV_ASSIGN_OR_RETURN(const auto memory, remote->Memory());
  std::printf("%s%s", InfoToText(remote->info()).c_str(), MemoryToText(memory).c_str());
  return WriteInfo(arguments, remote->info());
}

Status ShowModel(const InfoArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const std::string directory, FindModel(arguments.model));
  const auto card = wire::ReadFile(directory + "/MODEL_CARD.md", kMaxCardBytes);
  if (card.ok()) {
    std::printf("%.*s\n", static_cast<int>(card->size()),
                reinterpret_cast<const char*>(card->data()));
  }
  PV_ASSIGN_OR_RETURN(const auto served,
                      serve::LoadServedModel(directory, arguments.parameters,
                                             POLYVEIL_VERSION " " POLYVEIL_COMMIT));
  if (const auto bundle = model::LoadBodyBundle(directory); bundle.ok())
    std::printf("%s\n", ConfigText(bundle->config).c_str());
  std::printf("%s\n", InfoToText(served.info).c_str());
  return WriteInfo(arguments, served.info);
}

Status Run(const InfoArguments& arguments) {
  if (!arguments.keys.empty()) return ShowKeys(arguments.keys);
  if (!arguments.server.empty()) return ShowServer(arguments);
  return ShowModel(arguments);
}

}  // namespace

Command DescribeInfo(Options& app) {
  auto arguments = std::make_shared<InfoArguments>();
  AddModel(app, arguments->model,
           "a bundle, a converted folder or *.gguf (default: the embedded model)");
  app.add_option("--server", arguments->server, "a server's URL");
  app.add_option("--keys", arguments->keys, "a secret key's file");
  app.add_option("--parameters", arguments->parameters, "parameter set")->capture_default_str();
  AddOutputFile(app, "--json", arguments->json,
                "write the description of a model or a server, its key request included");
  AddRemoteLimits(app, arguments->limits);
  app.add_flag("--insecure-test", arguments->insecure, "allow parameters for tests");
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
