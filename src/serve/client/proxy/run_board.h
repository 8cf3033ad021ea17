// What the page shows of texts that run: no word of any.
#pragma once

#include <deque>
#include <mutex>
#include <nlohmann/json_fwd.hpp>

#include "serve/client/proxy/engine.h"

namespace polyveil::serve {

class RunBoard {
 public:
  void Begin();
  void End();
  void Set(const RemoteProgress& progress);
  void Add(const TokenCost& cost);
  nlohmann::json Json(const std::string& model, const EngineFacts& facts) const;

 private:
  static constexpr size_t kTokens = 64;

  mutable std::mutex mutex_;  // guards all
  bool running_ = false;
  RemoteProgress progress_;
  std::deque<TokenCost> tokens_;  // the last ones
  u64 bytes_up_ = 0, bytes_down_ = 0;
};

}  // namespace polyveil::serve
