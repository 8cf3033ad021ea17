// Tokens that a client could guess before a model is asked for them, and what that would save: a
// pass over K tokens yields those that the model agrees with, and one more (speculative decoding,
// Leviathan et al. 2023, arXiv 2211.17192).
#pragma once

#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "model/client/tokenizer.h"

namespace polyveil::model {

class Drafter {
 public:
  virtual ~Drafter() = default;
  // The token expected behind `text`; a negative one for none.
  virtual TokenId Draft(std::span<const TokenId> text) const = 0;
};

// What stood behind the text's last tokens when they stood there last; most tokens in common first.
class LookupDrafter : public Drafter {
 public:
  explicit LookupDrafter(int shortest = 1) : shortest_(shortest) {}
  TokenId Draft(std::span<const TokenId> text) const override;

 private:
  int shortest_;  // tokens in common, at least
};

// The commonest token behind the last kLongest tokens of other texts; fewer where those are new.
class CountDrafter : public Drafter {
 public:
  static constexpr int kLongest = 5;
  explicit CountDrafter(std::span<const TokenId> texts);
  TokenId Draft(std::span<const TokenId> text) const override;
  std::size_t entries() const { return best_.size(); }

 private:
  std::unordered_map<std::uint64_t, TokenId> best_;  // by the run of tokens before
};

// Looks up in the text first, then counts.
class LookupOrCountDrafter : public Drafter {
 public:
  LookupOrCountDrafter(const Drafter& lookup, const Drafter& counts)
      : lookup_(lookup), counts_(counts) {}
  TokenId Draft(std::span<const TokenId> text) const override;

 private:
  const Drafter &lookup_, &counts_;
};

struct DraftedPasses {
  std::int64_t tokens = 0, passes = 0;
  double tokens_per_pass() const {
    return passes == 0 ? 0 : static_cast<double>(tokens) / static_cast<double>(passes);
  }
  DraftedPasses& operator+=(const DraftedPasses& other);
};

// Passes of `width` tokens, the last known one and width - 1 drafts, that yield text[first..]. The
// kept tokens are those of decoding one by one, whether greedy or sampled. Requires 0 < first and
// 1 <= width.
DraftedPasses CountPasses(std::span<const TokenId> text, std::size_t first, int width,
                          const Drafter& drafter);

}  // namespace polyveil::model
