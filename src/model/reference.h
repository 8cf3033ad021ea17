// The polynomial model in float64, one token at a time: what the encrypted program must compute.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/block_reference.h"
#include "model/bundle.h"

namespace polyveil::model {

struct HeadTrace;

class ReferenceModel {
 public:
  // bundle is kept by reference and must outlive the model.
  explicit ReferenceModel(const BodyBundle& bundle,
                          Evaluation evaluation = Evaluation::kPolynomial);

  // Forgets the KV cache. Escape counts stay.
  void Reset();

  // One token: x0 is embed[token] + pos[position] (d_model values). Appends to the KV cache and
  // returns the residual after the last block. Requires position = number of tokens so far <
  // context (kOutOfRange otherwise), x0 of d_model values (kMismatch). Cost: O(d_model^2 + position
  // d_model).
  Result<std::vector<double>> StepFromEmbedding(std::span<const double> x0, int position);

  void set_observer(Observer observer) { observer_ = std::move(observer); }
  const std::map<std::string, EscapeCount>& escapes() const { return escapes_; }
  // The site where the first NaN or infinity was read, and at which position; empty when none was.
  const std::string& first_not_finite() const { return first_not_finite_; }
  int position() const { return position_; }
  const ModelConfig& config() const { return bundle_.config; }

 private:
  struct LayerCache {
    std::vector<double> keys, values;  // position x d_model
  };

  void Attention(int layer, std::vector<double>& x);
  void NormaliseHeads(int layer, std::vector<double>& query, std::vector<double>& key);
  void AttendHead(int layer, int head, std::span<const double> query, HeadTrace& trace);
  // The summands u_k of one head, or of normalise-square its weights, from the scores.
  std::vector<double> Summands(int layer, int head, std::span<const double> scores);
  void FeedForward(int layer, std::vector<double>& x);
  double Apply(const char* site, int layer, const Approximant& p, double x, double exact);
  void Observe(int layer, const char* part, const char* what, std::span<const double> values) const;

  const BodyBundle& bundle_;
  Evaluation evaluation_;
  std::vector<LayerCache> cache_;
  int position_ = 0;
  Observer observer_;
  std::map<std::string, EscapeCount> escapes_;
  std::string first_not_finite_;
};

}  // namespace polyveil::model
