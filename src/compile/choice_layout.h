// How a choice of a token lies in the slots.
//
// Vocabulary: token v at slot v of `period` slots, which repeat; of more tokens than slots those
//             from period on are the imaginary part.
// Pages:      what the client reads of several tokens' choices, in two ciphertexts: the choice of
//             the token at position p stands in block p mod tokens of slots / tokens slots. Of the
//             first one the first half of a block has the bits of the chosen token, the second
//             half the sum of all tokens' weights + i the sum of their squares (model/choice.h):
//             bits are bootstrapped, sums are not, and may be small. The second one has the
//             residual that the choice was made from, by feature.
// Bits:       a token as numbers, bit i at slot i of a block of `bit_period` slots: 1 where it is
// 0,
//             -1 where it is 1. The token at position p of a prompt stands in block p mod
//             slots / bit_period of its message.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "compile/linear_map.h"
#include "model/choice.h"

namespace polyveil::compile {

// Of a residual's values in a page at least: the client compares them.
inline constexpr int kPageCopies = 8;

struct ChoiceLayout {
  int slots = 0;
  int width = 0;       // period of the features, a power of two
  int vocabulary = 0;  // tokens
  int period = 0;      // of the vocabulary
  int parts = 1;       // 2: the imaginary part too
  int page = 1;        // tokens of a page, a power of two
  int bits = 1;        // of a token
  int bit_period = 2;  // a power of two

  // Errors: kOutOfRange for more tokens than two parts hold (both values).
  static Result<ChoiceLayout> Create(int slots, int width, int vocabulary, int context);
  int block() const { return slots / page; }
  int place(int position) const { return position % page; }
  // -1: no token.
  int TokenAt(int slot, int part) const {
    const int token = slot % period + part * period;
    return token < vocabulary ? token : -1;
  }
  // Errors: kOutOfRange outside the vocabulary.
  Status CheckToken(int token) const;
  int message() const { return slots / bit_period; }  // tokens of a prompt's message
  // Messages of `tokens` tokens from a position on: their number, and the one of a position.
  int MessageAt(int first, int position) const { return position / message() - first / message(); }
  int Messages(int first, int tokens) const { return MessageAt(first, first + tokens - 1) + 1; }
  // The position of a message's first token.
  int MessageBegin(int first, int number) const {
    return number == 0 ? first : (first / message() + number) * message();
  }
};

// The slots of the message of a prompt's tokens that begins with the first of them, which is at
// this position; those of later messages are left out. Errors: kOutOfRange for a token outside the
// vocabulary.
Result<std::vector<Complex>> PackTokenBits(const ChoiceLayout& layout, int position,
                                           std::span<const std::int32_t> tokens);

// What the client reads of one choice.
struct ReadChoice : model::ChosenBits {
  double spread = 0;  // largest distance of a bit's copy from their mean
  // Whether the token can be believed: the choice was decided and nothing else was in its place.
  bool decided() const;
};

// bits: a page's slots. A certainty of 0 where no token's bits are there. Errors: kUntrustedResult
// for values that are not finite.
Result<ReadChoice> UnpackChoice(const ChoiceLayout& layout, std::span<const Complex> bits,
                                int position);

// The residual slots of one token in a page, as a result's: kPageCopies periods and more.
std::vector<Complex> UnpackResidual(const ChoiceLayout& layout, std::span<const Complex> residuals,
                                    int position);

}  // namespace polyveil::compile
