// polyveil fit-choice: the polynomials with which a server chooses a model's tokens.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/thread_pool.h"
#include "model/choice.h"
#include "model/decoder_reference.h"
#include "model/formats/choice_tables.h"
#include "model/import/decoder_files.h"
#include "polyveil/commands.h"
#include "polyveil/model_files.h"
#include "polyveil/progress_bar.h"
#include "runtime/compile_model.h"
#include "serve/server/load_choice.h"

namespace polyveil::tools {
namespace {

constexpr int kLeastWindow = 4;

struct FitChoiceArguments {
  std::string model, text, out, parameters;
  int tokens = 3000, window = 96;
  size_t threads = 0;
  model::ChoiceFit fit;
};

using Residuals = std::vector<std::vector<double>>;

bool Escaped(const model::DecoderReference& reference) {
  const auto escapes = reference.escapes();
  return std::ranges::any_of(escapes, [](const auto& site) { return site.second.escapes > 0; });
}

// A window of the text: its first half as it stands, then the model's own greedy tokens; up to a
// token that leaves an interval of the model, behind which nothing is the model's.
Result<Residuals> ResidualsOf(const model::Decoder& decoder, const model::ClientHalf& half,
                              std::vector<model::TokenId> text, size_t window) {
  model::DecoderReference reference(decoder);
  Residuals residuals;
  const size_t begins = text.size();
  for (size_t fed = static_cast<size_t>(half.prefix()); residuals.size() < window; ++fed) {
    PV_ASSIGN_OR_RETURN(const auto embedding, half.Embed(std::span(text).first(fed + 1)));
    PV_ASSIGN_OR_RETURN(auto residual, reference.Step(embedding));
    if (Escaped(reference)) break;
    residuals.push_back(std::move(residual));
    if (fed + 1 < begins) continue;
    PV_ASSIGN_OR_RETURN(const auto logits, half.Head(residuals.back()));
    text.push_back(static_cast<model::TokenId>(std::ranges::max_element(logits) - logits.begin()));
  }
  return residuals;
}

Result<Residuals> Collect(const FitChoiceArguments& a, const model::Decoder& decoder,
                          const model::ClientHalf& half, const std::string& content) {
  // The shortest text of --window, and the token behind it.
  if (decoder.context < kLeastWindow + 1)
    return MakeError(ErrorCode::kOutOfRange, "{}: decoder.context = {} < {}, a text of {} and one",
                     decoder.name, decoder.context, kLeastWindow + 1, kLeastWindow);
  const auto ids = half.EncodePart(content);
  const auto window = static_cast<size_t>(std::min(a.window, decoder.context - 1));
  const size_t begins = window / 2, count = (static_cast<size_t>(a.tokens) + window - 1) / window;
  if (ids.size() < count + begins)
    return MakeError(ErrorCode::kOutOfRange, "the text has {} tokens, {} windows of {} need more",
                     ids.size(), count, begins);
  std::vector<Residuals> parts(count);
  Status failure;
  std::mutex mutex;
  size_t done = 0;
  ProgressBar bar("texts", 0);
  ParallelFor(count, [&](size_t i) {
    std::vector<model::TokenId> text = half.Beginning();
    const size_t first = i * (ids.size() - begins) / count;
    text.insert(text.end(), ids.begin() + static_cast<std::ptrdiff_t>(first),
                ids.begin() + static_cast<std::ptrdiff_t>(first + begins));
    auto residuals = ResidualsOf(decoder, half, std::move(text), window);
    const std::lock_guard lock(mutex);
    if (!residuals.ok()) {
      failure = residuals.error();
      return;
    }
    parts[i] = *std::move(residuals);
    bar.Update(static_cast<double>(++done) / static_cast<double>(count),
               fmt::format("{} of {}", done, count));
  });
  bar.Clear();
  PV_RETURN_IF_ERROR(failure);
  Residuals all;
  size_t short_ones = 0;
  for (Residuals& part : parts) {
    short_ones += part.size() < window;
    all.insert(all.end(), std::make_move_iterator(part.begin()),
               std::make_move_iterator(part.end()));
  }
  if (short_ones > 0)
    std::printf("%zu of %zu texts leave the model's own intervals: %zu of %zu tokens are used\n",
                short_ones, count, all.size(), count * window);
  if (all.empty())
    return MakeError(ErrorCode::kOutOfRange,
                     "every one of {} texts leaves the model's own intervals at once", count);
  return all;
}

// How choices end by the lead of the largest logit.
struct Tally {
  static constexpr double kGaps[] = {0.02, 0.05, 0.1, 0.2, 0.5, 1e300};
  int decided[std::size(kGaps)] = {}, all[std::size(kGaps)] = {}, wrong = 0;

  void Add(const model::ChoiceForms& forms, std::vector<double> logits) {
    const model::ChosenBits chosen = model::Choose(forms, logits);
    const auto first = std::ranges::max_element(logits) - logits.begin();
    std::ranges::nth_element(logits, logits.begin() + 1, std::greater<>());
    const double gap = std::abs(logits[0] - logits[1]);
    const auto at = std::ranges::find_if(kGaps, [&](double end) { return gap < end; }) - kGaps;
    ++all[at];
    if (!chosen.decided()) return;
    ++decided[at];
    wrong += chosen.token != first;
  }

  void Print(const char* what) const {
    std::printf("%-10s wrong %d; decided by the gap of the first two logits:", what, wrong);
    for (size_t i = 0; i < std::size(kGaps); ++i)
      std::printf(" %s%.2g: %d of %d%s", i + 1 < std::size(kGaps) ? "below " : "above ",
                  i + 1 < std::size(kGaps) ? kGaps[i] : kGaps[i - 1], decided[i], all[i],
                  i + 1 < std::size(kGaps) ? "," : "\n");
  }
};

void Judge(const model::ChoiceTables& tables, const model::ChoiceForms& forms,
           std::span<const std::vector<double>> residuals) {
  for (const double temperature : {0.0, forms.temperature}) {
    Tally tally;
    for (size_t i = 0; i < residuals.size(); ++i) {
      auto logits = model::CentredLogits(tables, residuals[i]);
      const auto noise = model::ChoiceNoise(Seed{2}, i, tables.vocabulary, temperature);
      for (size_t v = 0; v < noise.size(); ++v) logits[v] += noise[v];
      tally.Add(forms, std::move(logits));
    }
    tally.Print(temperature == 0 ? "greedy" : "sampled");
    if (forms.temperature == 0) return;
  }
}

void Print(const model::ChoiceForms& forms) {
  std::printf("choice     among logits within %.3g of their mean, 16th power of [-%.3g, %.3g]\n",
              forms.logit_bound, forms.low, forms.high);
  const auto row = [](const char* name, const approx::Approximant& p) {
    std::printf("  %-10s [%.3g, %.3g], ratio %.3g, %s of degree %d: %d levels\n", name, p.a, p.b,
                p.b / p.a, approx::RefinementName(p.refinement), p.degree(), p.LevelDepth());
  };
  row("last norm", forms.norm);
  row("deviation", forms.deviation);
  for (const auto& round : forms.rounds) row("round", round);
}

// A server could not use what its parameters have no levels for.
Status CheckRoom(const FitChoiceArguments& arguments, std::shared_ptr<const model::Decoder> decoder,
                 std::shared_ptr<const model::ChoiceTables> tables, model::ChoiceForms forms) {
  compile::DecoderPrograms programs;
  programs.choice =
      std::make_shared<const compile::Choice>(compile::Choice{std::move(tables), std::move(forms)});
  PV_ASSIGN_OR_RETURN(
      const ckks::ParametersSpec spec,
      ckks::FindParameters(arguments.parameters.empty() ? runtime::DefaultParameters(programs)
                                                        : arguments.parameters));
  PV_ASSIGN_OR_RETURN(const auto params, ckks::Parameters::Create(spec));
  PV_ASSIGN_OR_RETURN(const auto program, runtime::CompileModel(std::move(decoder), params,
                                                                compile::MachineSpeed{}, programs));
  const compile::Estimate& estimate = program->choice()->estimate();
  std::printf("%-10s %d levels and %d bootstraps more a token\n", spec.name.c_str(),
              estimate.depth_per_token, estimate.bootstraps_per_token);
  return {};
}

Status Run(const FitChoiceArguments& arguments) {
  SetThreads(arguments.threads);
  PV_ASSIGN_OR_RETURN(const std::string path, FindModel(arguments.model));
  PV_ASSIGN_OR_RETURN(const ClientHalf half, LoadClientHalf(path));
  PV_RETURN_IF_ERROR(half->CheckWrites());
  PV_ASSIGN_OR_RETURN(const auto tables, model::LoadChoiceTables(half->files()));
  PV_ASSIGN_OR_RETURN(const auto decoder, model::LoadDecoder(path, {}));
  PV_ASSIGN_OR_RETURN(
      const auto file,
      MappedFile::Open(arguments.text.empty() ? path + "/prompts.txt" : arguments.text));
  PV_ASSIGN_OR_RETURN(Residuals residuals,
                      Collect(arguments, *decoder, *half, std::string(file->text())));
  const size_t fits = residuals.size() - residuals.size() / 4;
  const std::span all(residuals);
  PV_ASSIGN_OR_RETURN(const model::ChoiceForms forms,
                      model::FitChoice(*tables, all.first(fits), arguments.fit));
  Print(forms);
  std::printf("tried on %zu more tokens:\n", all.size() - fits);
  Judge(*tables, forms, all.subspan(fits));
  PV_RETURN_IF_ERROR(CheckRoom(arguments, decoder, tables, forms));
  const std::string out = arguments.out.empty() ? serve::ChoicePath(path) : arguments.out;
  PV_RETURN_IF_ERROR(WriteFile(out, model::FormatChoiceForms(forms)));
  std::printf("%s is written\n", out.c_str());
  return {};
}

}  // namespace

Command DescribeFitChoice(Options& app) {
  auto arguments = std::make_shared<FitChoiceArguments>();
  app.description(
      "Fits the polynomials of a choice (last norm, standard deviation, rounds of sharpening) to "
      "what\nthe model's logits show on a text and on its own greedy continuations, tries them on "
      "a quarter\nthat is held back, plans them, and writes choice.json beside the model.");
  AddModel(app, arguments->model,
           "a bundle, a converted folder or *.gguf (default: the embedded model)");
  app.add_option("--text", arguments->text, "text to fit on (default: the model's prompts.txt)");
  AddOutputFile(app, "--out", arguments->out,
                "file to write (default: choice.json beside the model)");
  app.add_option("--parameters", arguments->parameters,
                 "parameter set that is to have room for it (default: decode16)");
  AddNumber(app, "--tokens", arguments->tokens, {16, 1 << 20}, "to fit and try on");
  AddNumber(app, "--window", arguments->window, {kLeastWindow, 1 << 16},
            "tokens of a text: half of it as it stands, half the model's own");
  AddNumber(app, "--rounds", arguments->fit.rounds, {1, 16}, "of sharpening");
  AddNumber(app, "--cleanups", arguments->fit.cleanups, {1, 8}, "of each bit");
  AddNumber(app, "--temperature", arguments->fit.temperature, {0, 4},
            "up to which tokens may be sampled");
  AddNumber(app, "--margin", arguments->fit.margin, {1, 100}, "around the ranges seen, by ratio");
  AddSeed(app, arguments->fit.seed, "of the noise that the fit sees");
  AddThreads(app, arguments->threads);
  return [arguments] { return Run(*arguments); };
}

}  // namespace polyveil::tools
