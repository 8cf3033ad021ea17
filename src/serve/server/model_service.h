// The service behind the HTTP server: model information, keys, sessions, steps
// (docs/formats/http.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/protocol.h"
#include "serve/server/admission.h"
#include "serve/server/client_routes.h"
#include "serve/server/compute_queue.h"
#include "serve/server/housekeeper.h"
#include "serve/server/http_server.h"
#include "serve/server/keeper.h"
#include "serve/server/key_store.h"
#include "serve/server/operations.h"
#include "serve/server/public_contexts.h"
#include "serve/server/served_model.h"
#include "serve/server/session_store.h"
#include "serve/server/step_stream.h"
#include "wire/ciphertext_format.h"

namespace polyveil::serve {

class ModelService final : public HttpHandler {
 public:
  // Sizes and limits of the model's information are filled in here.
  // accounts: null where whoever reaches the server may use it. state: where keys and sessions
  // outlive the process, or null.
  ModelService(const ServedModel& served, const ServiceLimits& limits,
               std::shared_ptr<Accounts> accounts = nullptr,
               std::unique_ptr<StateFolder> state = nullptr, RequestLog log = {});

  // Requests of nobody; keys and sessions that are not here, or another account's.
  std::optional<Refusal> Admit(const HttpRequest& request) override;
  u64 BodyLimit(std::string_view method, std::string_view path) const override;
  void Handle(Exchange& exchange) override;
  void Answered(const HttpRequest& request, int status, double seconds) override;
  // No more steps begin; waits at most `seconds` for those that have.
  void Drain(double seconds);

 private:
  using Segments = std::vector<std::string>;
  // Each answers or returns the error to answer with.
  Status Route(Exchange& exchange);
  // Whoever sends it; those of no account have not come so far.
  // kUnavailable while this name is one that is still to be restored.
  Status CheckRestored(const std::string& handle) const;
  Member MemberOf(const Exchange& exchange);
  Result<std::shared_ptr<KeySet>> FindKeys(const Member& member, const std::string& handle) const;
  Result<std::shared_ptr<Session>> FindSession(const Member& member, const std::string& handle);
  Status RouteKeys(Exchange& exchange, const Segments& path);
  Status RouteSessions(Exchange& exchange, const Segments& path);
  Status ShowModel(Exchange& exchange);
  Status ShowStatus(Exchange& exchange);
  // /health/live, /health/ready, /metrics.
  static bool IsOperation(const Segments& path);
  Status ShowOperation(Exchange& exchange, const Segments& path);
  ServiceCounts Count(MemoryReport& memory);
  Status BeginKeys(Exchange& exchange);
  Status AddChunk(Exchange& exchange, const std::string& handle, const std::string& index);
  Status CompleteKeys(Exchange& exchange, const std::string& handle);
  Status ShowKeys(Exchange& exchange, const std::string& handle);
  Status RemoveKeys(Exchange& exchange, const std::string& handle);
  Status CreateSession(Exchange& exchange);
  // The public context of a session's request, where it has one.
  Status TakePublic(Exchange& exchange, const nlohmann::json& body,
                    const std::shared_ptr<KeySet>& set, SessionRequest& request);
  Status ShowLatency(Exchange& exchange, const std::string& handle);
  Status RemoveSession(Exchange& exchange, const std::string& handle);
  Status Step(Exchange& exchange, const std::string& handle);
  Status RouteJobs(Exchange& exchange, const Segments& path);
  Status CreateJob(Exchange& exchange);
  Status SendPage(Exchange& exchange, const Submission& text, const std::string& index);
  Status ReadPrompt(Exchange& exchange, const std::string& handle, const std::string& tokens);

  // The ciphertexts of the request's body, run by `step`, and its answer. bounds: of the first.
  using Computation = std::function<Result<std::vector<ckks::Ciphertext>>(
      std::span<const ckks::Ciphertext> inputs, const runtime::StepOptions& options)>;
  Status Compute(Exchange& exchange, SessionLease lease, const wire::MessageBounds& bounds,
                 int ciphertexts, const Computation& step);
  // Of a body of so many messages of one size. Errors: kCorrupt for another size, ParseToken's.
  Result<std::vector<ckks::SeededCiphertext>> ParseInputs(wire::ByteView body,
                                                          wire::MessageBounds bounds,
                                                          int ciphertexts) const;
  Status SendOutcome(Exchange& exchange, const wire::MessageBounds& bounds,
                     const Result<StepOutcome>& outcome) const;

  wire::MessageBounds BoundsOf(const Session& session, u32 position, int level) const;
  // A token of the position before the session's: its answer was lost, so the last step is taken
  // back.
  Status TakeBackIfSentAgain(Session& session, wire::ByteView body, wire::MessageBounds& bounds);

  const std::shared_ptr<const compile::CompiledDecoder> model_;
  const SharedModel shared_;  // of all clients
  const u64 token_bytes_;     // of a step's or a prompt's body at most
  Digest program_digest_{};
  ModelInfo info_;
  const ClientRoutes client_;
  const double lease_seconds_;
  Admission admission_;
  Operations operations_;
  PublicContexts public_contexts_;
  SessionStore sessions_;
  KeyStore keys_;
  std::atomic<bool> draining_{false};
  // Last: their threads end before what they use.
  ComputeQueue queue_;
  const std::unique_ptr<StateFolder> state_;            // or null
  const std::unique_ptr<SubmissionStore> submissions_;  // where there are a state and a choice
  const std::unique_ptr<Keeper> keeper_;
  Housekeeper housekeeper_;
};

}  // namespace polyveil::serve
