#include "serve/client/batch_run.h"

#include <algorithm>

#include "base/system.h"

namespace polyveil::serve {

// A text and what is fed of it. Behind its end the model's likeliest tokens go on: what a text
// feeds stays a text, because what leaves an interval in one's slots damages all.
struct BatchRun::Member {
  model::TextLoop loop;
  std::vector<model::TokenId> unseen{};  // the text and what went on behind its end

  std::span<const model::TokenId> Next() const {
    return loop.ended() ? std::span<const model::TokenId>(unseen) : loop.Next();
  }
  void GoOn(const std::vector<double>& logits) {
    unseen.push_back(
        static_cast<model::TokenId>(std::ranges::max_element(logits) - logits.begin()));
  }
};

Status BatchRun::Run(std::span<const std::vector<model::TokenId>> prompts, int new_tokens) {
  PV_RETURN_IF_ERROR(Begin(prompts, new_tokens));
  Timer timer;
  Status status;
  while (status.ok() && steps_ < total_ && (options_.fixed_length || GoingOn() > 0))
    status = Step();
  report_.tokens_seconds = timer.Seconds();
  Finish();
  return status;
}

Status BatchRun::Begin(std::span<const std::vector<model::TokenId>> prompts, int new_tokens) {
  if (prompts.size() > static_cast<size_t>(report_.info.texts))
    return MakeError(ErrorCode::kOutOfRange, "{} texts together, the server decodes {}",
                     prompts.size(), report_.info.texts);
  texts_.resize(prompts.size());
  size_t longest = 0;
  for (size_t i = 0; i < prompts.size(); ++i) {
    model::TextOptions options = options_.text;
    options.sampling.seed += i;
    members_.push_back(std::make_shared<Member>(Member{model::TextLoop(half_, context_, options)}));
    PV_RETURN_IF_ERROR(members_.back()->loop.Begin(prompts[i], new_tokens));
    longest = std::max(longest, prompts[i].size());
  }
  total_ = std::min(context_, static_cast<int>(longest) - half_.prefix() + new_tokens - 1);
  return {};
}

int BatchRun::GoingOn() const {
  return static_cast<int>(
      std::ranges::count_if(members_, [](const auto& each) { return !each->loop.ended(); }));
}

Status BatchRun::Step() {
  Timer timer;
  Vectors embeddings;
  for (const auto& member : members_) {
    PV_ASSIGN_OR_RETURN(embeddings.emplace_back(), half_.Embed(member->Next()));
  }
  PV_ASSIGN_OR_RETURN(const Vectors logits, Ask(embeddings));
  step_seconds_ = timer.Seconds();
  ++steps_;
  PV_RETURN_IF_ERROR(Take(embeddings, logits));
  observer_.Stepped(steps_, total_, step_seconds_, GoingOn());
  return {};
}

Result<BatchRun::Vectors> BatchRun::Ask(const Vectors& embeddings) {
  Timer timer;
  const auto progress =
      observer_.Asking(fmt::format("step {:>3}/{} of {} texts", steps_ + 1, total_, texts_.size()),
                       report_.info.seconds_per_token());
  const auto step = session_.StepTexts(embeddings, progress);
  observer_.Answered();
  if (!step.ok()) return step.error();
  Timer head_timer;
  Vectors logits;
  for (const auto& residual : step->residuals) {
    PV_ASSIGN_OR_RETURN(logits.emplace_back(), half_.Head(residual));
  }
  server_seconds_ = step->cost.server.total_seconds;
  AccountStep(step->cost, head_timer.Seconds(), timer.Seconds(), report_);
  return logits;
}

Status BatchRun::Take(const Vectors& embeddings, const Vectors& logits) {
  std::vector<TokenReport*> reports;
  for (size_t i = 0; i < members_.size(); ++i) {
    Member& member = *members_[i];
    BatchedText& text = texts_[i];
    reports.push_back(nullptr);
    if (member.loop.ended()) {
      member.GoOn(logits[i]);
      continue;
    }
    PV_ASSIGN_OR_RETURN(const model::TextStep step, member.loop.Take(logits[i]));
    TokenReport token;
    token.position = step.position;
    token.generated = text.generated > 0;
    token.token = step.token;
    if (step.next) token.next = *step.next;
    token.text = step.shown;
    token.seconds = step_seconds_;
    token.server_seconds = server_seconds_;
    text.text += step.shown;
    if (step.next && !step.ends) ++text.generated;
    text.tokens.push_back(std::move(token));
    reports.back() = &text.tokens.back();
    if (!member.loop.ended()) continue;
    text.end = model::TextEndName(*member.loop.ended());
    member.unseen = member.loop.text();
  }
  if (!check_) return {};
  const Timer timer;
  Status checked = check_(embeddings, logits, reports);
  AccountCheck(timer.Seconds(), report_);
  return checked;
}

void BatchRun::Finish() {
  for (size_t i = 0; i < members_.size(); ++i) {
    texts_[i].text += members_[i]->loop.Finish();
    report_.generated += texts_[i].generated;
  }
  report_.latency.total_seconds = 0;
  report_.latency.FinishStep(report_.tokens_seconds);
  report_.latency.steps = steps_;
}

}  // namespace polyveil::serve
