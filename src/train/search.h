// A search for the inputs that push a polynomial's argument furthest out of its interval.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "train/convert.h"
#include "train/hard_inputs.h"

namespace polyveil::train {

using TokenRow = std::vector<std::int64_t>;

// An end of what a program is made for: a polynomial's interval, or the residual's bound.
struct IntervalEnd {
  std::string site;
  bool high = true;
  double bound = 0;
};
// Low and high of every polynomial, in the model's order; with a bound above 0 those of the
// residuals behind each half of a layer too. Requires model.polynomials.
std::vector<IntervalEnd> IntervalEnds(const Transformer& model, double residual_bound = 0);

// [ends, rows]: the largest ratio by which a value of this row passes the end, below 1 for rows
// that stay inside; infinity for values that are no numbers or have the other sign.
torch::Tensor MeasureEnds(const Transformer& model, const std::vector<IntervalEnd>& ends,
                          const Batch& batch);

// Neighbours of a row by one to three exchanged tokens: half of them those that the gradient of the
// end's value calls the most promising (one forward and one backward pass), half drawn. The first
// `fixed` tokens stay.
std::vector<TokenRow> SwapTokens(const Transformer& model, const TokenRow& row,
                                 const IntervalEnd& end, int count, std::mt19937_64& random,
                                 std::size_t fixed = 1);

struct SearchOptions {
  std::uint64_t seed = 1;
  std::int64_t inputs = 100'000;  // candidates in all
  double swap_share = 0.25;       // of them neighbours of the worst rows so far
  int rows = 64;                  // at a time
  int workers = 1;                // threads with candidates, seeds and finds of their own
  double residual_bound = 0;      // of the bundle, where there is one
  int compare_every = 32;         // one batch of a kind in so many is compared with exact functions
  std::function<void(const std::string&)> progress;
};

struct WorstInput {
  double ratio = 0;  // input over the interval's end (low ends: end over input)
  std::string found_by;
  TokenRow row;
};

struct EndReport {
  IntervalEnd end;
  std::uint64_t inputs_outside = 0;  // candidates with a value beyond this end
  WorstInput worst;
  std::vector<WorstInput> near;  // the worst of other batches that came near, the worst first
};

// Candidates of one kind, and what the polynomials do to their next tokens.
struct KindReport {
  std::int64_t candidates = 0, outside = 0, beyond_tenth = 0;
  double worst = 0;
  OutputChange against_exact;  // a sample, all positions; exact functions, the same weights
};

struct SearchReport {
  std::uint64_t seed = 0;
  std::int64_t candidates = 0, positions = 0;
  std::int64_t outside = 0, beyond_tenth = 0;  // candidates with a value outside; by more than 10%
  double worst_ratio = 0, seconds = 0;
  std::vector<EndReport> ends;
  std::map<std::string, KindReport> kinds;
  // The candidates that left an interval: next tokens against the polynomials with their arguments
  // clamped to the intervals, the function that stays defined.
  OutputChange effect_outside;

  double least_margin() const { return worst_ratio > 0 ? 1 / worst_ratio : 0; }
};

// Every token repeated to the context's end (where what is not swapped has no room for all, as
// many, evenly apart, as half of it has), then the kinds in turn, then swaps. Each worker takes an
// equal share of the inputs. The same options give the same report on one machine.
Result<SearchReport> SearchInputs(const Transformer& model, const HardInputs& inputs,
                                  const SearchOptions& options);

// Writes what was searched into the certificate of the bundle that was searched. The rest of its
// certificate is the exporter's. Errors: kMismatch for a bundle without one; the reader's; kIo.
Status Certify(const std::string& bundle_folder, const SearchReport& report);

// The report as a file; bytes of a text that are no UTF-8 are replaced (the ids stand beside it).
std::string ToJsonText(const SearchReport& report, const RowTokens& tokens);
std::string ToText(const SearchReport& report, const RowTokens& tokens);

}  // namespace polyveil::train
