#include "train/cli.h"

#include <algorithm>
#include <filesystem>

#include "model/bundle.h"
#include "model/client/language_model.h"
#include "train/arguments.h"
#include "train/cli_commands.h"
#include "train/export.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

Status Prepare(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(const Arguments arguments,
                      Arguments::Parse(words, {"--data", "--out", "--vocab", "--heldout"}, {}));
  PV_RETURN_IF_ERROR(arguments.Require({"--data", "--out"}));
  PV_ASSIGN_OR_RETURN(const long vocab, arguments.Number("--vocab", 4096));
  CorpusOptions options;
  PV_ASSIGN_OR_RETURN(const long percent, arguments.Number("--heldout", options.heldout_percent));
  options.heldout_percent = static_cast<int>(percent);
  PV_ASSIGN_OR_RETURN(auto documents, ReadStories(arguments.Get("--data")));
  const Corpus corpus = SplitCorpus(std::move(documents), options);
  std::vector<std::string> texts;
  for (const Document& document : corpus.train) texts.push_back(document.text);
  PV_ASSIGN_OR_RETURN(const auto tokenizer,
                      model::Tokenizer::Train(texts, static_cast<int>(vocab)));
  const Dataset data = Tokenize(corpus, tokenizer);
  PV_RETURN_IF_ERROR(SaveDataset(data, tokenizer, corpus, arguments.Get("--out")));
  Print(out, "{} training documents ({} duplicates dropped), {} tokens\n", corpus.train.size(),
        corpus.train_duplicates, data.TrainTokens());
  Print(out, "{} held-out documents ({} duplicates dropped), {} tokens\n", corpus.heldout.size(),
        corpus.heldout_duplicates, data.HeldoutTokens());
  for (const auto& [source, stream] : data.train)
    Print(out, "  train {:12} {:9} tokens {:9} bytes\n", source, stream.tokens.size(),
          stream.bytes);
  for (const auto& [source, stream] : data.heldout)
    Print(out, "  held  {:12} {:9} tokens {:9} bytes\n", source, stream.tokens.size(),
          stream.bytes);
  return {};
}

Result<TrainConfig> ReadConfig(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto bytes, model::ReadBundleFile(path, 1 << 20));
  return ParseTrainConfig({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

void PrintEvaluation(std::FILE* out, const std::string& name, const Evaluation& e) {
  Print(out, "{}: held-out perplexity {:.4f} ({:.4f} bits per byte, {} tokens)", name, e.perplexity,
        e.bits_per_byte, e.tokens);
  for (const auto& [source, value] : e.perplexity_by_source)
    Print(out, "  {} {:.2f}", source, value);
  Print(out, "\n");
}

Status RunConfig(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words,
                       {"--config", "--data", "--out", "--stop-after", "--threads", "--processes"},
                       {"--resume", "--any-shape"}));
  PV_RETURN_IF_ERROR(arguments.Require({"--config", "--data", "--out"}));
  PV_ASSIGN_OR_RETURN(TrainConfig config, ReadConfig(arguments.Get("--config")));
  if (!arguments.Has("--any-shape")) PV_RETURN_IF_ERROR(CheckServable(config));
  PV_ASSIGN_OR_RETURN(const long threads, arguments.Number("--threads", config.threads));
  config.threads = std::max(1, static_cast<int>(threads));
  PV_ASSIGN_OR_RETURN(const long stop, arguments.Number("--stop-after", 0));
  PV_ASSIGN_OR_RETURN(const long count, arguments.Number("--processes", 1));
  if (count < 1 || count > 64)
    return MakeError(ErrorCode::kOutOfRange, "--processes {} not in [1, 64]", count);
  PV_ASSIGN_OR_RETURN(const auto processes, Processes::Start(static_cast<int>(count)));
  RunOptions options{arguments.Get("--data"),
                     arguments.Get("--out"),
                     arguments.Has("--resume"),
                     stop,
                     [&](const TrainProgress& p) {
                       Print(out,
                             "{}: step {}/{}  loss {:.4f}  penalty {:.5f}  gradient {:.3f}  {:.0f} "
                             "tokens/s ({:.0f}% of GEMM)  {:.0f} s left\n",
                             config.name, p.step, p.steps, p.loss, p.penalty, p.gradient_norm,
                             p.tokens_per_second, 100 * p.gemm_fraction, p.seconds_left);
                     },
                     processes.get()};
  PV_ASSIGN_OR_RETURN(const TrainSummary summary, RunTrain(config, options));
  Print(out,
        "{}: {} steps, {} tokens, {:.0f} s; {:.0f} tokens/s, {:.0f}% of the machine's {:.1f} "
        "GFLOP/s matrix product\n",
        config.name, summary.steps, summary.tokens, summary.seconds, summary.tokens_per_second,
        100 * summary.gemm_fraction, 1e-9 * summary.gemm_rate);
  PrintEvaluation(out, config.name, summary.heldout);
  return {};
}

// Windows that training may or may not have seen: steps far beyond any run's.
std::vector<Batch> TrainBatches(const TrainConfig& config, const Dataset& data, long count) {
  std::vector<Batch> batches;
  for (long i = 0; i < count; ++i)
    batches.push_back(DrawBatch(data, config.source_weights, config.batch, config.shape.context,
                                config.seed, 3'000'000 + i));
  return batches;
}

void PrintEscapes(std::FILE* out, const EscapeReport& report) {
  Print(out, "  {} escapes in {} evaluations at {} positions, worst ratio {:.3f}\n", report.escapes,
        report.evaluations, report.positions, report.worst_ratio);
  for (const auto& [site, escapes] : report.by_site)
    Print(out, "    {}: {}, worst ratio {:.3f}\n", site, escapes.count, escapes.worst_ratio);
}

Status EvaluateCheckpoints(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(const Arguments arguments,
                      Arguments::Parse(words, {"--data", "--train-batches"}, {}));
  PV_RETURN_IF_ERROR(arguments.Require({"--data"}));
  PV_ASSIGN_OR_RETURN(const long train_batches, arguments.Number("--train-batches", 0));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.Get("--data")));
  double first = 0;
  for (const std::string& path : arguments.positional) {
    PV_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(path));
    const Evaluation e = Evaluate(*loaded.model, data);
    PrintEvaluation(out, loaded.config.name, e);
    PV_RETURN_IF_ERROR(CheckEvaluation(e, *loaded.model, data));
    if (first == 0) first = e.perplexity;
    Print(out, "  {} tokens trained, {:+.2f}% against the first\n", loaded.info.tokens,
          100 * (e.perplexity / first - 1));
    if (!loaded.model->polynomials) continue;
    Print(out, "  held-out text:\n");
    PrintEscapes(
        out, CountEscapes(*loaded.model, HeldoutBatches(data, 64, loaded.config.shape.context)));
    if (train_batches == 0) continue;
    Print(out, "  training text:\n");
    PrintEscapes(out,
                 CountEscapes(*loaded.model, TrainBatches(loaded.config, data, train_batches)));
  }
  return {};
}

Status PrintRanges(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(const Arguments arguments, Arguments::Parse(words, {"--data"}, {}));
  PV_RETURN_IF_ERROR(arguments.Require({"--data"}));
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.Get("--data")));
  for (const std::string& path : arguments.positional) {
    PV_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(path));
    const SiteRanges ranges =
        ObserveRanges(*loaded.model, HeldoutBatches(data, 64, loaded.config.shape.context));
    for (const auto& [site, range] : ranges)
      Print(out, "{:42} [{:.5g}, {:.5g}]  ratio {:.4g}\n", site, range.lo, range.hi, range.ratio());
  }
  return {};
}

Status Export(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words,
                       {"--checkpoint", "--data", "--out", "--largest-error", "--parameters"},
                       {"--leave-out"}));
  PV_RETURN_IF_ERROR(arguments.Require({"--checkpoint", "--data", "--out"}));
  ExportOptions options;
  options.leave_out = arguments.Has("--leave-out");
  options.parameters = arguments.Get("--parameters", options.parameters);
  PV_ASSIGN_OR_RETURN(options.largest_error,
                      arguments.Real("--largest-error", options.largest_error));
  PV_ASSIGN_OR_RETURN(const ExportSummary summary,
                      ExportBundle(arguments.Get("--checkpoint"), arguments.Get("--data"),
                                   arguments.Get("--out"), options));
  Print(out, "{}: {} bytes, calibrated on {} tokens\n{}\n", arguments.Get("--out"), summary.bytes,
        summary.calibration_tokens, model::CertificateToText(summary.certificate));
  return {};
}

Status Sample(const std::vector<std::string>& words, std::FILE* out) {
  PV_ASSIGN_OR_RETURN(
      const Arguments arguments,
      Arguments::Parse(words, {"--model", "--tokens", "--temperature", "--top-p", "--seed"}, {}));
  PV_RETURN_IF_ERROR(arguments.Require({"--model"}));
  PV_ASSIGN_OR_RETURN(const auto bundle, model::LoadLanguageModel(arguments.Get("--model")));
  PV_ASSIGN_OR_RETURN(const long tokens, arguments.Number("--tokens", 48));
  PV_ASSIGN_OR_RETURN(const long seed, arguments.Number("--seed", 1));
  model::SamplingOptions options;
  options.seed = static_cast<std::uint64_t>(seed);
  options.temperature = std::atof(arguments.Get("--temperature", "0").c_str());
  options.top_p = std::atof(arguments.Get("--top-p", "1").c_str());
  for (const std::string& prompt : arguments.positional) {
    model::ReferenceLanguageModel reference(bundle.body, bundle.client);
    PV_ASSIGN_OR_RETURN(const auto ids, model::Generate(reference, bundle.tokenizer.Encode(prompt),
                                                        static_cast<int>(tokens), options));
    PV_ASSIGN_OR_RETURN(const std::string text, bundle.tokenizer.Decode(ids));
    Print(out, "[{}]{}\n", prompt, text);
  }
  return {};
}

// The options of cli.h, for people.
constexpr const char* kUsage =
    R"(prepare  --data STORIES --out FOLDER [--vocab N] [--heldout PERCENT]
run      --config FILE --data FOLDER --out RUNS [--resume] [--stop-after N] [--threads N]
         [--processes N] [--any-shape]
eval     --data FOLDER [--train-batches N] CHECKPOINT...
ranges   --data FOLDER CHECKPOINT...
convert  --checkpoint FILE --data FOLDER --out RUNS [--name NAME] [--margin R] [--norm-error E]
         [--divisor-error E] [--activation-error E] [--depth LEVELS] [--family NAME] [--batches N]
         [--json FILE]
convert-hub --config FILE --model FOLDER|GGUF --data STORIES --out FOLDER [--eval-data FOLDER]
         [--resume] [--stop-after N] [--threads N]     (builds with POLYVEIL_HUB)
study    --config FILE [--quick] [--estimate] [--only RUN] --data FOLDER --out FOLDER
         [--pairs FOLDER]
baseline --checkpoint SOFTMAX --data FOLDER [--kind exponential|normalise-square] [--margin R]
         [--error E] [--windows N] [--out FOLDER]
export   --checkpoint FILE --data FOLDER --out FOLDER [--leave-out] [--largest-error E]
         [--parameters SET]
sample   --model FOLDER [--tokens N] [--temperature T] [--top-p P] [--seed S] PROMPT...
)";

}  // namespace

Status RunTrainCommand(const std::vector<std::string>& arguments, std::FILE* out) {
  using Command = Status (*)(const std::vector<std::string>&, std::FILE*);
  if (std::find(arguments.begin(), arguments.end(), "--help") != arguments.end()) {
    Print(out, "{}", kUsage);
    return {};
  }
  static const std::map<std::string, Command> kCommands = {
      {"prepare", Prepare},       {"run", RunConfig},   {"eval", EvaluateCheckpoints},
      {"ranges", PrintRanges},    {"convert", Convert}, {"study", RunStudyCommand},
      {"baseline", MakeBaseline}, {"export", Export},   {"sample", Sample}};
  const auto it = arguments.empty() ? kCommands.end() : kCommands.find(arguments[0]);
  if (it == kCommands.end())
    return MakeError(ErrorCode::kInvalidArgument,
                     "command \"{}\" is none of prepare, run, eval, ranges, convert, study, "
                     "baseline, export, sample",
                     arguments.empty() ? "" : arguments[0]);
  return it->second(arguments, out);
}

}  // namespace polyveil::train
