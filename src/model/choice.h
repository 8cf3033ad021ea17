// A choice of the next token by polynomials: the last norm, the head, an argmax by sharpening and
// the embedding of what was chosen, as a server evaluates them on ciphertexts
// (docs/decisions/0027-the-server-chooses.md). This is the definition; compile/choice_lowering.h
// lowers it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "approx/approximant.h"
#include "base/csprng.h"
#include "base/result.h"

namespace polyveil::model {

// The client's tables as a choice reads them.
struct ChoiceTables {
  int vocabulary = 0, width = 0;
  double norm_eps = 0;
  // [vocabulary, width]. Of the head with the last norm's gain and without each column's mean, so
  // that logits have mean zero; of the embedding without each row's mean where the model's residual
  // has none.
  std::vector<float> head, embedding;
  std::vector<float> positions;  // [positions, width], those of the prefix first; or empty
  std::vector<double> bias;      // of logits, without its mean; or empty
  std::string digest;            // of head, embedding and positions

  std::span<const float> HeadRow(int token) const { return Row(head, token); }
  std::span<const float> EmbeddingRow(int token) const { return Row(embedding, token); }

 private:
  std::span<const float> Row(const std::vector<float>& table, int row) const {
    const auto columns = static_cast<std::size_t>(width);
    return std::span(table).subspan(static_cast<std::size_t>(row) * columns, columns);
  }
};

// With x = (logit - mean) / deviation: u = ((x + low) / (low + high))^16, then for every round u <-
// (u / |u|)^3. A token's weight is u^4, and the bits of the choice are those of more than half of
// all weight: bit i is the sum of weights, each with the sign of bit i of its token, cleaned up.
struct ChoiceForms {
  approx::Approximant norm;       // mean square of the residual -> 1/sqrt(v + norm_eps)
  double logit_bound = 1;         // of |logit - mean|, noise included
  approx::Approximant deviation;  // variance of the logits -> 1/sqrt(v), from below
  double low = 1, high = 1;
  std::vector<approx::Approximant> rounds;  // sum of squares -> 1/sqrt(s), from below
  int cleanups = 1;                         // of each bit
  double temperature = 0;                   // up to which the intervals were made
  std::uint64_t tokens = 0;                 // that they were made from
  std::string tables;                       // ChoiceTables' digest
};

inline constexpr char kChoiceName[] = "choice.json";  // beside the model's files

// Errors: kCorrupt, kOutOfRange; the field named.
Result<ChoiceForms> ParseChoiceForms(std::string_view json);
std::string FormatChoiceForms(const ChoiceForms& forms);

// What is added to logits so that the largest sum is a draw from the softmax at this temperature:
// temperature times Gumbel noise, without its mean. index: of the draw among the seed's.
std::vector<double> ChoiceNoise(const Seed& seed, std::uint64_t index, int vocabulary,
                                double temperature);

// The logits without their mean, by exact functions. residual: `width` values.
std::vector<double> CentredLogits(const ChoiceTables& tables, std::span<const double> residual);

// 1 for a bit that is not set, -1 for one that is.
inline double TokenBit(int token, int bit) { return (token >> bit) % 2 == 0 ? 1 : -1; }
int TokenBits(int vocabulary);

// What the polynomials make of logits without their mean, by token: at least 0, of sum at most 1.
std::vector<double> ChoiceWeights(const ChoiceForms& forms, std::span<const double> logits);
// The TokenBits of a choice, from -1 to 1.
std::vector<double> ChoiceBits(const ChoiceForms& forms, std::span<const double> weights);

// A bit x nearer to its sign: the polynomial of degree 15 with values of 1 and -1 at both, flat to
// the seventh derivative there and of slope 3.1 at 0, as a series on [-kMostBit, kMostBit].
const approx::Chebyshev& BitCleanup();
inline constexpr double kMostBit = 1.05;
inline constexpr double kBitRoom = 0.9;  // of a bit before the last clean-up: noise stays below 1

// The sum of squares of weights over the square of their sum, which is at most the largest one's
// part of all: above one half that is more than the others have together, so that every bit is its
// token's. Below kDecided a choice is undecided. 0 where the sum is below kLeastWeight: a tie of
// four tokens and more, whose sum of squares the noise of 49,152 slots reaches.
double Certainty(double sum, double sum_of_squares);
inline constexpr double kDecided = 0.505, kLeastWeight = 0.001;
inline constexpr double kRoundedBit = 0.005;  // from 1 and -1, of a decided choice

// What a client reads of a choice.
struct ChosenBits {
  int token = 0;
  double certainty = 0;
  double rounding = 0;  // largest distance of a bit from 1 and -1

  void Add(int bit, double value);
  bool decided() const;
};
ChosenBits Choose(const ChoiceForms& forms, std::span<const double> logits);

struct ChoiceFit {
  int rounds = 3;
  int cleanups = 7;
  double temperature = 1;  // half of the rows have noise up to this one
  double margin = 1.5;     // around intervals, by ratio
  std::uint64_t seed = 1;
};

// Fits a choice to what residuals behind the last block show. Errors: kInvalidArgument for none,
// those of the fits.
Result<ChoiceForms> FitChoice(const ChoiceTables& tables,
                              std::span<const std::vector<double>> residuals,
                              const ChoiceFit& options);

}  // namespace polyveil::model
