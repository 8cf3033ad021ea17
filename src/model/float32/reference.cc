#include "model/float32/reference.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/thread_pool.h"
#include "model/block.h"

namespace polyveil::model {
namespace {

void AddTo(FloatMatrix& x, const FloatMatrix& y) {
  for (std::size_t i = 0; i < x.values.size(); ++i) x.values[i] += y.values[i];
}

int CachedTokens(const Sequence& sequence) { return sequence.cache ? sequence.cache->length() : 0; }

// Calls fn(row, sequence, index inside the sequence) for every token of the batch.
template <typename Fn>
void ForEachToken(std::span<const Sequence> batch, Fn fn) {
  int row = 0;
  for (const Sequence& sequence : batch)
    for (std::size_t i = 0; i < sequence.tokens.size(); ++i)
      fn(row++, sequence, static_cast<int>(i));
}

int CountTokens(std::span<const Sequence> batch) {
  std::size_t rows = 0;
  for (const Sequence& sequence : batch) rows += sequence.tokens.size();
  return static_cast<int>(rows);
}

// Appends the heads' columns of a projected row, head by head.
void AppendHeads(const float* row, const HeadColumns& columns, int heads, int d_head,
                 std::vector<float>& out) {
  for (int h = 0; h < heads; ++h) {
    const float* head = row + columns.first + h * columns.stride;
    out.insert(out.end(), head, head + d_head);
  }
}

}  // namespace

FloatReference::FloatReference(const Checkpoint& checkpoint)
    : FloatReference(checkpoint.architecture, checkpoint.weights,
                     checkpoint.forms ? &*checkpoint.forms : nullptr) {}

FloatReference::FloatReference(const Architecture& architecture, const Weights& weights,
                               const ConvertedForms* forms)
    : a_(architecture), w_(weights), forms_(forms) {
  PV_CHECK(static_cast<int>(weights.layers.size()) == architecture.n_layers,
           "{} layers of weights, {} in the configuration", weights.layers.size(),
           architecture.n_layers);
  if (a_.rotary) rotary_.emplace(*a_.rotary, w_.rotary_factors);
}

Status FloatReference::CheckSequence(const Sequence& s) const {
  if (s.tokens.empty()) return MakeError(ErrorCode::kOutOfRange, "a sequence of 0 tokens < 1");
  if (s.cache && !a_.causal)
    return MakeError(ErrorCode::kInvalidArgument, "{} is an encoder: it has no cache", a_.family);
  if (!s.types.empty() && s.types.size() != s.tokens.size())
    return MakeError(ErrorCode::kMismatch, "{} segments for {} tokens", s.types.size(),
                     s.tokens.size());
  const std::size_t end = static_cast<std::size_t>(CachedTokens(s)) + s.tokens.size();
  if (end > static_cast<std::size_t>(a_.context))
    return MakeError(ErrorCode::kOutOfRange, "{} tokens > context {}", end, a_.context);
  for (const TokenId token : s.tokens)
    if (token < 0 || token >= a_.vocab_size)
      return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                       a_.vocab_size);
  for (std::size_t at = static_cast<std::size_t>(CachedTokens(s));
       forms_ && at < std::min(end, forms_->prefix.size()); ++at) {
    const TokenId token = s.tokens[at - static_cast<std::size_t>(CachedTokens(s))];
    if (token != forms_->prefix[at])
      return MakeError(ErrorCode::kMismatch, "token {} at position {}, the model's prefix has {}",
                       token, at, forms_->prefix[at]);
  }
  for (const TokenId type : s.types)
    if (type < 0 || type >= a_.type_vocab)
      return MakeError(ErrorCode::kOutOfRange, "segment {} outside the {} types", type,
                       a_.type_vocab);
  return {};
}

FloatMatrix FloatReference::Embed(std::span<const Sequence> batch) const {
  FloatMatrix x(CountTokens(batch), a_.d_model);
  int counted = 0;  // tokens of the sequence that have a position of their own
  ForEachToken(batch, [&](int row, const Sequence& s, int i) {
    const auto index = static_cast<std::size_t>(i);
    const TokenId token = s.tokens[index];
    AddRow(w_.token_embedding, token, x.row(row));
    if (i == 0) counted = CachedTokens(s);
    const int position = token == a_.padding_token ? token : counted++ + a_.position_offset;
    if (!a_.rotary) AddRow(w_.position_embedding, position, x.row(row));
    if (a_.type_vocab > 0)
      AddRow(w_.type_embedding, s.types.empty() ? 0 : s.types[index], x.row(row));
  });
  if (a_.embedding_norm) Normalize(a_.norm, a_.norm_eps, w_.embedding_norm, x);
  return x;
}

void FloatReference::Rotate(FloatMatrix& qkv, std::span<const Sequence> batch) const {
  std::vector<int> positions;
  ForEachToken(batch,
               [&](int, const Sequence& s, int i) { positions.push_back(CachedTokens(s) + i); });
  const QkvColumns columns = ColumnsOf(a_);
  ParallelFor(positions.size(), [&](std::size_t r) {
    float* row = qkv.row(static_cast<int>(r)).data();
    rotary_->Rotate(positions[r], row + columns.query.first, a_.n_heads, columns.query.stride);
    rotary_->Rotate(positions[r], row + columns.key.first, a_.n_kv_heads, columns.key.stride);
  });
}

// Without a cache the keys are read where the projections wrote them.
AttentionTask FloatReference::MakeTask(int layer, const Sequence& s, const float* qkv,
                                       float* out) const {
  const QkvColumns columns = ColumnsOf(a_);
  const int rows = static_cast<int>(s.tokens.size()), width = a_.qkv_width();
  AttentionTask task{qkv, width,       rows, 0, {qkv, qkv, width, columns.key, columns.value},
                     out, a_.q_width()};
  if (!s.cache) return task;
  KvCache::Layer& cached = s.cache->layers_[static_cast<std::size_t>(layer)];
  for (int i = 0; i < rows; ++i) {
    const float* row = qkv + static_cast<std::size_t>(i) * static_cast<std::size_t>(width);
    AppendHeads(row, columns.key, a_.n_kv_heads, a_.d_head, cached.keys);
    AppendHeads(row, columns.value, a_.n_kv_heads, a_.d_head, cached.values);
  }
  const HeadColumns packed{0, a_.d_head};
  task.first_position = s.cache->length();
  task.kv = {cached.keys.data(), cached.values.data(), a_.kv_width(), packed, packed};
  return task;
}

FloatMatrix FloatReference::Attention(int layer, const FloatMatrix& x,
                                      std::span<const Sequence> batch) const {
  const LayerWeights& w = w_.layers[static_cast<std::size_t>(layer)];
  FloatMatrix qkv(x.rows, a_.qkv_width());
  int column = 0;
  for (const Linear& linear : w.qkv) {
    Apply(linear, x, qkv, column);
    column += linear.out;
  }
  if (rotary_) Rotate(qkv, batch);
  FloatMatrix heads(x.rows, a_.q_width());
  std::vector<AttentionTask> tasks;
  int row = 0;
  for (const Sequence& s : batch) {
    tasks.push_back(MakeTask(layer, s, qkv.row(row).data(), heads.row(row).data()));
    row += static_cast<int>(s.tokens.size());
  }
  Attend(a_, tasks, forms_, layer);
  return Apply(w.out, heads);
}

const LayerConfig* FloatReference::Polynomials(int layer) const {
  if (!forms_ || forms_->stage != FormStage::kPolynomial) return nullptr;
  return &forms_->layers[static_cast<std::size_t>(layer)];
}

std::vector<bool> FloatReference::PrefixRows(std::span<const Sequence> batch) const {
  std::vector<bool> rows;
  const int prefix = forms_ ? forms_->prefix_length() : 0;
  ForEachToken(
      batch, [&](int, const Sequence& s, int i) { rows.push_back(CachedTokens(s) + i < prefix); });
  return rows;
}

FloatMatrix FloatReference::FeedForward(int layer, const FloatMatrix& x,
                                        std::span<const Sequence> batch) const {
  const LayerWeights& w = w_.layers[static_cast<std::size_t>(layer)];
  FloatMatrix hidden = Apply(a_.gated ? w.gate : w.up, x);
  const LayerConfig* polynomials = Polynomials(layer);
  const std::vector<bool> exact = PrefixRows(batch);
  Activate(a_.activation, hidden, {polynomials ? &*polynomials->activation : nullptr, &exact});
  if (a_.gated) {
    const FloatMatrix up = Apply(w.up, x);
    for (std::size_t i = 0; i < hidden.values.size(); ++i) hidden.values[i] *= up.values[i];
  }
  return Apply(w.down, hidden);
}

void FloatReference::Block(int layer, FloatMatrix& x, std::span<const Sequence> batch) const {
  const LayerWeights& w = w_.layers[static_cast<std::size_t>(layer)];
  const LayerConfig* polynomials = Polynomials(layer);
  const std::vector<bool> exact = PrefixRows(batch);
  const RowPolynomial root1{polynomials ? &polynomials->norm1 : nullptr, &exact};
  const RowPolynomial root2{polynomials ? &polynomials->norm2 : nullptr, &exact};
  const auto normalized = [&](const NormWeights& norm, const RowPolynomial& root) {
    FloatMatrix copy = x;
    Normalize(a_.norm, a_.norm_eps, norm, copy, root);
    return copy;
  };
  switch (a_.form) {
    case BlockForm::kPreNorm:
      AddTo(x, Attention(layer, normalized(w.attention_norm, root1), batch));
      AddTo(x, FeedForward(layer, normalized(w.ffn_norm, root2), batch));
      return;
    case BlockForm::kParallel: {
      const FloatMatrix ffn = FeedForward(layer, normalized(w.ffn_norm, root2), batch);
      AddTo(x, Attention(layer, normalized(w.attention_norm, root1), batch));
      AddTo(x, ffn);
      return;
    }
    case BlockForm::kPostNorm:
      AddTo(x, Attention(layer, x, batch));
      Normalize(a_.norm, a_.norm_eps, w.attention_norm, x, root1);
      AddTo(x, FeedForward(layer, x, batch));
      Normalize(a_.norm, a_.norm_eps, w.ffn_norm, x, root2);
      return;
  }
}

Result<FloatMatrix> FloatReference::Hidden(std::span<const Sequence> batch) const {
  for (const Sequence& s : batch) PV_RETURN_IF_ERROR(CheckSequence(s));
  FloatMatrix x = Embed(batch);
  for (int layer = 0; layer < a_.n_layers; ++layer) Block(layer, x, batch);
  for (const Sequence& s : batch)
    if (s.cache) s.cache->length_ += static_cast<int>(s.tokens.size());
  if (a_.final_norm) Normalize(a_.norm, a_.norm_eps, w_.final_norm, x);
  return x;
}

FloatMatrix FloatReference::Logits(const FloatMatrix& hidden) const {
  PV_CHECK(a_.head == HeadKind::kCausalLm, "{} has no causal head", a_.family);
  return Apply(w_.head, hidden);
}

FloatMatrix FloatReference::LogitsOfResidual(FloatMatrix x) const {
  if (a_.final_norm) Normalize(a_.norm, a_.norm_eps, w_.final_norm, x);
  return Logits(x);
}

Result<FloatMatrix> FloatReference::Classify(std::span<const Sequence> batch) const {
  if (a_.head != HeadKind::kClassifier)
    return MakeError(ErrorCode::kMismatch, "{}: the model has no classifier", a_.family);
  PV_ASSIGN_OR_RETURN(const FloatMatrix hidden, Hidden(batch));
  FloatMatrix first(static_cast<int>(batch.size()), a_.d_model);
  ForEachToken(batch, [&, index = 0](int row, const Sequence&, int i) mutable {
    if (i != 0) return;
    const auto from = hidden.row(row);
    std::copy(from.begin(), from.end(), first.row(index++).begin());
  });
  FloatMatrix pooled = Apply(w_.pooler, first);
  for (float& value : pooled.values)
    value = a_.pooler == Pooler::kTanh ? std::tanh(value) : std::max(value, 0.0f);
  return Apply(w_.classifier, pooled);
}

Result<std::vector<std::vector<double>>> InputsOfLayer(const Checkpoint& checkpoint, int layer,
                                                       std::span<const std::int32_t> tokens) {
  Architecture front = checkpoint.architecture;
  if (layer < 0 || layer > front.n_layers)
    return MakeError(ErrorCode::kOutOfRange, "layer = {} outside 0..{}", layer, front.n_layers);
  Weights weights = checkpoint.weights;
  front.n_layers = layer;
  front.final_norm = false;
  weights.layers.resize(static_cast<std::size_t>(layer));
  if (front.form == BlockForm::kPostNorm) {
    NormWeights& last = layer == 0 ? weights.embedding_norm : weights.layers.back().ffn_norm;
    std::ranges::fill(last.gain, 1.0f);
    std::ranges::fill(last.bias, 0.0f);
  }
  std::optional<ConvertedForms> forms = checkpoint.forms;
  if (forms) forms->layers.resize(static_cast<std::size_t>(layer));
  const FloatReference reference(front, weights, forms ? &*forms : nullptr);
  const Sequence sequence{tokens};
  PV_ASSIGN_OR_RETURN(const FloatMatrix hidden, reference.Hidden(std::span(&sequence, 1)));
  std::vector<std::vector<double>> inputs;
  for (int r = 0; r < hidden.rows; ++r) {
    const auto row = hidden.row(r);
    inputs.emplace_back(row.begin(), row.end());
    if (front.norm == NormKind::kLayerNorm) RemoveMean(inputs.back());
  }
  return inputs;
}

}  // namespace polyveil::model
