#include "serve/server/step_stream.h"

#include <mutex>
#include <nlohmann/json.hpp>

#include "serve/protocol.h"

namespace polyveil::serve {
namespace {

constexpr double kReportSeconds = 0.2;
constexpr double kHeartbeatSeconds = 5;  // a report even when nothing has changed

// What the computing thread tells the connection's.
class Board {
 public:
  void Set(double done, const std::string* operation) {
    const std::lock_guard lock(mutex_);
    done_ = done;
    if (operation) operation_ = *operation;
  }
  nlohmann::json Json(size_t queued) const {
    const std::lock_guard lock(mutex_);
    return {{"done", done_}, {"operation", operation_}, {"queued", queued}};
  }

 private:
  mutable std::mutex mutex_;
  double done_ = 0;
  std::string operation_ = "waiting";
};

Status Report(Exchange& exchange, const ComputeQueue& queue, const Job& job, const Board& board,
              std::string& last, Timer& since) {
  std::string text = board.Json(queue.Ahead(job)).dump();
  if (since.Seconds() < (text == last ? kHeartbeatSeconds : kReportSeconds)) return {};
  since.Reset();
  last = std::move(text);
  return exchange.Send(FormatFrame(FrameType::kProgress, last));
}

}  // namespace

Result<StepOutcome> RunStep(Exchange& exchange, ComputeQueue& queue, Session& session,
                            const StepFunction& step, bool* streaming) {
  StepOutcome outcome;
  Board board;
  const auto run = [&](const std::atomic<bool>& cancel) -> Status {
    runtime::StepOptions options;
    options.cancel = &cancel;
    options.latency = &outcome.latency;
    options.on_progress = [&](const runtime::StepProgress& progress) {
      board.Set(progress.done, progress.operation);
    };
    PV_ASSIGN_OR_RETURN(outcome.results, step(options));
    return {};
  };
  PV_ASSIGN_OR_RETURN(const std::shared_ptr<Job> job, queue.Submit(session.keys.get(), run));
  const JobGuard guard{*job};
  Status client = exchange.BeginStream(kStreamType);
  *streaming = client.ok();
  std::string last;
  Timer since;
  while (!job->WaitFor(kPollSeconds)) {
    if (client.ok()) client = Report(exchange, queue, *job, board, last, since);
    if (!client.ok() || session.removed || exchange.Disconnected()) job->Cancel();
  }
  PV_RETURN_IF_ERROR(job->status());
  session.position = session.decoder.position();
  session.state_bytes = session.decoder.state_bytes();
  const std::lock_guard lock(session.mutex);
  session.latency.Merge(outcome.latency);
  return outcome;
}

}  // namespace polyveil::serve
