// polyveil fit: a released model with polynomials in every function's place, without training.
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "base/output_file.h"
#include "base/system.h"
#include "base/thread_pool.h"
#include "model/client/text/text_tokenizer.h"
#include "model/formats/checkpoint.h"
#include "model/import/model_fit.h"
#include "polyveil/block_inputs.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/progress_bar.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

namespace fs = std::filesystem;

struct FitArguments {
  std::string model, text, out;
  int tokens = 1024, window = 64, heldout = 256;
  double margin = 1.3;
  std::vector<int> prefix;
  BlockDegrees degrees;
  size_t threads = 0;
};

// What stands around every text of an encoder, whose first token heads read.
struct Around {
  std::vector<std::int32_t> begin, end;
  size_t size() const { return begin.size() + end.size(); }
};

std::vector<std::int32_t> Within(const Around& around, std::span<const std::int32_t> tokens) {
  std::vector<std::int32_t> text = around.begin;
  text.insert(text.end(), tokens.begin(), tokens.end());
  text.insert(text.end(), around.end.begin(), around.end.end());
  return text;
}

// Windows of `window` tokens, some for calibration, the ones behind them held out.
Result<model::FitTexts> Windows(const std::vector<std::int32_t>& ids, const Around& around,
                                const FitArguments& a) {
  if (static_cast<size_t>(a.window) <= around.size())
    return MakeError(ErrorCode::kOutOfRange, "--window {}: {} tokens stand around every text",
                     a.window, around.size());
  const size_t window = static_cast<size_t>(a.window) - around.size();
  const size_t fits = static_cast<size_t>(a.tokens) / window, tries = a.heldout / window;
  const size_t there = ids.size() / window;
  if (fits == 0 || there < 1 + (tries > 0))
    return MakeError(ErrorCode::kOutOfRange,
                     "the text has {} tokens: {} for calibration and {} held out, in texts of {}, "
                     "need more",
                     ids.size(), a.tokens, a.heldout, a.window);
  // A short text keeps the proportion.
  const size_t all = std::min(there, fits + tries);
  const size_t held = tries == 0 ? 0 : std::max<size_t>(1, all * tries / (fits + tries));
  model::FitTexts texts;
  for (size_t i = 0; i < all; ++i) {
    (i < all - held ? texts.calibration : texts.heldout)
        .push_back(Within(around, std::span(ids).subspan(i * window, window)));
  }
  return texts;
}

Status Link(const fs::path& file, const fs::path& folder) {
  std::error_code error;
  fs::create_symlink(fs::canonical(file, error), folder / file.filename(), error);
  if (!error) return {};
  return MakeError(ErrorCode::kIo, "{}: cannot link it into {}: {}", file.string(), folder.string(),
                   error.message());
}

// The model's files but for its forms in `folder` as symbolic links; nothing where they stand there
// already.
Status LinkModel(const fs::path& model, const fs::path& folder) {
  std::error_code error;
  const bool whole = fs::is_directory(model, error);
  if (fs::equivalent(whole ? model : fs::absolute(model).parent_path(), folder, error)) return {};
  if (!whole) return Link(model, folder);
  for (const auto& entry : fs::directory_iterator(model, error))
    if (entry.is_regular_file(error) && entry.path().filename() != "forms.json")
      PV_RETURN_IF_ERROR(Link(entry.path(), folder));
  if (error) return MakeError(ErrorCode::kIo, "{}: {}", model.string(), error.message());
  return {};
}

// The *.gguf that the forms must name; empty for config.json and safetensors.
std::string NamedFile(const model::Checkpoint& checkpoint) {
  return checkpoint.gguf ? fs::path(checkpoint.path).filename().string() : "";
}

Status CheckOut(const std::string& folder) {
  const std::string path = folder + "/forms.json";
  if (fs::exists(path))
    return MakeError(ErrorCode::kInvalidArgument, "{} is there: remove it, or name another folder",
                     path);
  return CheckWritableFolder(folder);
}

void Print(const model::ConvertedForms& forms, const FitArguments& arguments, double seconds) {
  std::printf("forms        %zu layers, power %d, a prefix of %d tokens, residual <= %.3g\n",
              forms.layers.size(), forms.power, forms.prefix_length(), forms.residual_bound);
  std::printf("calibration  %llu tokens in texts of %d, margin %g\n",
              static_cast<unsigned long long>(forms.calibration.tokens), forms.context,
              forms.calibration.margin);
  std::printf("%s\n", model::CertificateToText(forms.certificate).c_str());
  std::printf("fitted       in %s, peak memory %s\n", FormatSeconds(seconds).c_str(),
              Bytes(PeakRssBytes()).c_str());
  std::printf(
      "%s/forms.json is written. No weight was trained: this is another function than the softmax "
      "model,\nits text is not the model's, and it is for sizes and trials. "
      "'polyveil-train distil' trains.\n",
      arguments.out.c_str());
}

Status Run(const FitArguments& arguments) {
  SetThreads(arguments.threads);
  PV_RETURN_IF_ERROR(CheckOut(arguments.out));
  Timer timer;
  PV_ASSIGN_OR_RETURN(const auto checkpoint, model::LoadCheckpoint(arguments.model));
  if (checkpoint->gguf)  // which forms.json names
    PV_RETURN_IF_ERROR(CheckFileName("--model: the file's name", NamedFile(*checkpoint)));
  PV_ASSIGN_OR_RETURN(const auto tokenizer, model::TextTokenizer::Load(*checkpoint));
  PV_ASSIGN_OR_RETURN(const std::string text, CalibrationText(arguments.text));
  Around around;
  if (!checkpoint->architecture.causal)
    around = {tokenizer.parts().prefix, tokenizer.parts().suffix};
  PV_ASSIGN_OR_RETURN(model::FitTexts texts, Windows(tokenizer.Encode(text), around, arguments));
  if (!arguments.prefix.empty()) texts.prefix = arguments.prefix;
  ProgressBar bar("fit", 0);
  const auto on_layer = [&](int layer, int layers) {
    bar.Update(static_cast<double>(layer) / layers,
               fmt::format("layer {} of {}", layer + 1, layers));
  };
  PV_ASSIGN_OR_RETURN(
      model::ConvertedForms forms,
      model::FitForms(checkpoint, texts, ToFit(arguments.degrees, arguments.margin), on_layer));
  bar.Clear();
  forms.weights = {NamedFile(*checkpoint), model::WeightsSha256(*checkpoint)};
  PV_ASSIGN_OR_RETURN(const std::string file,
                      model::FormatCheckedForms(forms, checkpoint->architecture));
  PV_RETURN_IF_ERROR(LinkModel(checkpoint->path, arguments.out));
  PV_RETURN_IF_ERROR(WriteFile(arguments.out + "/forms.json", file));
  Print(forms, arguments, timer.Seconds());
  return {};
}

}  // namespace

Command DescribeFit(Options& app) {
  auto arguments = std::make_shared<FitArguments>();
  app.description(
      "Puts polynomials in the place of every function of a released decoder's blocks, fitted on "
      "what a\n"
      "text shows, and writes them beside the model as forms.json: polyveil-server --model FOLDER\n"
      "serves it. No weight is trained: the result is another function than its softmax parent, "
      "whose\n"
      "text and perplexity are not kept. It is for sizes and trials; polyveil-train distil "
      "trains.");
  AddModel(app, arguments->model, "folder with config.json, or *.gguf")->required();
  app.add_option("--text", arguments->text,
                 "text to calibrate on, its first 256 KiB (default: a few built-in sentences)");
  app.add_option(
         "--out", arguments->out,
         "folder for forms.json and, unless it is the model's own, links to the model's files")
      ->required();
  AddNumber(app, "--tokens", arguments->tokens, {1, 1 << 20}, "of the text that calibrate");
  AddNumber(app, "--window", arguments->window, {1, 1 << 16}, "tokens of each text");
  AddNumber(app, "--heldout", arguments->heldout, {0, 1 << 20},
            "tokens behind them that try the polynomials");
  AddNumber(app, "--prefix", arguments->prefix, {0, 1 << 24},
            "ids of the constant tokens before every text")
      ->delimiter(',');
  AddNumber(app, "--margin", arguments->margin, {1, 1000}, "around the ranges seen");
  AddDegrees(app, arguments->degrees);
  AddThreads(app, arguments->threads);
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
