#include "eval/drafts.h"

#include <algorithm>

namespace polyveil::model {
namespace {

constexpr std::size_t kLongestLookup = 8;

// Of a run of tokens and its length. A collision costs a wrong draft, nothing more.
std::uint64_t KeyOf(std::span<const TokenId> run) {
  std::uint64_t key = run.size();
  for (const TokenId token : run) {
    key = (key ^ static_cast<std::uint32_t>(token)) * 0x9E3779B97F4A7C15ull;
    key ^= key >> 32;
  }
  return key;
}

std::size_t InCommon(std::span<const TokenId> text, std::size_t end) {
  const std::size_t most = std::min(kLongestLookup, end);
  std::size_t same = 0;
  while (same < most && text[end - 1 - same] == text[text.size() - 1 - same]) ++same;
  return same;
}

}  // namespace

TokenId LookupDrafter::Draft(std::span<const TokenId> text) const {
  std::size_t best = 0, behind = 0;
  for (std::size_t end = text.size() - std::min<std::size_t>(1, text.size()); end > 0; --end) {
    const std::size_t same = InCommon(text, end);
    if (same > best) best = same, behind = end;
    if (best == kLongestLookup) break;
  }
  return best < static_cast<std::size_t>(shortest_) || best == 0 ? -1 : text[behind];
}

CountDrafter::CountDrafter(std::span<const TokenId> texts) {
  for (std::size_t length = 1; length <= kLongest; ++length) {
    std::unordered_map<std::uint64_t, std::unordered_map<TokenId, int>> counts;
    for (std::size_t i = length; i < texts.size(); ++i)
      ++counts[KeyOf(texts.subspan(i - length, length))][texts[i]];
    for (const auto& [key, next] : counts) {
      const auto most =
          std::max_element(next.begin(), next.end(), [](const auto& a, const auto& b) {
            return a.second != b.second ? a.second < b.second : a.first > b.first;
          });
      if (length == 1 || most->second > 1) best_[key] = most->first;
    }
  }
}

TokenId CountDrafter::Draft(std::span<const TokenId> text) const {
  for (std::size_t length = std::min<std::size_t>(kLongest, text.size()); length > 0; --length)
    if (const auto found = best_.find(KeyOf(text.last(length))); found != best_.end())
      return found->second;
  return -1;
}

TokenId LookupOrCountDrafter::Draft(std::span<const TokenId> text) const {
  const TokenId token = lookup_.Draft(text);
  return token >= 0 ? token : counts_.Draft(text);
}

DraftedPasses& DraftedPasses::operator+=(const DraftedPasses& other) {
  tokens += other.tokens;
  passes += other.passes;
  return *this;
}

DraftedPasses CountPasses(std::span<const TokenId> text, std::size_t first, int width,
                          const Drafter& drafter) {
  DraftedPasses counted;
  for (std::size_t known = first; known < text.size(); ++counted.passes) {
    // Drafts that agree are the text itself, so that the text up to a draft is what it is made of.
    std::size_t kept = 0;
    while (kept + 1 < static_cast<std::size_t>(width) && known + kept < text.size() &&
           drafter.Draft(text.first(known + kept)) == text[known + kept])
      ++kept;
    const std::size_t yielded = std::min(kept + 1, text.size() - known);
    known += yielded;
    counted.tokens += static_cast<std::int64_t>(yielded);
  }
  return counted;
}

}  // namespace polyveil::model
