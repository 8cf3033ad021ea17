// The merging loop of byte-pair encoding, shared by every tokenizer.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <tuple>
#include <vector>

#include "model/client/tokenizer.h"

namespace polyveil::model {

// The token that a pair becomes; smaller ranks merge first, equal ones from the left.
struct PairMerge {
  std::int32_t rank;
  TokenId id;
};

// Merges ids in place until no pair can be. find(left, right) returns a const PairMerge* or null.
// A linked list with a heap of candidates: n log n for hostile long pieces too.
template <typename Find>
void MergePairs(std::vector<TokenId>& ids, Find find) {
  const int n = static_cast<int>(ids.size());
  std::vector<int> next(ids.size()), prev(ids.size());
  for (int i = 0; i < n; ++i) next[i] = i + 1, prev[i] = i - 1;
  using Candidate = std::tuple<std::int32_t, int, TokenId, TokenId, TokenId>;  // rank, place, ids
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](int i) {
    if (i < 0 || next[i] >= n) return;
    if (const PairMerge* merge = find(ids[i], ids[next[i]]))
      queue.emplace(merge->rank, i, merge->id, ids[i], ids[next[i]]);
  };
  for (int i = 0; i < n; ++i) offer(i);
  while (!queue.empty()) {
    const auto [rank, i, id, left, right] = queue.top();
    queue.pop();
    if (ids[i] != left || next[i] >= n || ids[next[i]] != right) continue;
    const int gone = next[i];
    ids[i] = id;
    ids[gone] = -1;
    next[i] = next[gone];
    if (next[i] < n) prev[next[i]] = i;
    offer(prev[i]);
    offer(i);
  }
  std::erase(ids, -1);
}

}  // namespace polyveil::model
