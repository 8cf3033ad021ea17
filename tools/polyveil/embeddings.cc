#include "polyveil/embeddings.h"

#include <algorithm>

#include "polyveil/proxy_costs.h"

namespace polyveil::tools {

// What the proxy's client and its page hear of a run.
class Embeddings::Observer final : public BatchObserver {
 public:
  Observer(const serve::RunEvents& events, const serve::RemoteModel& remote,
           serve::Metrics& metrics)
      : events_(events), remote_(remote), metrics_(metrics) {}
  serve::RemoteProgressCallback Asking(size_t, size_t, int) override { return events_.on_progress; }
  void Read(int /*tokens*/, const serve::SessionStep& cost, double seconds) override {
    serve::TextReport report;
    serve::AccountStep(cost, 0, seconds, report);
    serve::TokenCost shown{
        seconds, {}, cost.bytes_up, cost.bytes_down, remote_.sent().bytes, remote_.sent().begin};
    for (const auto& row : report.latency.components)
      shown.parts.emplace_back(row.name, row.seconds);
    events_.on_token(shown);
    CountCosts(metrics_, cost.server.total_seconds, seconds, cost.bytes_up, cost.bytes_down);
    ++runs;
  }

  int runs = 0;

 private:
  const serve::RunEvents& events_;
  const serve::RemoteModel& remote_;
  serve::Metrics& metrics_;
};

Embeddings::Embeddings(ModelSession& session, const Pooling& pooling, const RunReport& report,
                       serve::Metrics& metrics)
    : session_(session), pooling_(pooling), metrics_(metrics), facts_(FactsOf(report)) {
  DescribeCosts(metrics_);
}

Result<std::unique_ptr<Embeddings>> Embeddings::Create(ModelSession& session,
                                                       const Pooling& pooling,
                                                       const RunReport& report,
                                                       serve::Metrics& metrics) {
  if (!report.info.encoder || report.info.prompts.empty())
    return MakeError(ErrorCode::kMismatch, "the server's model reads no whole texts");
  if (report.info.labels > 0)
    return MakeError(ErrorCode::kMismatch,
                     "the server's results are logits of {} labels, which are no embeddings: start "
                     "it without --head",
                     report.info.labels);
  return std::unique_ptr<Embeddings>(new Embeddings(session, pooling, report, metrics));
}

Result<std::vector<model::EncoderText>> Embeddings::Prepare(
    const std::vector<std::string>& texts) const {
  const int context = std::min(session_.context(), session_.remote().info().prompts.back().tokens);
  std::vector<model::EncoderText> encoded;
  for (const std::string& text : texts) {
    const std::string place =
        texts.size() == 1 ? std::string("input") : fmt::format("input[{}]", encoded.size());
    PV_ASSIGN_OR_RETURN(auto one, EncodeWithin(*session_.half(), text, {}, context, place));
    encoded.push_back(std::move(one));
  }
  return encoded;
}

// A server that is another one by now, or that has given the session's place away before anything
// came of it, gets a new one, once.
Result<std::vector<Residuals>> Embeddings::Read(const std::vector<model::EncoderText>& texts,
                                                Observer& observer) {
  const std::vector<serve::PromptInfo>& programs = session_.remote().info().prompts;
  if (text_) {
    auto read = RunBatches(*session_.half(), *text_, programs, texts, observer);
    const bool gone = !read.ok() && read.error().code == ErrorCode::kNotFound;
    if (!gone || observer.runs > 0) return read;
    text_.reset();
  }
  PV_ASSIGN_OR_RETURN(text_, session_.NewTextOfAny({}, [] {}));
  return RunBatches(*session_.half(), *text_, programs, texts, observer);
}

Result<std::vector<std::vector<double>>> Embeddings::Run(
    const std::vector<model::EncoderText>& texts, const std::atomic<bool>& cancel,
    const serve::RunEvents& events) {
  const CancelledBy scope(session_.remote(), cancel);
  Observer observer(events, session_.remote(), metrics_);
  const auto read = Read(texts, observer);
  if (!read.ok()) {
    // After a result that is not believed a session gives no other.
    if (read.error().code == ErrorCode::kUntrustedResult) text_.reset();
    return session_.Explain(read.error());
  }
  std::vector<std::vector<double>> vectors;
  for (const Residuals& tokens : *read) {
    PV_ASSIGN_OR_RETURN(auto vector, Pool(*session_.half(), tokens, pooling_));
    std::ranges::transform(vector, vector.begin(), Rounded);
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

}  // namespace polyveil::tools
