// polyveil bench drafts: what guessed tokens would save, in the clear and by the planner.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/output_file.h"
#include "base/thread_pool.h"
#include "eval/drafts.h"
#include "model/import/decoder_files.h"
#include "polyveil/bench_commands.h"
#include "polyveil/float_model.h"
#include "polyveil/model_files.h"
#include "runtime/compile_model.h"

namespace polyveil::tools {
namespace {

struct DraftsArguments {
  std::string model, parameters, json;
  std::vector<std::string> texts, counted;
  std::vector<int> widths = {2, 4, 8};
  int count = 16, prompt = 32, tokens = 64, context = 0;
  bool as_written = false;
  model::SamplingOptions sampling;
  size_t threads = 0;
};

using TokenIds = std::vector<model::TokenId>;

struct DraftedText {
  TokenIds tokens;
  size_t first = 0;  // behind the prompt
};

struct NamedDrafter {
  const char* name;
  const model::Drafter* drafter;
};

Result<TokenIds> ReadTokens(const model::ClientHalf& half, const std::string& path) {
  PV_ASSIGN_OR_RETURN(const auto file, MappedFile::Open(path));
  return half.EncodePart(file->text());
}

// `count` pieces of `length` tokens, evenly over the file.
Result<std::vector<TokenIds>> Pieces(const model::ClientHalf& half, const std::string& path,
                                     int count, int length) {
  PV_ASSIGN_OR_RETURN(const TokenIds all, ReadTokens(half, path));
  const auto wanted = static_cast<size_t>(count), size = static_cast<size_t>(length);
  if (all.size() < wanted * size)
    return MakeError(ErrorCode::kOutOfRange, "{}: {} tokens, {} pieces of {} need {}", path,
                     all.size(), count, length, wanted * size);
  std::vector<TokenIds> pieces;
  for (size_t i = 0; i < wanted; ++i) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * (all.size() / wanted));
    pieces.emplace_back(begin, begin + length);
  }
  return pieces;
}

// What the model makes of a prompt.
Result<DraftedText> Continue(const DraftsArguments& arguments, const model::ClientHalf& half,
                             const model::Decoder& decoder, const TokenIds& prompt) {
  FloatText reference(decoder, half);
  model::TextOptions options;
  options.sampling = arguments.sampling;
  model::TextLoop loop(half, std::min(half.context(), decoder.context), options);
  TokenIds text = half.Beginning();
  text.insert(text.end(), prompt.begin(), prompt.end());
  const size_t first = text.size();
  const auto feed = [&](std::span<const model::TokenId> tokens) -> Result<std::vector<double>> {
    PV_ASSIGN_OR_RETURN(const auto embedding, half.Embed(tokens));
    return reference.Logits(embedding);
  };
  PV_RETURN_IF_ERROR(loop.Continue(text, arguments.tokens, feed, [](const model::TextStep&) {}));
  return DraftedText{loop.text(), first};
}

Result<std::vector<DraftedText>> Texts(const DraftsArguments& arguments,
                                       const model::ClientHalf& half, const model::Decoder& decoder,
                                       const std::string& path) {
  const int length = arguments.prompt + (arguments.as_written ? arguments.tokens : 0);
  PV_ASSIGN_OR_RETURN(auto pieces, Pieces(half, path, arguments.count, length));
  std::vector<DraftedText> texts;
  for (TokenIds& piece : pieces) {
    if (arguments.as_written) {
      texts.push_back({std::move(piece), static_cast<size_t>(arguments.prompt)});
      continue;
    }
    auto text = Continue(arguments, half, decoder, piece);
    // One whose values leave their interval is no text.
    if (!text.ok() && text.error().code != ErrorCode::kUntrustedResult) return text.error();
    if (text.ok()) texts.push_back(*std::move(text));
  }
  return texts;
}

// Seconds of a pass over `width` tokens of one text over those of one token. Lower than what a pass
// would take: the same work with texts that are independent, without the exchange of new keys and
// values between a pass's tokens.
Result<std::vector<double>> PassCosts(const DraftsArguments& arguments,
                                      const std::shared_ptr<const model::Decoder>& decoder) {
  const compile::DecoderPrograms one;
  const std::string name =
      arguments.parameters.empty() ? runtime::DefaultParameters(one) : arguments.parameters;
  PV_ASSIGN_OR_RETURN(const ckks::ParametersSpec spec, ckks::FindParameters(name));
  PV_ASSIGN_OR_RETURN(const ckks::ParametersPtr params, ckks::Parameters::Create(spec));
  const auto speed = compile::MeasureMachineSpeed(params->log_n(), static_cast<int>(Threads()));
  const auto seconds = [&](int width) -> Result<double> {
    PV_ASSIGN_OR_RETURN(const auto program,
                        runtime::CompileModel(decoder, params, speed, {.texts = width}));
    return program->estimate().seconds_per_token;
  };
  PV_ASSIGN_OR_RETURN(const double single, seconds(1));
  std::vector<double> costs;
  for (const int width : arguments.widths) {
    PV_ASSIGN_OR_RETURN(const double pass, seconds(width));
    costs.push_back(pass / single);
  }
  return costs;
}

nlohmann::json Measure(const DraftsArguments& arguments, const std::vector<DraftedText>& texts,
                       const NamedDrafter& each, std::span<const double> costs) {
  nlohmann::json rows = nlohmann::json::array();
  std::string line = fmt::format("  {:24}", each.name);
  for (size_t i = 0; i < arguments.widths.size(); ++i) {
    model::DraftedPasses passes;
    for (const DraftedText& text : texts)
      passes += model::CountPasses(text.tokens, text.first, arguments.widths[i], *each.drafter);
    const double yield = passes.tokens_per_pass();
    line += fmt::format("  {:>9.2f} {:>5.2f}x", yield, yield / costs[i]);
    rows.push_back({{"width", arguments.widths[i]},
                    {"tokens", passes.tokens},
                    {"passes", passes.passes},
                    {"gain", yield / costs[i]}});
  }
  std::printf("%s\n", line.c_str());
  return rows;
}

std::string Head(const DraftsArguments& arguments, std::span<const double> costs) {
  std::string line = fmt::format("{:26}", "tokens a pass, gain");
  for (size_t i = 0; i < costs.size(); ++i)
    line += fmt::format("  {:>16}", fmt::format("{} at {:.2f}x", arguments.widths[i], costs[i]));
  return line;
}

Status Run(const DraftsArguments& arguments) {
  SetThreads(arguments.threads);
  PV_RETURN_IF_ERROR(model::ValidateSampling(arguments.sampling));
  PV_ASSIGN_OR_RETURN(const std::string path, FindModel(arguments.model));
  PV_ASSIGN_OR_RETURN(const ClientHalf half, LoadClientHalf(path));
  PV_RETURN_IF_ERROR(half->CheckWrites());
  PV_ASSIGN_OR_RETURN(const auto decoder, model::LoadDecoder(path, {.context = arguments.context}));
  PV_ASSIGN_OR_RETURN(const auto costs, PassCosts(arguments, decoder));
  TokenIds counted;
  for (const std::string& file : arguments.counted) {
    PV_ASSIGN_OR_RETURN(const TokenIds tokens, ReadTokens(*half, file));
    counted.insert(counted.end(), tokens.begin(), tokens.end());
  }
  const model::LookupDrafter lookup(1), sure(3);
  const model::CountDrafter counts(counted);
  const model::LookupOrCountDrafter both(sure, counts);
  std::vector<NamedDrafter> drafters = {{"last match", &lookup}};
  if (!counted.empty()) drafters.insert(drafters.end(), {{"counts", &counts}, {"both", &both}});
  nlohmann::json json = {{"costs", costs}, {"counted", counts.entries()}};
  std::printf("%s\n", Head(arguments, costs).c_str());
  for (const std::string& file : arguments.texts) {
    PV_ASSIGN_OR_RETURN(const auto texts, Texts(arguments, *half, *decoder, file));
    std::printf("%s: %zu texts\n", file.c_str(), texts.size());
    for (const NamedDrafter& each : drafters)
      json["texts"][file][each.name] = Measure(arguments, texts, each, costs);
  }
  if (arguments.json.empty()) return {};
  return WriteFile(arguments.json, json.dump(1) + "\n");
}

}  // namespace

Command DescribeBenchDrafts(Options& app) {
  auto a = std::make_shared<DraftsArguments>();
  app.description(
      "How many tokens a pass would yield if a client sent guesses behind its last token, in the\n"
      "clear, and what a pass would cost, planned. Nothing is encrypted.");
  AddModel(app, a->model, "whose texts and costs (default: the embedded model)");
  app.add_option("--text", a->texts, "a kind of text each: where prompts are taken from")
      ->required();
  app.add_option("--counted", a->counted, "files whose runs of tokens are counted for drafts");
  AddNumber(app, "--width", a->widths, {1, 64}, "tokens of a pass, each a power of two");
  AddNumber(app, "--count", a->count, {1, 1 << 16}, "texts of each file");
  AddNumber(app, "--prompt-tokens", a->prompt, {1, 1 << 16}, "tokens of a prompt");
  AddNumber(app, "--tokens", a->tokens, {1, 1 << 16}, "tokens behind it");
  AddNumber(app, "--context", a->context, {0, 1 << 16}, "the model's context; 0: the usual one");
  app.add_flag("--as-written", a->as_written,
               "the file's own tokens follow, not what the model makes of the prompt");
  AddNumber(app, "--temperature", a->sampling.temperature, {0, 100},
            "of the tokens that follow; 0: the likeliest");
  AddSeed(app, a->sampling.seed, "of sampling");
  app.add_option("--parameters", a->parameters, "parameter set of the planned program");
  AddThreads(app, a->threads, "the estimate");
  AddOutputFile(app, "--json", a->json, "also write the numbers to this file");
  return [a] { return Run(*a); };
}

}  // namespace polyveil::tools
