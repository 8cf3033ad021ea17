// What the proxy asks its model, whatever that does with texts.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "serve/client/remote_model.h"

namespace polyveil::serve {

// What a token has cost; of an encoder: a ciphertext of whole texts.
struct TokenCost {
  double seconds = 0;
  std::vector<std::pair<std::string, double>> parts;  // seconds by component
  u64 bytes_up = 0, bytes_down = 0;
  u64 sent_bytes = 0;      // of the ciphertext that left
  std::string sent_begin;  // its first bytes
};

struct RunEvents {
  std::function<void(const RemoteProgress&)> on_progress;
  std::function<void(const TokenCost&)> on_token;
};

// Where texts run, and with what.
struct EngineFacts {
  std::string server, parameters, security;
  u64 key_bytes = 0;
  double key_seconds = 0;
  bool encoder = false;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual const std::string& model() const = 0;
  virtual EngineFacts facts() const = 0;
};

}  // namespace polyveil::serve
