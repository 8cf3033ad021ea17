#include "polyveil/generate_texts.h"

#include <algorithm>
#include <cstdio>
#include <sstream>

#include "polyveil/float_model.h"
#include "polyveil/prompt_file.h"
#include "polyveil/terminal_text.h"

namespace polyveil::tools {
namespace {

using TokenIds = std::vector<model::TokenId>;

void SayPlan(const std::vector<TokenIds>& prompts, const TextsOptions& options, int prefix,
             const serve::ModelInfo& info) {
  size_t longest = 0;
  for (const TokenIds& prompt : prompts) longest = std::max(longest, prompt.size());
  const int steps = static_cast<int>(longest) - prefix + options.new_tokens - 1;
  std::fprintf(
      stderr, "%zu texts together, up to %d steps: about %s\n", prompts.size(), steps,
      FormatSeconds(info.estimate.key_generation_seconds + info.seconds_per_token() * steps)
          .c_str());
}

}  // namespace

Result<std::vector<std::string>> ReadPrompts(const std::string& path) {
  PV_ASSIGN_OR_RETURN(const std::string all, ReadPrompt(path));
  std::vector<std::string> prompts;
  std::istringstream lines(all);
  for (std::string line; std::getline(lines, line);)
    if (!line.empty()) prompts.push_back(line);
  if (prompts.empty()) return MakeError(ErrorCode::kInvalidArgument, "{}: no prompt in it", path);
  return prompts;
}

Result<std::vector<TokenIds>> EncodePrompts(const model::ClientHalf& half,
                                            const std::vector<std::string>& prompts, int context) {
  std::vector<TokenIds> all;
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto encoded = EncodePrompt(half, {.known = {}, .ids = {}, .text = prompts[i]}, context);
    if (!encoded.ok())
      return MakeError(encoded.error().code, "prompt {}: {}", i + 1, encoded.error().message);
    all.push_back(std::move(encoded->all));
  }
  return all;
}

Status GenerateTexts(const TextsOptions& options, ModelSession& session, RunReport& report) {
  const serve::ModelInfo& info = session.remote().info();
  const int count = static_cast<int>(options.prompts.size()), context = session.context();
  if (count > info.texts)
    return MakeError(ErrorCode::kOutOfRange, "{} prompts: the server decodes {} texts together",
                     count, info.texts);
  PV_ASSIGN_OR_RETURN(const auto prompts, EncodePrompts(*session.half(), options.prompts, context));
  SayPlan(prompts, options, session.half()->prefix(), info);
  std::unique_ptr<ReferenceCheck> check;
  if (options.check) {
    PV_ASSIGN_OR_RETURN(check,
                        ReferenceCheck::Create(session.path(), context, *session.half(),
                                               session.remote().params(), {}, info.texts, count));
  }
  PV_RETURN_IF_ERROR(session.Begin({}, report));
  TerminalText terminal;
  serve::BatchRun::Check compare;
  if (check)
    compare = [&](auto embeddings, auto logits, auto reports) {
      return check->Compare(embeddings, logits, reports);
    };
  serve::BatchRun run(*session.half(), context, session.text(), options.run, std::move(compare),
                      terminal, report, report.texts);
  PV_RETURN_IF_ERROR(run.Run(prompts, options.new_tokens));
  for (size_t i = 0; i < prompts.size(); ++i) report.texts[i].prompt = options.prompts[i];
  PV_ASSIGN_OR_RETURN(report.server_memory, session.remote().Memory());
  return {};
}

}  // namespace polyveil::tools
