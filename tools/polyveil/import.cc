// polyveil import: what is in a released model's files, and its tokens and logits for comparisons.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "base/output_file.h"
#include "base/system.h"
#include "model/client/text/text_tokenizer.h"
#include "model/float32/reference.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

struct ImportArguments {
  std::string path, text, text_file, logits_to, json;
  std::vector<int> ids;
  bool check = false, special = false, texts = false;

  bool tokens() const { return !text.empty() || !text_file.empty(); }
};

std::string FormOf(const model::Checkpoint& checkpoint) {
  if (!checkpoint.forms) return "softmax, as released";
  const model::ConvertedForms& forms = *checkpoint.forms;
  return fmt::format("{}, power {}, a prefix of {} tokens",
                     forms.stage == model::FormStage::kPower ? "Power-Softmax" : "polynomials",
                     forms.power, forms.prefix_length());
}

nlohmann::json ToJson(const model::Checkpoint& checkpoint) {
  const model::Architecture& a = checkpoint.architecture;
  nlohmann::json types;
  for (const auto& [type, elements] : checkpoint.elements_by_type)
    types[model::FormatOf(type).name] = elements;
  std::uint64_t bytes = 0;
  for (const auto& file : checkpoint.files) bytes += file->bytes().size();
  return {{"family", a.family},
          {"description", model::Describe(a)},
          {"parameters", model::CountParameters(a)},
          {"files", checkpoint.files.size()},
          {"bytes", bytes},
          {"elements_by_type", types},
          {"form", FormOf(checkpoint)},
          {"unused_tensors", checkpoint.unused}};
}

void PrintSummary(const nlohmann::json& report) {
  std::printf("model       %s\n", report["description"].get<std::string>().c_str());
  std::printf("form        %s\n", report["form"].get<std::string>().c_str());
  std::printf("files       %d, %s\n", report["files"].get<int>(),
              FormatBytes(report["bytes"].get<double>()).c_str());
  for (const auto& [type, elements] : report["elements_by_type"].items())
    std::printf("type        %-5s %14s elements\n", type.c_str(), elements.dump().c_str());
  const auto& unused = report["unused_tensors"];
  if (!unused.empty()) {
    std::printf("unused      %zu tensors: %s%s\n", unused.size(),
                unused[0].get<std::string>().c_str(), unused.size() > 1 ? ", ..." : "");
  }
  const auto& tokenizer = report["tokenizer"];
  std::printf("tokenizer   %s\n", tokenizer.is_object()
                                      ? fmt::format("{} tokens", tokenizer["tokens"].dump()).c_str()
                                      : tokenizer.get<std::string>().c_str());
}

// One line of ids for every line of the text; with texts, of what the ids decode to.
Status PrintTokens(const model::TextTokenizer& tokenizer, const ImportArguments& arguments,
                   std::istream& in) {
  for (std::string line, out; std::getline(in, line);) {
    const auto ids = tokenizer.Encode(line, arguments.special);
    out.clear();
    if (arguments.texts) {
      PV_ASSIGN_OR_RETURN(out, tokenizer.Decode(ids));
    } else {
      for (const auto id : ids) out += fmt::format("{}{}", out.empty() ? "" : " ", id);
    }
    std::fwrite(out.data(), 1, out.size(), stdout);
    std::fputc('\n', stdout);
  }
  return {};
}

Status PrintTokens(const model::TextTokenizer& tokenizer, const ImportArguments& arguments) {
  std::string path = arguments.text_file;
  std::error_code ignored;
  if (path.empty() && std::filesystem::is_regular_file(arguments.text, ignored)) {
    path = arguments.text;
    std::fprintf(stderr, "polyveil: --tokens names a file: its lines are read\n");
  }
  std::istringstream given(arguments.text);
  if (path.empty()) return PrintTokens(tokenizer, arguments, given);
  if (path == "-") return PrintTokens(tokenizer, arguments, std::cin);
  std::ifstream file(path, std::ios::binary);
  if (!file) return MakeError(ErrorCode::kNotFound, "cannot read {}", path);
  return PrintTokens(tokenizer, arguments, file);
}

Result<model::FloatMatrix> Run(const model::Checkpoint& checkpoint, const std::vector<int>& ids) {
  const model::FloatReference reference(checkpoint);
  const model::Sequence sequence{ids};
  if (checkpoint.architecture.head == model::HeadKind::kClassifier)
    return reference.Classify(std::span(&sequence, 1));
  PV_ASSIGN_OR_RETURN(model::FloatMatrix hidden, reference.Hidden(std::span(&sequence, 1)));
  if (checkpoint.architecture.head != model::HeadKind::kCausalLm) return hidden;
  return reference.Logits(hidden);
}

// Names the first output that is no number, and counts them.
Status CheckOutputs(const model::FloatMatrix& outputs, std::size_t tokens) {
  std::size_t lost = 0, first = 0;
  for (std::size_t i = outputs.values.size(); i-- > 0;) {
    if (std::isfinite(outputs.values[i])) continue;
    ++lost;
    first = i;
  }
  if (lost == 0) return {};
  const auto width = static_cast<std::size_t>(outputs.cols);
  return MakeError(ErrorCode::kCorrupt,
                   "{} of {} outputs of {} tokens are not finite, the first is [{}, {}] = {}", lost,
                   outputs.values.size(), tokens, first / width, first % width,
                   outputs.values[first]);
}

Status WriteOutputs(const model::FloatMatrix& outputs, const std::string& path) {
  return WriteFile(path, {reinterpret_cast<const char*>(outputs.values.data()),
                          outputs.values.size() * sizeof(float)});
}

// Every weight is read, and one pass over a few tokens must give numbers, but for polynomials: an
// input outside of their intervals is no fault of the file.
Status Check(const model::Checkpoint& checkpoint, nlohmann::json& report) {
  Timer timer;
  PV_RETURN_IF_ERROR(model::CheckAllFinite(checkpoint));
  if (checkpoint.forms && checkpoint.forms->stage == model::FormStage::kPolynomial) {
    std::printf(
        "check       every weight is finite; polynomials are not tried on tokens that are "
        "no text\n");
    return {};
  }
  std::vector<int> ids;
  if (checkpoint.forms) ids = checkpoint.forms->prefix;
  for (int i = 0; i < std::min(8, checkpoint.architecture.context); ++i)
    ids.push_back(i % checkpoint.architecture.vocab_size);
  PV_ASSIGN_OR_RETURN(const model::FloatMatrix outputs, Run(checkpoint, ids));
  PV_RETURN_IF_ERROR(CheckOutputs(outputs, ids.size()));
  report["checked_seconds"] = timer.Seconds();
  std::printf("check       every weight is finite, outputs too: %s\n",
              FormatSeconds(timer.Seconds()).c_str());
  return {};
}

Status RunImport(const ImportArguments& arguments) {
  if (arguments.path.ends_with("tokenizer.json") && arguments.tokens()) {
    PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(arguments.path));
    PV_ASSIGN_OR_RETURN(const auto tokenizer, model::TextTokenizer::ParseJson(file->text()));
    return PrintTokens(tokenizer, arguments);
  }
  PV_ASSIGN_OR_RETURN(const auto checkpoint, model::LoadCheckpoint(arguments.path));
  const auto tokenizer = model::TextTokenizer::Load(*checkpoint);
  if (arguments.tokens()) {
    if (!tokenizer.ok()) return tokenizer.error();
    return PrintTokens(*tokenizer, arguments);
  }
  nlohmann::json report = ToJson(*checkpoint);
  report["tokenizer"] = tokenizer.ok() ? nlohmann::json{{"tokens", tokenizer->vocab_size()}}
                                       : nlohmann::json(tokenizer.error().message);
  PrintSummary(report);
  if (arguments.check) PV_RETURN_IF_ERROR(Check(*checkpoint, report));
  if (!arguments.logits_to.empty()) {
    PV_ASSIGN_OR_RETURN(const model::FloatMatrix outputs, Run(*checkpoint, arguments.ids));
    PV_RETURN_IF_ERROR(WriteOutputs(outputs, arguments.logits_to));
    PV_RETURN_IF_ERROR(CheckOutputs(outputs, arguments.ids.size()));
  }
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, report.dump(1) + "\n");
}

}  // namespace

Command DescribeImport(Options& app) {
  auto arguments = std::make_shared<ImportArguments>();
  app.description(
      "Reads a released model's files where they are and says what is in them: architecture, "
      "sizes,\n"
      "types, tokenizer. Nothing is written but what an option asks for.\n"
      "PATH: a folder with config.json, model.safetensors (or its index and shards) and\n"
      "tokenizer.json, as GPT-2, GPT-NeoX (Pythia), Llama, Qwen2, Mistral, OPT, BERT, RoBERTa and\n"
      "DistilBERT models are published, or a *.gguf file; with --tokens or --tokens-file also a\n"
      "tokenizer.json alone.");
  AddModel(app, arguments->path, "folder, *.gguf, or tokenizer.json")->required();
  app.add_flag("--check", arguments->check, "read every weight, run a few tokens");
  auto* text = app.add_option("--tokens", arguments->text,
                              "print the token ids of this text, or of every line of the file of "
                              "that name where there is one");
  app.add_option("--tokens-file", arguments->text_file,
                 "print the token ids of every line of this file; - for standard input")
      ->excludes(text);
  app.add_flag("--special", arguments->special,
               "with the tokens that the model wants around a text");
  app.add_flag("--decode", arguments->texts, "print what the tokens decode to, not the ids");
  auto* ids = AddNumber(app, "--ids", arguments->ids, {0, std::numeric_limits<int>::max()},
                        "token ids to run")
                  ->delimiter(',');
  AddOutputFile(app, "--logits", arguments->logits_to,
                "write the logits of --ids (hidden states of an encoder) as float32")
      ->needs(ids);
  AddOutputFile(app, "--json", arguments->json, "also write the report to this file");
  return [arguments] { return RunImport(*arguments); };
}

}  // namespace polyveil::tools
