#include "serve/client/proxy/run_board.h"

#include <nlohmann/json.hpp>

#include "base/digest.h"

namespace polyveil::serve {

using nlohmann::json;

void RunBoard::Begin() {
  const std::lock_guard lock(mutex_);
  running_ = true;
  progress_ = {0, "encrypting", 0};
}

void RunBoard::End() {
  const std::lock_guard lock(mutex_);
  running_ = false;
}

void RunBoard::Set(const RemoteProgress& progress) {
  const std::lock_guard lock(mutex_);
  progress_ = progress;
}

void RunBoard::Add(const TokenCost& cost) {
  const std::lock_guard lock(mutex_);
  bytes_up_ += cost.bytes_up;
  bytes_down_ += cost.bytes_down;
  if (tokens_.size() == kTokens) tokens_.pop_front();
  tokens_.push_back(cost);
}

json RunBoard::Json(const std::string& model, const EngineFacts& facts) const {
  const std::lock_guard lock(mutex_);
  json tokens = json::array();
  for (const TokenCost& token : tokens_) {
    json parts = json::array();
    for (const auto& [name, seconds] : token.parts) parts.push_back({name, seconds});
    tokens.push_back({{"seconds", token.seconds}, {"parts", parts}});
  }
  const TokenCost last = tokens_.empty() ? TokenCost() : tokens_.back();
  const auto* begin = reinterpret_cast<const std::uint8_t*>(last.sent_begin.data());
  return {{"model", model},
          {"encoder", facts.encoder},
          {"server", facts.server},
          {"parameters", facts.parameters},
          {"security", facts.security},
          {"key_bytes", facts.key_bytes},
          {"key_seconds", facts.key_seconds},
          {"running", running_},
          {"progress",
           {{"done", progress_.done},
            {"operation", progress_.operation},
            {"queued", progress_.queued}}},
          {"tokens", tokens},
          {"bytes_up", bytes_up_},
          {"bytes_down", bytes_down_},
          {"seen", {{"bytes", last.sent_bytes}, {"hex", ToHex({begin, last.sent_begin.size()})}}}};
}

}  // namespace polyveil::serve
