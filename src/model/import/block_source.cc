#include "model/import/block_source.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/check.h"
#include "base/thread_pool.h"
#include "model/float32/layers.h"
#include "model/formats/checkpoint.h"

namespace polyveil::model {
namespace {

constexpr int kRowsOfTask = 64;

// Output feature of row r of the matrix: heads of d_head features, `stride` apart.
struct RowOrder {
  int first, stride, heads, d_head;
  int rows() const { return heads * d_head; }
  int At(int r) const { return first + r / d_head * stride + r % d_head; }
};

// One projection out of the columns that several write together.
Matrix RowsOf(const Linear& linear, const RowOrder& order) {
  const auto cols = static_cast<std::size_t>(linear.in);
  Matrix m{order.rows(), linear.in, std::vector<double>(cols * order.rows())};
  std::vector<float> all;
  if (linear.transposed) all = DecodeAll(linear.weight);
  const int tasks = (m.rows + kRowsOfTask - 1) / kRowsOfTask;
  ParallelFor(static_cast<std::size_t>(tasks), [&](std::size_t task) {
    std::vector<float> values(cols);
    const int begin = static_cast<int>(task) * kRowsOfTask;
    for (int r = begin; r < std::min(m.rows, begin + kRowsOfTask); ++r) {
      const auto from = static_cast<std::size_t>(order.At(r));
      if (linear.transposed)
        for (std::size_t c = 0; c < cols; ++c) values[c] = all[c * linear.out + from];
      else
        DecodeTile(linear.weight, order.At(r), 1, 0, linear.in, values.data());
      std::copy(values.begin(), values.end(),
                m.values.begin() + static_cast<std::ptrdiff_t>(r * cols));
    }
  });
  return m;
}

Matrix All(const Linear& linear) { return RowsOf(linear, {0, 0, 1, linear.out}); }

std::vector<double> BiasOf(const Linear& linear, int first, int stride, int heads, int d_head) {
  std::vector<double> bias;
  if (linear.bias.empty()) return std::vector<double>(static_cast<std::size_t>(heads) * d_head);
  for (int h = 0; h < heads; ++h)
    for (int e = 0; e < d_head; ++e)
      bias.push_back(linear.bias[static_cast<std::size_t>(first + h * stride + e)]);
  return bias;
}

// W norm(x) + b = (W gain) x / rms + (W bias + b): the gain goes into the columns, the norm's bias
// into the bias.
void FoldNorm(const NormWeights& norm, Matrix& w, std::vector<double>& bias) {
  const auto cols = static_cast<std::size_t>(w.cols);
  ParallelFor(static_cast<std::size_t>(w.rows), [&](std::size_t r) {
    double* row = w.values.data() + r * cols;
    if (!norm.bias.empty())
      for (std::size_t c = 0; c < cols; ++c) bias[r] += row[c] * norm.bias[c];
    for (std::size_t c = 0; c < cols; ++c) row[c] *= norm.gain[c];
  });
}

// Finds query, key or value among the linears that write them.
struct Part {
  const Linear* linear;
  HeadColumns columns;
};

Part FindPart(const LayerWeights& w, HeadColumns columns) {
  for (const Linear& linear : w.qkv) {
    if (columns.first < linear.out) return {&linear, columns};
    columns.first -= linear.out;
  }
  PV_CHECK(false, "column {} behind the projections", columns.first);
}

void LoadQkv(const Architecture& a, const LayerWeights& layer, const NormWeights& norm,
             BlockWeights& w) {
  const QkvColumns columns = ColumnsOf(a);
  const auto load = [&](const HeadColumns& part_columns, int heads, Matrix& m,
                        std::vector<double>& bias) {
    const Part part = FindPart(layer, part_columns);
    m = RowsOf(*part.linear, {part.columns.first, part.columns.stride, heads, a.d_head});
    bias = BiasOf(*part.linear, part.columns.first, part.columns.stride, heads, a.d_head);
    FoldNorm(norm, m, bias);
  };
  load(columns.query, a.n_heads, w.wq, w.bq);
  load(columns.key, a.n_kv_heads, w.wk, w.bk);
  load(columns.value, a.n_kv_heads, w.wv, w.bv);
  const double scale = 1 / std::sqrt(static_cast<double>(a.d_head));
  for (double& v : w.wq.values) v *= scale;
  for (double& v : w.bq) v *= scale;
}

void LoadHidden(const Architecture& a, const LayerWeights& layer, const NormWeights& norm,
                BlockWeights& w) {
  if (a.gated) {
    w.gate = All(layer.gate);
    w.b_gate = BiasOf(layer.gate, 0, 0, 1, a.d_ff);
    FoldNorm(norm, w.gate, w.b_gate);
  }
  w.up = All(layer.up);
  w.b_up = BiasOf(layer.up, 0, 0, 1, a.d_ff);
  FoldNorm(norm, w.up, w.b_up);
}

// What writes to the residual, with its bias.
void LoadWriter(const Linear& linear, bool centred, Matrix& m, std::vector<double>& bias) {
  m = All(linear);
  bias = BiasOf(linear, 0, 0, 1, linear.out);
  if (centred) RemoveMean(m, bias);
}

// The norm's gain of what a post-norm block carries on; its bias stands beside the writer's.
std::vector<double> Carried(const NormWeights& norm, std::vector<double>& bias) {
  std::vector<double> offset(norm.bias.begin(), norm.bias.end());
  RemoveMean(offset);
  for (std::size_t i = 0; i < offset.size(); ++i) bias[i] += offset[i];
  return {norm.gain.begin(), norm.gain.end()};
}

class CheckpointWeights final : public BlockWeightSource {
 public:
  CheckpointWeights(std::shared_ptr<const Checkpoint> checkpoint, const BlockShape& shape,
                    int layer)
      : checkpoint_(std::move(checkpoint)), shape_(shape), layer_(layer) {}

  std::shared_ptr<const BlockWeights> Load(unsigned parts) const override {
    const Architecture& a = checkpoint_->architecture;
    const LayerWeights& from = checkpoint_->weights.layers[static_cast<std::size_t>(layer_)];
    auto w = std::make_shared<BlockWeights>();
    const NormWeights& front = shape_.post_norm ? NormBefore() : from.attention_norm;
    const NormWeights& middle = shape_.post_norm ? from.attention_norm : from.ffn_norm;
    if (parts & kQkvWeights) LoadQkv(a, from, front, *w);
    if (parts & kProjectionWeights) LoadWriter(from.out, shape_.centred, w->wo, w->bo);
    if (parts & kHiddenWeights) LoadHidden(a, from, middle, *w);
    if (parts & kDownWeights) LoadWriter(from.down, shape_.centred, w->down, w->b_down);
    if (shape_.post_norm && parts & kProjectionWeights) w->gain_in = Carried(front, w->bo);
    if (shape_.post_norm && parts & kDownWeights) w->gain_mid = Carried(middle, w->b_down);
    if (!shape_.biases) static_cast<BlockBiases&>(*w) = {};
    return w;
  }

 private:
  // Of post-norm: what the layer reads went through it.
  const NormWeights& NormBefore() const {
    const Weights& w = checkpoint_->weights;
    return layer_ == 0 ? w.embedding_norm : w.layers[static_cast<std::size_t>(layer_) - 1].ffn_norm;
  }

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const BlockShape shape_;
  const int layer_;
};

Result<BlockActivation> ActivationOf(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return BlockActivation::kSilu;
    case Activation::kGelu:
      return BlockActivation::kGelu;
    case Activation::kGeluTanh:
      return BlockActivation::kGeluTanh;
    case Activation::kRelu:
      break;
  }
  return MakeError(ErrorCode::kInvalidArgument,
                   "activation: relu has no smooth polynomial; silu and gelu do");
}

void TakeForms(const ConvertedForms& forms, int layer, Block& block) {
  block.forms = forms.layers[static_cast<std::size_t>(layer)];
  block.shape.power = forms.power;
  block.shape.attention_eps = forms.attention_eps;
}

}  // namespace

Result<BlockShape> ShapeOfBlocks(const Architecture& a) {
  const bool layer_norm = a.norm == NormKind::kLayerNorm;
  const bool post_norm = a.form == BlockForm::kPostNorm;
  if (a.causal == post_norm || (post_norm && (!layer_norm || !a.embedding_norm || a.rotary)))
    return MakeError(ErrorCode::kInvalidArgument,
                     "family: {} is neither a pre-norm decoder nor a post-norm encoder with learnt "
                     "positions and a norm of its embedding: its blocks have no programs",
                     a.family);
  const bool biased = a.qkv_bias || a.out_bias || a.ffn_bias || layer_norm;
  BlockShape shape;
  shape.d_model = a.d_model;
  shape.n_heads = a.n_heads;
  shape.n_kv_heads = a.n_kv_heads;
  shape.d_head = a.d_head;
  shape.d_ff = a.d_ff;
  shape.gated = a.gated;
  shape.parallel = a.form == BlockForm::kParallel;
  shape.causal = a.causal;
  shape.post_norm = post_norm;
  shape.centred = layer_norm;
  shape.biases = biased;
  PV_ASSIGN_OR_RETURN(shape.activation, ActivationOf(a.activation));
  shape.norm_eps = a.norm_eps;
  if (a.rotary) {
    const RotaryTable table(*a.rotary, {});
    shape.rotary.assign(table.frequencies().begin(), table.frequencies().end());
    shape.adjacent_pairs = a.rotary->pairs == RotaryPairs::kAdjacent;
  }
  return shape;
}

Result<Block> MakeBlock(std::shared_ptr<const Checkpoint> checkpoint, int layer) {
  const Architecture& a = checkpoint->architecture;
  if (layer < 0 || layer >= a.n_layers)
    return MakeError(ErrorCode::kOutOfRange, "layer = {} outside 0..{}", layer, a.n_layers - 1);
  Block block;
  PV_ASSIGN_OR_RETURN(block.shape, ShapeOfBlocks(a));
  block.shape.norm_outside = block.shape.post_norm && layer == a.n_layers - 1;
  if (!checkpoint->weights.rotary_factors.empty()) {
    for (std::size_t i = 0; i < block.shape.rotary.size(); ++i)
      block.shape.rotary[i] /= checkpoint->weights.rotary_factors[i];
  }
  if (checkpoint->forms) TakeForms(*checkpoint->forms, layer, block);
  block.weights =
      std::make_shared<const CheckpointWeights>(std::move(checkpoint), block.shape, layer);
  return block;
}

Result<EncoderHead> MakeHead(const Checkpoint& checkpoint) {
  const Architecture& a = checkpoint.architecture;
  if (a.head != HeadKind::kClassifier || a.form != BlockForm::kPostNorm)
    return MakeError(ErrorCode::kInvalidArgument, "head: the model ({}) has no classifier",
                     a.family);
  if (a.pooler != Pooler::kTanh)
    return MakeError(ErrorCode::kInvalidArgument,
                     "head: its pooler is relu, which has no smooth polynomial; tanh does");
  const Weights& w = checkpoint.weights;
  EncoderHead head;
  head.pooler = All(w.pooler);
  head.pooler_bias = BiasOf(w.pooler, 0, 0, 1, w.pooler.out);
  FoldNorm(w.layers.back().ffn_norm, head.pooler, head.pooler_bias);
  head.classifier = All(w.classifier);
  head.classifier_bias = BiasOf(w.classifier, 0, 0, 1, w.classifier.out);
  if (checkpoint.forms && checkpoint.forms->head) head.forms = *checkpoint.forms->head;
  return head;
}

}  // namespace polyveil::model
