#include "train/cli.h"

#include <algorithm>
#include <memory>

#include "base/output_file.h"
#include "model/client/language_model.h"
#include "train/cli_options.h"
#include "train/export.h"
#include "train/trainer.h"

namespace polyveil::train {
namespace {

struct PrepareArguments {
  std::string data, out;
  int vocab = 4096;
  CorpusOptions corpus;
  bool replace = false;
};

void PrintPart(const char* part, const std::map<std::string, TokenStream>& streams) {
  for (const auto& [source, stream] : streams)
    Print("  {} {:12} {:9} tokens {:9} bytes\n", part, source, stream.tokens.size(), stream.bytes);
}

Status Prepare(const PrepareArguments& arguments) {
  PV_RETURN_IF_ERROR(CheckReplace(arguments.out + "/dataset.json", arguments.replace));
  PV_RETURN_IF_ERROR(CheckWritableFolder(arguments.out));
  PV_ASSIGN_OR_RETURN(const Corpus corpus, ReadCorpus(arguments.data, arguments.corpus));
  if (corpus.cut_files > 0)
    Print("{} files cut at blank lines into documents of about {} bytes\n", corpus.cut_files,
          corpus.document_bytes);
  std::vector<std::string> texts;
  for (const Document& document : corpus.train) texts.push_back(document.text);
  PV_ASSIGN_OR_RETURN(const auto tokenizer, model::Tokenizer::Train(texts, arguments.vocab));
  const Dataset data = Tokenize(corpus, tokenizer);
  PV_RETURN_IF_ERROR(SaveDataset(data, tokenizer, corpus, arguments.out));
  Print("{} training documents ({} duplicates dropped), {} tokens\n", corpus.train.size(),
        corpus.train_duplicates, data.TrainTokens());
  Print("{} held-out documents ({} duplicates dropped), {} tokens\n", corpus.heldout.size(),
        corpus.heldout_duplicates, data.HeldoutTokens());
  PrintPart("train", data.train);
  PrintPart("held ", data.heldout);
  return {};
}

struct RunArguments {
  std::string config, data, out;
  Continuation continuation;
  bool any_shape = false;
  int processes = 1;
};

void PrintEvaluation(const std::string& name, const Evaluation& e) {
  Print("{}: held-out perplexity {:.4f} ({:.4f} bits per byte, {} tokens)", name, e.perplexity,
        e.bits_per_byte, e.tokens);
  for (const auto& [source, value] : e.perplexity_by_source) Print("  {} {:.2f}", source, value);
  Print("\n");
}

Status RunConfig(const RunArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const std::string text, ReadConfigText(arguments.config));
  PV_ASSIGN_OR_RETURN(TrainConfig config, ParseTrainConfig(text));
  const Continuation& continuation = arguments.continuation;
  if (!arguments.any_shape) PV_RETURN_IF_ERROR(CheckServable(config));
  if (continuation.threads > 0) config.threads = continuation.threads;
  PV_ASSIGN_OR_RETURN(const auto processes, Processes::Start(arguments.processes));
  RunOptions options;
  options.data = arguments.data;
  options.out = arguments.out;
  options.resume = continuation.resume;
  options.replace = continuation.replace;
  options.stop_after = continuation.stop_after;
  options.processes = processes.get();
  options.progress = [&](const TrainProgress& p) {
    Print(
        "{}: step {}/{}  loss {:.4f}  penalty {:.5f}  gradient {:.3f}  {:.0f} tokens/s ({:.0f}% of "
        "GEMM)  {:.0f} s left\n",
        config.name, p.step, p.steps, p.loss, p.penalty, p.gradient_norm, p.tokens_per_second,
        100 * p.gemm_fraction, p.seconds_left);
  };
  PV_ASSIGN_OR_RETURN(const TrainSummary summary, RunTrain(config, options));
  Print(
      "{}: {} steps, {} tokens, {:.0f} s; {:.0f} tokens/s, {:.0f}% of the machine's {:.1f} "
      "GFLOP/s matrix product\n",
      config.name, summary.steps, summary.tokens, summary.seconds, summary.tokens_per_second,
      100 * summary.gemm_fraction, 1e-9 * summary.gemm_rate);
  PrintEvaluation(config.name, summary.heldout);
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

void PrintEscapes(const EscapeReport& report) {
  Print("  {} escapes in {} evaluations at {} positions, worst ratio {:.3f}\n", report.escapes,
        report.evaluations, report.positions, report.worst_ratio);
  for (const auto& [site, escapes] : report.by_site)
    Print("    {}: {}, worst ratio {:.3f}\n", site, escapes.count, escapes.worst_ratio);
}

struct CheckpointArguments {
  std::string data;
  int train_batches = 0;
  std::vector<std::string> checkpoints;
};

Status EvaluateCheckpoints(const CheckpointArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.data));
  double first = 0;
  for (const std::string& path : arguments.checkpoints) {
    PV_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(path));
    const Evaluation e = Evaluate(*loaded.model, data);
    PrintEvaluation(loaded.config.name, e);
    PV_RETURN_IF_ERROR(CheckEvaluation(e, *loaded.model, data));
    if (first == 0) first = e.perplexity;
    Print("  {} tokens trained, {:+.2f}% against the first\n", loaded.info.tokens,
          100 * (e.perplexity / first - 1));
    if (!loaded.model->polynomials) continue;
    Print("  held-out text:\n");
    PrintEscapes(
        CountEscapes(*loaded.model, HeldoutBatches(data, 64, loaded.config.shape.context)));
    if (arguments.train_batches == 0) continue;
    Print("  training text:\n");
    PrintEscapes(
        CountEscapes(*loaded.model, TrainBatches(loaded.config, data, arguments.train_batches)));
  }
  return {};
}

Status PrintRanges(const CheckpointArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const Dataset data, LoadDataset(arguments.data));
  for (const std::string& path : arguments.checkpoints) {
    PV_ASSIGN_OR_RETURN(const LoadedModel loaded, LoadModel(path));
    const SiteRanges ranges =
        ObserveRanges(*loaded.model, HeldoutBatches(data, 64, loaded.config.shape.context));
    for (const auto& [site, range] : ranges)
      Print("{:42} [{:.5g}, {:.5g}]  ratio {:.4g}\n", site, range.lo, range.hi, range.ratio());
  }
  return {};
}

struct ExportArguments {
  std::string checkpoint, data, out;
  ExportOptions options;
  bool replace = false;
};

Status Export(const ExportArguments& arguments) {
  PV_RETURN_IF_ERROR(CheckReplace(arguments.out + "/model.json", arguments.replace));
  PV_RETURN_IF_ERROR(CheckWritableFolder(arguments.out));
  PV_ASSIGN_OR_RETURN(
      const ExportSummary summary,
      ExportBundle(arguments.checkpoint, arguments.data, arguments.out, arguments.options));
  Print("{}: {} bytes, calibrated on {} tokens\n{}\n", arguments.out, summary.bytes,
        summary.calibration_tokens, model::CertificateToText(summary.certificate));
  return {};
}

struct SampleArguments {
  std::string model;
  int tokens = 48;
  model::SamplingOptions sampling;
  std::vector<std::string> prompts;
};

Status Sample(const SampleArguments& arguments) {
  PV_ASSIGN_OR_RETURN(const auto bundle, model::LoadLanguageModel(arguments.model));
  const model::Decoder decoder = model::DecoderOfBundle(bundle.body);
  for (const std::string& prompt : arguments.prompts) {
    model::ReferenceLanguageModel reference(decoder, bundle.client);
    PV_ASSIGN_OR_RETURN(const auto ids, model::Generate(reference, bundle.tokenizer.Encode(prompt),
                                                        arguments.tokens, arguments.sampling));
    PV_ASSIGN_OR_RETURN(const std::string text, bundle.tokenizer.Decode(ids));
    Print("[{}]{}\n", prompt, text);
  }
  return {};
}

}  // namespace

Command DescribePrepare(Options& app) {
  auto a = std::make_shared<PrepareArguments>();
  app.description(
      "Reads every *.txt below a folder, holds whole documents out, trains a tokenizer and writes\n"
      "token streams. A file is a document, a folder of files a source; where whole files would\n"
      "leave nothing to train on or nothing held out, large files are cut at blank lines.");
  app.add_option("--data", a->data, "folder of texts: one subfolder a source, *.txt inside")
      ->required();
  app.add_option("--out", a->out, "folder of the token streams")->required();
  AddNumber(app, "--vocab", a->vocab, {257, 65536}, "tokens of the vocabulary");
  AddNumber(app, "--heldout", a->corpus.heldout_percent, {1, 90}, "percent of the documents");
  AddNumber(app, "--document-bytes", a->corpus.document_bytes, {0, 1 << 30},
            "cut larger files at blank lines into documents of about this size; 0: only where it "
            "is needed");
  AddReplace(app, a->replace);
  return [a] { return Prepare(*a); };
}

Command DescribeRun(Options& app) {
  auto a = std::make_shared<RunArguments>();
  app.description(
      "Trains a model from a configuration. Ctrl-C saves a checkpoint before it ends; --resume "
      "goes on.");
  app.add_option("--config", a->config, "the run's configuration, JSON")->required();
  AddData(app, a->data)->required();
  app.add_option("--out", a->out, "folder of runs; this one's files go to OUT/<name>")->required();
  AddContinuation(app, a->continuation);
  AddNumber(app, "--processes", a->processes, {1, 64}, "processes that share a step's batches");
  app.add_flag("--any-shape", a->any_shape, "also shapes that no encrypted program can serve");
  return [a] { return RunConfig(*a); };
}

Command DescribeEval(Options& app) {
  auto a = std::make_shared<CheckpointArguments>();
  app.description("Held-out perplexities; of polynomial models what leaves the intervals.");
  AddData(app, a->data)->required();
  AddNumber(app, "--train-batches", a->train_batches, {0, 1'000'000},
            "batches of training text whose escapes are counted too");
  app.add_option("checkpoint", a->checkpoints, "checkpoints, compared with the first")->required();
  return [a] { return EvaluateCheckpoints(*a); };
}

Command DescribeRanges(Options& app) {
  auto a = std::make_shared<CheckpointArguments>();
  app.description("The ranges of every polynomial's inputs on held-out text.");
  AddData(app, a->data)->required();
  app.add_option("checkpoint", a->checkpoints, "checkpoints")->required();
  return [a] { return PrintRanges(*a); };
}

Command DescribeExport(Options& app) {
  auto a = std::make_shared<ExportArguments>();
  app.description("Writes a polynomial model's checkpoint as a bundle: what a server runs.");
  app.add_option("--checkpoint", a->checkpoint, "checkpoint of a polynomial model")->required();
  AddData(app, a->data)->required();
  app.add_option("--out", a->out, "folder of the bundle")->required();
  AddReplace(app, a->replace);
  app.add_flag("--leave-out", a->options.leave_out,
               "take no bounds from positions out of range, and write their number down");
  AddNumber(app, "--largest-error", a->options.largest_error, {0, 1e9},
            "refuse a model whose encrypted logits are predicted to err by more");
  app.add_option("--parameters", a->options.parameters, "parameter set of the prediction")
      ->capture_default_str();
  return [a] { return Export(*a); };
}

Command DescribeSample(Options& app) {
  auto a = std::make_shared<SampleArguments>();
  app.description("Continuations of prompts by a bundle's float64 polynomial model.");
  app.add_option("--model", a->model, "folder of the bundle")->required();
  AddNumber(app, "--tokens", a->tokens, {1, 1 << 20}, "new tokens of each");
  AddNumber(app, "--temperature", a->sampling.temperature, {0, 1000}, "0 is greedy");
  AddNumber(app, "--top-p", a->sampling.top_p, {1e-9, 1}, "nucleus");
  AddSeed(app, a->sampling.seed, "of sampling");
  app.add_option("prompt", a->prompts, "prompts")->required();
  return [a] { return Sample(*a); };
}

}  // namespace polyveil::train
