#include "eval/bundle_scorer.h"

#include <map>
#include <mutex>
#include <set>

#include "base/check.h"
#include "base/thread_pool.h"
#include "eval/token_score.h"

namespace polyveil::model {
namespace {

// What the model reads: the last token is scored only.
std::vector<TokenId> TokensRead(const ScoreRequest& request) {
  std::vector<TokenId> tokens = request.context;
  tokens.insert(tokens.end(), request.continuation.begin(), request.continuation.end() - 1);
  return tokens;
}

std::size_t Shared(std::span<const TokenId> a, std::span<const TokenId> b) {
  return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first -
                                  a.begin());
}

// The parts of requests with one group each.
std::vector<std::span<const ScoreRequest>> Groups(std::span<const ScoreRequest> requests) {
  std::vector<std::span<const ScoreRequest>> groups;
  for (std::size_t begin = 0, end; begin < requests.size(); begin = end) {
    for (end = begin; end < requests.size() && requests[end].group == requests[begin].group;) ++end;
    groups.push_back(requests.subspan(begin, end - begin));
  }
  return groups;
}

class ReferenceRunner : public BodyRunner {
 public:
  ReferenceRunner(const Decoder& decoder, Evaluation evaluation) : model_(decoder, evaluation) {}
  Result<std::vector<double>> Step(std::span<const double> embedding) override {
    return model_.Step(embedding);
  }
  std::unique_ptr<BodyRunner> Clone() const override {
    return std::make_unique<ReferenceRunner>(*this);
  }

 private:
  DecoderReference model_;
};

// Scores the requests of one group one after another. Where a later request leaves the path of this
// one, a copy of the text is kept to go on from.
class GroupScorer {
 public:
  GroupScorer(const LanguageModelBundle& bundle, std::unique_ptr<BodyRunner> start)
      : bundle_(bundle), runner_(std::move(start)) {
    kept_[0] = runner_->Clone();
  }

  Status Score(std::span<const ScoreRequest> requests, std::span<TextScore> scores) {
    std::vector<std::vector<TokenId>> texts;
    for (const ScoreRequest& request : requests) texts.push_back(TokensRead(request));
    for (std::size_t i = 0; i < requests.size(); ++i) {
      std::set<std::size_t> branches;
      for (std::size_t j = i + 1; j < texts.size(); ++j)
        branches.insert(Shared(texts[i], texts[j]));
      PV_RETURN_IF_ERROR(Read(texts[i], branches));
      const ScoreRequest& request = requests[i];
      for (std::size_t t = 0; t < request.continuation.size(); ++t) {
        PV_ASSIGN_OR_RETURN(const auto logits,
                            Head(bundle_.client, residuals_[request.context.size() - 1 + t]));
        AddToken(std::span<const double>(logits), request.continuation[t], scores[i]);
      }
    }
    return {};
  }

 private:
  Status Read(const std::vector<TokenId>& text, const std::set<std::size_t>& branches) {
    const std::size_t shared = Shared(read_, text);
    if (shared < read_.size()) {
      PV_CHECK(kept_.count(shared), "no copy after {} tokens", shared);
      runner_ = kept_[shared]->Clone();
    }
    kept_.erase(kept_.upper_bound(shared), kept_.end());
    read_.resize(shared);
    residuals_.resize(shared);
    for (std::size_t t = shared; t < text.size(); ++t) {
      if (branches.count(t) && !kept_.count(t)) kept_[t] = runner_->Clone();
      PV_ASSIGN_OR_RETURN(const auto embedding,
                          Embed(bundle_.client, std::span(text).first(t + 1)));
      PV_ASSIGN_OR_RETURN(auto residual, runner_->Step(embedding));
      residuals_.push_back(std::move(residual));
      read_.push_back(text[t]);
    }
    return {};
  }

  const LanguageModelBundle& bundle_;
  std::unique_ptr<BodyRunner> runner_;
  std::vector<TokenId> read_;
  std::vector<std::vector<double>> residuals_;               // after each token read
  std::map<std::size_t, std::unique_ptr<BodyRunner>> kept_;  // by the number of tokens read
};

class BundleScorer : public TextScorer {
 public:
  BundleScorer(std::shared_ptr<const LanguageModelBundle> bundle, BodySource source)
      : bundle_(std::move(bundle)), source_(std::move(source)) {}

  std::vector<TokenId> Encode(std::string_view text) const override {
    return bundle_->tokenizer.Encode(text);
  }
  std::vector<TokenId> Beginning() const override { return {Tokenizer::kEnd}; }
  bool AlwaysBegins() const override { return true; }
  int context() const override { return bundle_->body.config.context; }
  // One request at a time is as fast, and keeps what is slow in small steps.
  std::size_t batch_tokens() const override { return source_.concurrent ? kBatchTokens : 1; }

  Result<std::vector<TextScore>> Score(std::span<const ScoreRequest> requests) const override {
    for (const ScoreRequest& request : requests)
      PV_RETURN_IF_ERROR(CheckRequest(request, context()));
    std::vector<TextScore> scores(requests.size());
    const auto groups = Groups(requests);
    std::mutex mutex;
    Status failure;
    const auto run = [&](std::size_t g) {
      const auto at = static_cast<std::size_t>(groups[g].data() - requests.data());
      const Status status = GroupScorer(*bundle_, source_.start(groups[g].front().group))
                                .Score(groups[g], std::span(scores).subspan(at, groups[g].size()));
      const std::lock_guard lock(mutex);
      if (!status.ok()) failure = status;
    };
    if (source_.concurrent) {
      ParallelFor(groups.size(), run);
    } else {
      for (std::size_t g = 0; g < groups.size() && failure.ok(); ++g) run(g);
    }
    PV_RETURN_IF_ERROR(failure);
    return scores;
  }

 private:
  std::shared_ptr<const LanguageModelBundle> bundle_;
  BodySource source_;
};

}  // namespace

std::unique_ptr<TextScorer> MakeScorer(std::shared_ptr<const LanguageModelBundle> bundle,
                                       BodySource source) {
  return std::make_unique<BundleScorer>(std::move(bundle), std::move(source));
}

std::unique_ptr<TextScorer> MakeScorer(std::shared_ptr<const LanguageModelBundle> bundle,
                                       Evaluation evaluation) {
  const auto decoder = std::make_shared<const Decoder>(DecoderOfBundle(bundle->body));
  const auto start = [decoder, evaluation](std::size_t) {
    return std::make_unique<ReferenceRunner>(*decoder, evaluation);
  };
  return MakeScorer(std::move(bundle), BodySource{start});
}

std::size_t CountSteps(std::span<const ScoreRequest> requests) {
  std::size_t count = 0;
  for (const auto& group : Groups(requests)) {
    std::set<std::vector<TokenId>> prefixes;
    for (const ScoreRequest& request : group) {
      std::vector<TokenId> tokens = TokensRead(request);
      for (; !tokens.empty(); tokens.pop_back()) prefixes.insert(tokens);
    }
    count += prefixes.size();
  }
  return count;
}

}  // namespace polyveil::model
