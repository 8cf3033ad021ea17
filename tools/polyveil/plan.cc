// polyveil plan: what a token of any model would cost on ciphertexts, before anything is encrypted.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/thread_pool.h"
#include "model/client_files.h"
#include "model/known_shapes.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/plan_card.h"
#include "polyveil/plan_model.h"
#include "polyveil/plan_public.h"
#include "polyveil/run_report.h"
#include "polyveil/terminal.h"
#include "runtime/client/predicted_error.h"
#include "serve/server/served_model.h"
#include "version.h"

namespace polyveil::tools {
namespace {

struct PlanArguments {
  std::string model, keys = "auto", json, card, run;
  ProgramOptions program;
  int position = 0, context = 0, public_tokens = 0;
  BlockDegrees degrees;
  bool dump = false;
  size_t threads = 0;
};

std::string Layers(const PlannedModel& planned) {
  const model::BlockShape& shape = planned.decoder->blocks.front().shape;
  std::string text = fmt::format("layers      {} of width {}, {} heads of {}, feed-forward {}",
                                 planned.decoder->blocks.size(), shape.d_model, shape.n_heads,
                                 shape.d_head, shape.d_ff);
  if (planned.parameters > 0)
    text += fmt::format("; {:.3g} million parameters with the client's",
                        static_cast<double>(planned.parameters) / 1e6);
  if (planned.decoder->mapped_bytes > 0)
    text += fmt::format(
        "\n            {} of files are mapped: resident beside the rest while memory allows",
        Bytes(planned.decoder->mapped_bytes));
  if (planned.nominal)
    text += "\n            planned with polynomials of usual degrees: it has none of its own yet";
  return text + "\n";
}

std::string Components(const std::string& title, const compile::Estimate& estimate, size_t layers) {
  std::string text = fmt::format("{:<24}{:>12}{:>12}\n", title, "a layer", "in all");
  const auto row = [&](const char* name, double seconds) {
    text += fmt::format("  {:<22}{:>12.3f}{:>12.2f}\n", name, seconds / static_cast<double>(layers),
                        seconds);
  };
  for (size_t i = 0; i < estimate.component_seconds.size(); ++i)
    if (estimate.component_seconds[i] > 0)
      row(compile::ComponentName(static_cast<compile::Component>(i)),
          estimate.component_seconds[i]);
  row("total", estimate.seconds_per_token);
  return text;
}

// What an encrypted run with this parameter set would add to a logit. A folder without the client's
// tensors has a plan, but no logits.
Status AddPrediction(const std::string& directory, const serve::ServedModel& served,
                     nlohmann::json& json) {
  const auto predict = [&]() -> Result<double> {
    PV_ASSIGN_OR_RETURN(const auto client, model::LoadClientBundle(directory));
    return runtime::PredictLogitError(served.decoder, client, served.model->params());
  };
  const auto predicted = predict();
  if (predicted.ok()) {
    std::printf("predicted error of the logits: %.2g (sampled text, %s)\n", *predicted,
                served.info.parameters.c_str());
    json["predicted_logit_error"] = *predicted;
    return {};
  }
  if (predicted.error().code == ErrorCode::kOutOfRange) return predicted.error();
  std::printf("predicted error of the logits: none: %s\n", predicted.error().message.c_str());
  return {};
}

// What choosing a token adds to a step, and what the client reads of it.
nlohmann::json PlanChoice(const compile::CompiledDecoder& model) {
  const compile::ChoiceProgram& choice = *model.choice();
  const compile::Estimate &e = choice.estimate(), &prompt = choice.prompt()->estimate();
  const double share = e.seconds_per_token / model.estimate().seconds_per_token;
  std::printf(
      "choosing    among %d tokens: %.3g s more a token (%.0f%%), %d levels, %d bootstraps, "
      "%d rotations, %d products;\n            the client reads %s for %d tokens, and sends %s "
      "for %d of a prompt, whose embedding takes\n            %.3g s a token\n%s",
      choice.layout().vocabulary, e.seconds_per_token, 100 * share, e.depth_per_token,
      e.bootstraps_per_token, e.rotations_per_token, e.products_per_token,
      Bytes(choice.page_bytes()).c_str(), choice.layout().page,
      Bytes(prompt.token_bytes_up).c_str(), choice.layout().message(), prompt.seconds_per_token,
      Components("seconds a choice", e, choice.choice().forms.rounds.size() + 3).c_str());
  return {{"tokens", choice.layout().vocabulary},
          {"seconds", e.seconds_per_token},
          {"share_of_a_token", share},
          {"bootstraps", e.bootstraps_per_token},
          {"rotations", e.rotations_per_token},
          {"page_tokens", choice.layout().page},
          {"message_bytes", prompt.token_bytes_up},
          {"message_tokens", choice.layout().message()},
          {"prompt_seconds", prompt.seconds_per_token}};
}

Status WriteCard(const std::string& path, const PlanArguments& arguments,
                 const PlannedModel& planned, const serve::ServedModel& served) {
  nlohmann::json run;
  if (!arguments.run.empty()) {
    PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(arguments.run));
    run = nlohmann::json::parse(file->text(), nullptr, false);
    if (run.is_discarded())
      return MakeError(ErrorCode::kCorrupt, "{}: no JSON in its {} bytes", arguments.run,
                       file->text().size());
  }
  PV_ASSIGN_OR_RETURN(const std::string card, ModelCard(path, planned, served, run));
  return WriteFile(arguments.card, card);
}

Status Run(const PlanArguments& arguments) {
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const std::string path, FindModel(arguments.model));
  serve::ServiceLimits limits;
  PV_ASSIGN_OR_RETURN(limits.key_storage, ckks::ParseKeyStorage(arguments.keys));
  PV_ASSIGN_OR_RETURN(const PlannedModel planned,
                      LoadPlanned(path, arguments.context, arguments.degrees));
  PV_ASSIGN_OR_RETURN(const auto programs, ProgramsOf(arguments.program, path));
  PV_ASSIGN_OR_RETURN(const auto served,
                      serve::ServeDecoder(planned.decoder, arguments.program.parameters,
                                          POLYVEIL_VERSION " " POLYVEIL_COMMIT, limits, programs));
  const size_t layers = planned.decoder->blocks.size();
  std::printf("%s%s%s", InfoToText(served.info).c_str(), Layers(planned).c_str(),
              WeightsToText(served.info.estimate).c_str());
  if (planned.decoder->certificate)
    std::printf("%s\n", model::CertificateToText(planned.decoder->certificate).c_str());
  std::printf("%s", Components("seconds a token", served.info.estimate, layers).c_str());
  for (const auto& prompt : served.model->prompts())
    std::printf("%s", Components(fmt::format("up to {} at once", prompt->prompt_tokens()),
                                 prompt->estimate(), layers)
                          .c_str());
  nlohmann::json json = serve::InfoToJson(served.info);
  json["layers"] = layers;
  if (served.model->choice()) json["choice"] = PlanChoice(*served.model);
  if (planned.parameters > 0) json["model_parameters"] = planned.parameters;
  if (model::IsBundle(path)) PV_RETURN_IF_ERROR(AddPrediction(path, served, json));
  if (arguments.public_tokens > 0) {
    PV_ASSIGN_OR_RETURN(json["public"], PlanPublic(served, arguments.public_tokens));
  }
  if (arguments.dump) {
    const auto& prompts = served.model->prompts();
    PV_ASSIGN_OR_RETURN(std::string dump, prompts.empty()
                                              ? served.model->Dump(arguments.position)
                                              : prompts.back()->Dump(arguments.position));
    if (served.model->choice()) {
      PV_ASSIGN_OR_RETURN(const std::string more, served.model->choice()->Dump(arguments.position));
      dump += more;
    }
    std::printf("%s", dump.c_str());
  }
  if (!arguments.card.empty()) PV_RETURN_IF_ERROR(WriteCard(path, arguments, planned, served));
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, json.dump(1) + "\n");
}

}  // namespace

Command DescribePlan(Options& app) {
  auto arguments = std::make_shared<PlanArguments>();
  std::string names;
  for (const std::string& name : model::ModelShapeNames()) names += " " + name;
  app.description(
      "Compiles a model to its encrypted program and says what a token will cost on this machine:\n"
      "time by component, memory, keys, levels, bootstraps. Nothing is encrypted.\n"
      "MODEL: a bundle, the folder or *.gguf of a released decoder, or a shape:" +
      names);
  AddModel(app, arguments->model, "what to plan (default: the embedded model)");
  AddProgramOptions(app, "", arguments->program);
  AddChoose(app, arguments->program);
  AddNumber(app, "--context", arguments->context, {0, 1 << 16},
            "tokens that the key-value cache has room for; 0: the model's own or 128");
  app.add_option("--key-storage", arguments->keys,
                 "how a server keeps keys: auto, expanded, compact")
      ->capture_default_str();
  AddDegrees(app, arguments->degrees);
  AddNumber(app, "--public-tokens", arguments->public_tokens, {0, 1 << 16},
            "plan a text whose first tokens are public");
  app.add_flag("--dump", arguments->dump,
               "print every value of a step, or of a prompt at once, with its level and seconds");
  AddNumber(app, "--position", arguments->position, {0, 1 << 20}, "the step that --dump prints");
  AddThreads(app, arguments->threads, "the estimate");
  AddOutputFile(app, "--json", arguments->json, "also write the plan's numbers to this file");
  auto* card = AddOutputFile(app, "--card", arguments->card,
                             "also write a page about the encrypted model to this file (Markdown)");
  app.add_option("--run", arguments->run,
                 "what `generate --json FILE` measured: it stands on the card beside the plan")
      ->needs(card);
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
