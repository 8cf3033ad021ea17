// What the proxy asks embeddings of: an encoder on a server, or a test's own.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "model/client/client_half.h"
#include "serve/client/proxy/engine.h"

namespace polyveil::serve {

struct EmbeddingRequest {
  std::string model;
  std::vector<std::string> texts;
  bool base64 = false;  // how vectors are written
};

class EmbeddingEngine : public Engine {
 public:
  // Tokens of every text, from many threads. Errors: kOutOfRange for a text that is too long, which
  // is named with both numbers.
  virtual Result<std::vector<model::EncoderText>> Prepare(
      const std::vector<std::string>& texts) const = 0;
  // A vector a text, of length 1. One run at a time; ends soon once `cancel` is true (kCancelled).
  virtual Result<std::vector<std::vector<double>>> Run(const std::vector<model::EncoderText>& texts,
                                                       const std::atomic<bool>& cancel,
                                                       const RunEvents& events) = 0;
};

}  // namespace polyveil::serve
