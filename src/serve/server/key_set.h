// One client's evaluation keys, from the first request for a place to the last step with them.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/choice_session.h"
#include "serve/server/compute_queue.h"
#include "serve/server/last_use.h"
#include "serve/server/state_folder.h"
#include "serve/server/usage.h"
#include "wire/key_stream.h"

namespace polyveil::serve {

// What all living sets have claimed.
struct KeyBudget {
  std::atomic<u64> bytes{0};
  std::atomic<size_t> sets{0};
};

// One set's part of the budget; given back when the last holder of the set lets go, whoever that
// is.
class KeyClaim {
 public:
  KeyClaim() = default;
  KeyClaim(std::shared_ptr<KeyBudget> budget, u64 bytes)
      : budget_(std::move(budget)), bytes_(bytes) {
    budget_->bytes += bytes_;
    ++budget_->sets;
  }
  KeyClaim(KeyClaim&& other) noexcept { *this = std::move(other); }
  KeyClaim& operator=(KeyClaim&& other) noexcept {
    std::swap(budget_, other.budget_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~KeyClaim() {
    if (!budget_) return;
    budget_->bytes -= bytes_;
    --budget_->sets;
  }
  u64 bytes() const { return bytes_; }

 private:
  std::shared_ptr<KeyBudget> budget_;
  u64 bytes_ = 0;
};

// Its own mutex: a slow upload blocks nobody else.
struct KeySet {
  KeySet(std::string name, const Digest& key, std::string request, std::shared_ptr<Usage> account,
         Charge charge)
      : handle(std::move(name)),
        key_id(key),
        request_id(std::move(request)),
        owner(std::move(account)),
        place(std::move(charge)) {}

  const std::string handle;
  const Digest key_id;
  const std::string request_id;  // of the request that began it; may be empty
  const std::shared_ptr<Usage> owner;
  const Charge place;                // of the owner's key sets
  std::atomic<bool> removed{false};  // no longer in the store
  std::atomic<int> pins{0};          // Pin
  LastUse last_use;

  std::mutex mutex;                             // guards what follows
  KeyClaim claim;                               // from the first chunk on; outlives the keys below
  std::optional<wire::KeyStreamReader> reader;  // from the first chunk on
  u64 next_chunk = 0;
  Charge received;                                              // of the owner's key bytes
  std::shared_ptr<Job> preparation;                             // from the completion on
  std::shared_ptr<const runtime::Engine> engine;                // once prepared
  std::vector<std::shared_ptr<const runtime::Engine>> prompts;  // of the model's programs for them
  std::shared_ptr<const runtime::ChoiceEngines> choice;         // of its choice, or null
  std::unique_ptr<const StoredPart> stored;                     // last: ends before `removed`
};

// While it lives, the set is in use and does not expire.
inline std::shared_ptr<KeySet> Pin(const std::shared_ptr<KeySet>& set) {
  ++set->pins;
  return {set.get(), [set](KeySet*) { --set->pins; }};
}

}  // namespace polyveil::serve
