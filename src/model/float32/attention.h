// Attention over the columns that the query, key and value projections wrote.
#pragma once

#include <span>
#include <vector>

#include "model/float32/float_matrix.h"
#include "model/formats/architecture.h"
#include "model/formats/forms.h"

namespace polyveil::model {

// Keys and values of the tokens that a decoder has seen: the same columns as a row of projections
// holds, so that a cached sequence and a fresh one are read alike.
class KvCache {
 public:
  explicit KvCache(const Architecture& architecture)
      : layers_(static_cast<std::size_t>(architecture.n_layers)) {}

  int length() const { return length_; }
  // Forgets everything behind the first `length` tokens. Requires length <= length().
  void Truncate(int length, const Architecture& architecture);

 private:
  friend class FloatReference;
  struct Layer {
    std::vector<float> keys, values;  // [length, kv_width]
  };
  std::vector<Layer> layers_;
  int length_ = 0;
};

// One sequence's view of what it attends to: row i of key and value belongs to position i.
struct KeyValues {
  const float* keys;
  const float* values;
  int stride;  // between positions
  HeadColumns key, value;
};

// One sequence: `rows` queries from position first_position on, out [rows, out_stride].
struct AttentionTask {
  const float* queries;
  int query_stride;
  int rows;
  int first_position;
  KeyValues kv;
  float* out;
  int out_stride;
};

// out head h = softmax(q k^T / sqrt(d_head)) v, query head h reads key head h n_kv_heads / n_heads.
// Causal: a query sees positions up to its own; else rows = all positions. With forms, the weights
// of `layer` in the place of softmax. Parallel over sequences, heads and blocks of queries.
void Attend(const Architecture& architecture, std::span<const AttentionTask> tasks,
            const ConvertedForms* forms = nullptr, int layer = 0);

}  // namespace polyveil::model
