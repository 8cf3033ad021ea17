// The service behind the HTTP server: model information, keys, sessions, steps
// (docs/formats/http.md).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "serve/protocol.h"
#include "serve/server/client_routes.h"
#include "serve/server/compute_queue.h"
#include "serve/server/housekeeper.h"
#include "serve/server/http_server.h"
#include "serve/server/key_store.h"
#include "serve/server/session_store.h"
#include "serve/server/step_stream.h"
#include "wire/ciphertext_format.h"

namespace polyveil::serve {

class ModelService final : public HttpHandler {
 public:
  // `info` as ServedModel makes it; its sizes and limits are filled in here. client: the client's
  // half, or null.
  ModelService(std::shared_ptr<const compile::CompiledProgram> model, ModelInfo info,
               const ServiceLimits& limits,
               std::shared_ptr<const model::ClientFiles> client = nullptr);

  // Keys and sessions that are not here.
  Status Admit(std::string_view method, std::string_view path) override;
  u64 BodyLimit(std::string_view method, std::string_view path) const override;
  void Handle(Exchange& exchange) override;

 private:
  using Segments = std::vector<std::string>;
  // Each answers or returns the error to answer with.
  Status Route(Exchange& exchange);
  Status RouteKeys(Exchange& exchange, const Segments& path);
  Status RouteSessions(Exchange& exchange, const Segments& path);
  Status ShowModel(Exchange& exchange);
  Status ShowStatus(Exchange& exchange);
  Status BeginKeys(Exchange& exchange);
  Status AddChunk(Exchange& exchange, const std::string& handle, const std::string& index);
  Status CompleteKeys(Exchange& exchange, const std::string& handle);
  Status ShowKeys(Exchange& exchange, const std::string& handle);
  Status RemoveKeys(Exchange& exchange, const std::string& handle);
  Status CreateSession(Exchange& exchange);
  Status ShowLatency(Exchange& exchange, const std::string& handle);
  Status RemoveSession(Exchange& exchange, const std::string& handle);
  Status Step(Exchange& exchange, const std::string& handle);

  Status SendOutcome(Exchange& exchange, const wire::MessageBounds& bounds,
                     const Result<StepOutcome>& outcome) const;

  wire::MessageBounds TokenBounds(const Session& session) const;
  // A token of the position before the session's: its answer was lost, so the last step is taken
  // back.
  Status TakeBackIfSentAgain(Session& session, wire::ByteView body, wire::MessageBounds& bounds);

  const std::shared_ptr<const compile::CompiledProgram> model_;
  const std::shared_ptr<runtime::WeightStore> weights_;  // of all clients
  const u64 token_bytes_;
  Digest program_digest_{};
  ModelInfo info_;
  const ClientRoutes client_;
  const double lease_seconds_;
  SessionStore sessions_;
  KeyStore keys_;
  // Last: their threads end before what they use.
  ComputeQueue queue_;
  Housekeeper housekeeper_;
};

}  // namespace polyveil::serve
