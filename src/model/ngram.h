// Which row of a table a run of tokens reads: the embedding of n-grams, looked up by the client in
// the clear. docs/formats/model-bundle.md states it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace polyveil::model {

inline constexpr int kSmallestNgram = 2;  // single tokens have a table of their own
inline constexpr int kLargestNgram = 4;
inline constexpr int kMaxNgramRows = 1 << 20;

// "ngram2", "ngram3", ..: the index-th table as files and parameters name it.
inline std::string NgramName(std::size_t index) {
  return "ngram" + std::to_string(static_cast<std::size_t>(kSmallestNgram) + index);
}

// h = n; for every token, oldest first: h = (h xor token) K mod 2^64, h = h xor h / 2^32; the row
// is floor(h mod 2^32 rows / 2^32). K is the odd number next to 2^64 over the golden ratio (Knuth's
// multiplicative hashing). Requires rows in 1 .. 2^31.
inline std::int64_t NgramRow(std::span<const std::int32_t> ngram, std::int64_t rows) {
  std::uint64_t h = ngram.size();
  for (const std::int32_t token : ngram) {
    h = (h ^ static_cast<std::uint32_t>(token)) * 0x9E3779B97F4A7C15ull;
    h ^= h >> 32;
  }
  return static_cast<std::int64_t>((h & 0xFFFFFFFFull) * static_cast<std::uint64_t>(rows) >> 32);
}

}  // namespace polyveil::model
