// How a layer's scores become weights: the one definition that trainer, reference and compiler
// share.
//
//   q, k       head vectors; with qk_norm each divided by its own root mean square, q times a gain
//   z_k      = q . k + shift_h                      1/sqrt(d_head) folded into q
//   u_k      = z_k^p_h / (kappa_h N)                N = keys seen (mean form: length-agnostic) or 1
//   weight_k = u_k r(sum_k u_k)                     r ~ 1/(eps + y); pointwise: r = 1, no division
//
// The max-scaled ("stable") form of training is this function computed by another way; see
// train/attention.h.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "approx/approximant.h"
#include "base/result.h"

namespace polyveil::model {

enum class AttentionKind {
  kPower,            // Power-Softmax: normalised over the keys
  kPointwise,        // a power of each score alone, kappa its learnt scale
  kExponential,      // softmax: exponential by squarings, division
  kNormaliseSquare,  // softmax: Cho et al. 2024
};
const char* AttentionKindName(AttentionKind kind);
Result<AttentionKind> ParseAttentionKind(const std::string& name);

// Roots ~ 1/sqrt(v + norm_eps) of v = mean of squares over the elements of one head.
struct QkNorm {
  approx::Approximant query_root, key_root;
  std::vector<double> gain;  // by head, 1/sqrt(d_head) folded in
};

struct AttentionForm {
  AttentionKind kind = AttentionKind::kPower;
  bool mean = true;
  std::vector<int> powers;  // by head, even; empty: the model's power for every head
  std::optional<QkNorm> qk_norm;
  // kExponential and kNormaliseSquare: e on the scores' interval; r of kExponential, and the roots
  // of kNormaliseSquare's r rounds.
  std::optional<approx::Approximant> exponential;
  int squarings = 0;
  std::vector<approx::Approximant> rounds;

  // N of the definition for a token that sees `keys` keys.
  double KeyCount(int keys) const { return mean ? keys : 1; }
  bool divides() const {
    return kind == AttentionKind::kPower || kind == AttentionKind::kExponential;
  }
  bool approximates_softmax() const {
    return kind == AttentionKind::kExponential || kind == AttentionKind::kNormaliseSquare;
  }
};

// Refuses lists that do not have n_heads entries and powers that are odd or outside 2..12; `where`
// names the layer.
Status Validate(const AttentionForm& form, int n_heads, const std::string& where);

}  // namespace polyveil::model
