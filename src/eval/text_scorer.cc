#include "eval/text_scorer.h"

#include <algorithm>
#include <deque>
#include <mutex>

#include "base/thread_pool.h"
#include "eval/token_score.h"
#include "model/float32/reference.h"

namespace polyveil::model {
namespace {

constexpr int kLogitRows = 256;  // of one product with the head: bounds the memory of logits
// Tokens of one batch: enough for full matrix products, few enough for small activations.

// Requests [begin, end) with the same context, and the context's keys and values.
struct Group {
  std::size_t begin, end;
  KvCache cache;
};

// A hidden state whose next token is known.
struct Target {
  std::vector<float> hidden;
  TokenId token;
  std::size_t request;
};

class CheckpointScorer : public TextScorer {
 public:
  CheckpointScorer(std::shared_ptr<const Checkpoint> checkpoint, TextTokenizer tokenizer,
                   std::vector<TokenId> beginning)
      : checkpoint_(std::move(checkpoint)),
        tokenizer_(std::move(tokenizer)),
        beginning_(std::move(beginning)),
        reference_(*checkpoint_) {}

  std::vector<TokenId> Encode(std::string_view text) const override {
    return tokenizer_.Encode(text);
  }
  std::vector<TokenId> Beginning() const override { return beginning_; }
  bool AlwaysBegins() const override { return !tokenizer_.parts().prefix.empty(); }
  int context() const override {
    return checkpoint_->architecture.context - static_cast<int>(Prefix().size());
  }
  std::size_t batch_tokens() const override { return kBatchTokens; }

  Result<std::vector<TextScore>> Score(std::span<const ScoreRequest> requests) const override {
    if (Prefix().empty()) return ScoreWhole(requests);
    std::vector<ScoreRequest> whole(requests.begin(), requests.end());
    for (ScoreRequest& request : whole)
      if (!std::ranges::equal(
              std::span(request.context).first(std::min(request.context.size(), Prefix().size())),
              Prefix()))
        request.context.insert(request.context.begin(), Prefix().begin(), Prefix().end());
    return ScoreWhole(whole);
  }

 private:
  // What a converted model has before every text.
  std::span<const TokenId> Prefix() const {
    if (!checkpoint_->forms) return {};
    return checkpoint_->forms->prefix;
  }

  Result<std::vector<TextScore>> ScoreWhole(std::span<const ScoreRequest> requests) const {
    for (const ScoreRequest& request : requests)
      PV_RETURN_IF_ERROR(CheckRequest(request, checkpoint_->architecture.context));
    std::deque<Group> groups;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      if (i > 0 && requests[i].context == requests[i - 1].context) {
        groups.back().end = i + 1;
      } else {
        groups.push_back({i, i + 1, KvCache(checkpoint_->architecture)});
      }
    }
    std::vector<Target> targets;
    PV_RETURN_IF_ERROR(ReadContexts(requests, groups, targets));
    std::size_t longest = 0;
    for (const Group& group : groups) longest = std::max(longest, group.end - group.begin);
    for (std::size_t turn = 0; turn < longest; ++turn)
      PV_RETURN_IF_ERROR(ReadContinuations(requests, turn, groups, targets));
    std::vector<TextScore> scores(requests.size());
    ScoreTargets(targets, scores);
    return scores;
  }

  // The last hidden state of a context predicts every continuation's first token.
  Status ReadContexts(std::span<const ScoreRequest> requests, std::deque<Group>& groups,
                      std::vector<Target>& targets) const {
    std::vector<Sequence> batch;
    for (Group& group : groups) batch.push_back({requests[group.begin].context, {}, &group.cache});
    PV_ASSIGN_OR_RETURN(const FloatMatrix hidden, reference_.Hidden(batch));
    int row = -1;
    for (const Group& group : groups) {
      row += static_cast<int>(requests[group.begin].context.size());
      for (std::size_t i = group.begin; i < group.end; ++i)
        AddTarget(hidden, row, requests[i].continuation[0], i, targets);
    }
    return {};
  }

  // The turn-th continuation of every group, behind its context.
  Status ReadContinuations(std::span<const ScoreRequest> requests, std::size_t turn,
                           std::deque<Group>& groups, std::vector<Target>& targets) const {
    std::vector<Sequence> batch;
    std::vector<std::size_t> indices;
    for (Group& group : groups) {
      const std::size_t i = group.begin + turn;
      if (i >= group.end || requests[i].continuation.size() < 2) continue;
      const std::span tokens(requests[i].continuation);
      batch.push_back({tokens.first(tokens.size() - 1), {}, &group.cache});
      indices.push_back(i);
    }
    if (batch.empty()) return {};
    PV_ASSIGN_OR_RETURN(const FloatMatrix hidden, reference_.Hidden(batch));
    int row = 0;
    for (std::size_t k = 0; k < batch.size(); ++k) {
      const auto& continuation = requests[indices[k]].continuation;
      for (std::size_t t = 1; t < continuation.size(); ++t)
        AddTarget(hidden, row++, continuation[t], indices[k], targets);
      batch[k].cache->Truncate(static_cast<int>(requests[indices[k]].context.size()),
                               checkpoint_->architecture);
    }
    return {};
  }

  static void AddTarget(const FloatMatrix& hidden, int row, TokenId token, std::size_t request,
                        std::vector<Target>& targets) {
    const auto values = hidden.row(row);
    targets.push_back({{values.begin(), values.end()}, token, request});
  }

  void ScoreTargets(const std::vector<Target>& targets, std::vector<TextScore>& scores) const {
    std::mutex mutex;
    for (std::size_t begin = 0; begin < targets.size(); begin += kLogitRows) {
      const std::size_t rows = std::min<std::size_t>(kLogitRows, targets.size() - begin);
      FloatMatrix hidden(static_cast<int>(rows), checkpoint_->architecture.d_model);
      for (std::size_t r = 0; r < rows; ++r)
        std::copy(targets[begin + r].hidden.begin(), targets[begin + r].hidden.end(),
                  hidden.row(static_cast<int>(r)).begin());
      const FloatMatrix logits = reference_.Logits(hidden);
      ParallelFor(rows, [&](std::size_t r) {
        TextScore one;
        AddToken(logits.row(static_cast<int>(r)), targets[begin + r].token, one);
        const std::lock_guard lock(mutex);
        TextScore& score = scores[targets[begin + r].request];
        score.log_probability += one.log_probability;
        score.greedy = score.greedy && one.greedy;
      });
    }
  }

  std::shared_ptr<const Checkpoint> checkpoint_;
  TextTokenizer tokenizer_;
  std::vector<TokenId> beginning_;
  FloatReference reference_;
};

}  // namespace

Result<std::unique_ptr<TextScorer>> MakeScorer(std::shared_ptr<const Checkpoint> checkpoint) {
  const Architecture& a = checkpoint->architecture;
  if (a.head != HeadKind::kCausalLm)
    return MakeError(ErrorCode::kMismatch,
                     "{} has no head over the vocabulary: it gives no text "
                     "a probability",
                     a.family);
  PV_ASSIGN_OR_RETURN(TextTokenizer tokenizer, TextTokenizer::Load(*checkpoint));
  if (tokenizer.vocab_size() > a.vocab_size)
    return MakeError(ErrorCode::kMismatch, "the tokenizer has {} tokens, the model {}",
                     tokenizer.vocab_size(), a.vocab_size);
  std::vector<TokenId> beginning = tokenizer.parts().prefix;
  if (checkpoint->forms && !checkpoint->forms->prefix.empty())
    beginning = checkpoint->forms->prefix;
  if (beginning.empty() && a.begin_token) beginning.push_back(*a.begin_token);
  if (beginning.empty())
    return MakeError(ErrorCode::kNotFound, "the model names no token to begin a text with");
  return std::unique_ptr<TextScorer>(std::make_unique<CheckpointScorer>(
      std::move(checkpoint), std::move(tokenizer), std::move(beginning)));
}

}  // namespace polyveil::model
