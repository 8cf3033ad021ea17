// Embeddings for the proxy's clients, of an encoder on a server.
#pragma once

#include <memory>

#include "polyveil/encoder_batches.h"
#include "polyveil/model_session.h"
#include "serve/client/proxy/embedding_engine.h"
#include "serve/metrics.h"

namespace polyveil::tools {

class Embeddings final : public serve::EmbeddingEngine {
 public:
  // session: with its keys on the server, of an encoder. Everything given outlives this object.
  // report: of the connection and its keys. Errors: kMismatch where the server reads no whole
  // texts.
  static Result<std::unique_ptr<Embeddings>> Create(ModelSession& session, const Pooling& pooling,
                                                    const RunReport& report,
                                                    serve::Metrics& metrics);

  const std::string& model() const override { return session_.remote().info().name; }
  serve::EngineFacts facts() const override { return facts_; }
  Result<std::vector<model::EncoderText>> Prepare(
      const std::vector<std::string>& texts) const override;
  Result<std::vector<std::vector<double>>> Run(const std::vector<model::EncoderText>& texts,
                                               const std::atomic<bool>& cancel,
                                               const serve::RunEvents& events) override;

 private:
  class Observer;
  Embeddings(ModelSession& session, const Pooling& pooling, const RunReport& report,
             serve::Metrics& metrics);
  Result<std::vector<Residuals>> Read(const std::vector<model::EncoderText>& texts,
                                      Observer& observer);

  ModelSession& session_;
  const Pooling pooling_;
  serve::Metrics& metrics_;
  const serve::EngineFacts facts_;
  // Keeps nothing between texts: one serves all. Of Run alone.
  std::unique_ptr<serve::EncryptedSession> text_;
};

}  // namespace polyveil::tools
