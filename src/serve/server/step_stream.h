// Runs one step on the queue and tells its client how far it is.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "ckks/ciphertext.h"
#include "serve/server/compute_queue.h"
#include "serve/server/http_server.h"
#include "serve/server/session_store.h"

namespace polyveil::serve {

struct StepOutcome {
  std::vector<ckks::Ciphertext> results;
  runtime::LatencyTable latency;
};

// Streams progress frames while the step waits and runs; cancels it when the client leaves or the
// session ends (it is then as before). Errors: those of DecoderSession::Step, kCancelled,
// kUnavailable. After an error the stream is still open when *streaming is true.
using StepFunction =
    std::function<Result<std::vector<ckks::Ciphertext>>(const runtime::StepOptions&)>;
Result<StepOutcome> RunStep(Exchange& exchange, ComputeQueue& queue, Session& session,
                            const StepFunction& step, bool* streaming);

}  // namespace polyveil::serve
