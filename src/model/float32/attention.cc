#include "model/float32/attention.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/thread_pool.h"
#include "model/float32/linear.h"

namespace polyveil::model {
namespace {

constexpr int kQueryBlock = 64;

struct QueryBlock {
  const AttentionTask* task;
  int head, first_row, rows;
};

std::vector<QueryBlock> MakeBlocks(const Architecture& a, std::span<const AttentionTask> tasks) {
  std::vector<QueryBlock> blocks;
  for (const AttentionTask& task : tasks)
    for (int head = 0; head < a.n_heads; ++head)
      for (int row = 0; row < task.rows; row += kQueryBlock)
        blocks.push_back({&task, head, row, std::min(kQueryBlock, task.rows - row)});
  return blocks;
}

// exp of the first `seen` scores over their sum; zero behind them.
void Softmax(float* scores, int seen, int width) {
  const float largest = *std::max_element(scores, scores + seen);
  double sum = 0;
  for (int i = 0; i < seen; ++i) {
    scores[i] = std::exp(scores[i] - largest);
    sum += scores[i];
  }
  const auto scale = static_cast<float>(1 / sum);
  for (int i = 0; i < seen; ++i) scores[i] *= scale;
  std::fill(scores + seen, scores + width, 0.0f);
}

// What makes the scores of one head weights; docs/formats/converted-model.md.
struct PowerWeights {
  int power, prefix;
  double shift, kappa, eps;
  bool mean;
  const Approximant* inverse;  // null: exact

  PowerWeights(const ConvertedForms& forms, int layer, int head)
      : prefix(forms.prefix_length()), eps(forms.attention_eps) {
    const LayerConfig& config = forms.layers[static_cast<std::size_t>(layer)];
    const auto h = static_cast<std::size_t>(head);
    power = config.attention.powers.empty() ? forms.power : config.attention.powers[h];
    shift = config.shift[h];
    kappa = config.kappa[h];
    mean = config.attention.mean;
    inverse = forms.stage == FormStage::kPolynomial ? &config.divisor_inverse : nullptr;
  }

  // The first `seen` scores of the row at `position`; zero behind them.
  void Apply(float* scores, int seen, int width, int position) const {
    const double factor = 1 / (kappa * (mean ? seen : 1));
    double sum = 0;
    for (int i = 0; i < seen; ++i) {
      const double z = scores[i] + shift;
      double u = factor;
      for (int e = 0; e < power; e += 2) u *= z * z;
      scores[i] = static_cast<float>(u);
      sum += u;
    }
    const bool exact = !inverse || position < prefix;
    const auto scale = static_cast<float>(exact ? 1 / (eps + sum) : (*inverse)(sum));
    for (int i = 0; i < seen; ++i) scores[i] *= scale;
    std::fill(scores + seen, scores + width, 0.0f);
  }
};

void AttendBlock(const Architecture& a, const QueryBlock& block, const ConvertedForms* forms,
                 int layer, std::vector<float>& scores) {
  const AttentionTask& task = *block.task;
  const QkvColumns columns = ColumnsOf(a);
  const int kv_head = block.head / (a.n_heads / a.n_kv_heads);
  const int first = task.first_position + block.first_row;
  const int keys = a.causal ? first + block.rows : task.rows;
  scores.resize(static_cast<std::size_t>(block.rows) * static_cast<std::size_t>(keys));
  const float* query = task.queries +
                       static_cast<std::size_t>(block.first_row) * task.query_stride +
                       columns.query.first + block.head * columns.query.stride;
  Multiply({block.rows, keys, a.d_head, static_cast<float>(1 / std::sqrt(a.d_head)), query,
            task.query_stride, task.kv.keys + task.kv.key.first + kv_head * task.kv.key.stride,
            task.kv.stride, true, scores.data(), keys});
  std::optional<PowerWeights> power;
  if (forms) power.emplace(*forms, layer, block.head);
  for (int r = 0; r < block.rows; ++r) {
    float* row = scores.data() + static_cast<std::size_t>(r) * keys;
    const int seen = a.causal ? first + r + 1 : keys;
    power ? power->Apply(row, seen, keys, first + r) : Softmax(row, seen, keys);
  }
  float* out = task.out + static_cast<std::size_t>(block.first_row) * task.out_stride +
               block.head * a.d_head;
  Multiply({block.rows, a.d_head, keys, 1, scores.data(), keys,
            task.kv.values + task.kv.value.first + kv_head * task.kv.value.stride, task.kv.stride,
            false, out, task.out_stride});
}

}  // namespace

void KvCache::Truncate(int length, const Architecture& architecture) {
  PV_CHECK(length >= 0 && length <= length_, "truncate {} tokens to {}", length_, length);
  length_ = length;
  const auto values =
      static_cast<std::size_t>(length) * static_cast<std::size_t>(architecture.kv_width());
  for (Layer& layer : layers_) {
    layer.keys.resize(values);
    layer.values.resize(values);
  }
}

void Attend(const Architecture& architecture, std::span<const AttentionTask> tasks,
            const ConvertedForms* forms, int layer) {
  const std::vector<QueryBlock> blocks = MakeBlocks(architecture, tasks);
  ParallelFor(blocks.size(), [&](std::size_t i) {
    thread_local std::vector<float> scores;
    AttendBlock(architecture, blocks[i], forms, layer, scores);
  });
}

}  // namespace polyveil::model
