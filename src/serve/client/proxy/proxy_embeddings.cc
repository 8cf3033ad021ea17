#include <nlohmann/json.hpp>

#include "base/system.h"
#include "serve/client/proxy/openai_embeddings.h"
#include "serve/client/proxy/proxy_replies.h"
#include "serve/client/proxy/proxy_service.h"

namespace polyveil::serve {

int ProxyService::RunEmbeddings(Exchange& exchange) {
  if (!embeddings_)
    return Refuse(exchange, {400, "invalid_request_error", "no_encoder", "model",
                             "model: '" + engine_.model() +
                                 "' has no encoder: it continues texts and gives no embeddings"});
  const auto request = ParseEmbeddingRequest(BodyOf(exchange));
  if (!request.ok()) return Refuse(exchange, ApiError::OfRequest(request.error()));
  if (request->model != engine_.model()) return RefuseModel(exchange);
  const auto texts = embeddings_->Prepare(request->texts);
  if (!texts.ok()) return Refuse(exchange, ApiError::OfRequest(texts.error()));
  std::vector<std::vector<double>> vectors;
  const RunEvents events{[&](const RemoteProgress& progress) { board_.Set(progress); },
                         [&](const TokenCost& cost) { board_.Add(cost); }};
  const auto job = queue_.Submit(nullptr, [&](const std::atomic<bool>& cancel) -> Status {
    board_.Begin();
    auto run = embeddings_->Run(*texts, cancel, events);
    board_.End();
    if (!run.ok()) return run.error();
    vectors = std::move(*run);
    return {};
  });
  if (!job.ok()) return Refuse(exchange, ApiError::OfRequest(job.error()));
  const JobGuard guard{**job};
  const Timer timer;
  while (!(*job)->WaitFor(kPollSeconds))
    if (exchange.Disconnected()) (*job)->Cancel();
  metrics_.Observe("polyveil_proxy_text_seconds", "", timer.Seconds());
  if (!(*job)->status().ok()) return Refuse(exchange, ApiError::OfRun((*job)->status().error()));
  size_t tokens = 0;
  for (const model::EncoderText& text : *texts) tokens += text.tokens.size();
  metrics_.Count("polyveil_proxy_tokens_total", R"(kind="prompt")", static_cast<double>(tokens));
  return Answer(exchange, 200, EmbeddingReply(*request, tokens, vectors));
}

}  // namespace polyveil::serve
