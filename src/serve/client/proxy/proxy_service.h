// The OpenAI API in front of a model on ciphertexts (docs/proxy.md): texts run one at a time, those
// that wait take turns.
#pragma once

#include <string>

#include "serve/client/proxy/embedding_engine.h"
#include "serve/client/proxy/openai_reply.h"
#include "serve/client/proxy/run_board.h"
#include "serve/client/proxy/text_engine.h"
#include "serve/metrics.h"
#include "serve/server/compute_queue.h"
#include "serve/server/http_server.h"

namespace polyveil::serve {

struct ProxyLimits {
  size_t waiting = 16;            // texts, beside the one that runs
  double keep_alive_seconds = 5;  // a comment in a stream that has nothing else to say
};

class ProxyService final : public HttpHandler {
 public:
  // engine and metrics outlive the service.
  ProxyService(TextEngine& engine, const ProxyLimits& limits, Metrics& metrics);
  ProxyService(EmbeddingEngine& engine, const ProxyLimits& limits, Metrics& metrics);

  u64 BodyLimit(std::string_view method, std::string_view path) const override;
  std::string ErrorBody(int status, const Error& error) const override;
  void Handle(Exchange& exchange) override;

 private:
  ProxyService(Engine& engine, TextEngine* texts, EmbeddingEngine* embeddings,
               const ProxyLimits& limits, Metrics& metrics);
  // Each answers and returns the reply's status.
  int Route(Exchange& exchange);
  int ShowModels(Exchange& exchange, const std::string& name);
  int ShowPage(Exchange& exchange);
  int RefuseModel(Exchange& exchange);  // another one than is served
  int RunText(Exchange& exchange, bool chat);
  int RunEmbeddings(Exchange& exchange);
  struct Run;
  int AnswerWhole(Exchange& exchange, Run& run);
  int AnswerStream(Exchange& exchange, Run& run);
  Status SendNews(Exchange& exchange, Run& run);

  Engine& engine_;
  TextEngine* const texts_;            // null: an encoder
  EmbeddingEngine* const embeddings_;  // null: a decoder
  const ProxyLimits limits_;
  Metrics& metrics_;
  const long started_;
  RunBoard board_;
  ComputeQueue queue_;  // last: its thread ends before what it uses
};

}  // namespace polyveil::serve
