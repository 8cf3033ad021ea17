#include "model/formats/architecture.h"

namespace polyveil::model {
namespace {

// Nothing is allocated from the context of rotary positions; learnt ones are a table.
constexpr int kMaxRotaryContext = 1 << 24, kMaxLearntContext = 1 << 20;

Status InRange(const char* name, int value, int lo, int hi) {
  if (value >= lo && value <= hi) return {};
  return MakeError(ErrorCode::kOutOfRange, "config: {} = {}, not in {}..{}", name, value, lo, hi);
}

Status CheckSizes(const Architecture& a) {
  PV_RETURN_IF_ERROR(InRange("layers", a.n_layers, 1, 512));
  PV_RETURN_IF_ERROR(InRange("width", a.d_model, 1, 1 << 16));
  PV_RETURN_IF_ERROR(InRange("heads", a.n_heads, 1, 1024));
  PV_RETURN_IF_ERROR(InRange("key and value heads", a.n_kv_heads, 1, a.n_heads));
  PV_RETURN_IF_ERROR(InRange("head width", a.d_head, 1, 4096));
  PV_RETURN_IF_ERROR(InRange("feed-forward width", a.d_ff, 1, 1 << 18));
  PV_RETURN_IF_ERROR(InRange("vocabulary", a.vocab_size, 1, 1 << 20));
  PV_RETURN_IF_ERROR(
      InRange("context", a.context, 1, a.rotary ? kMaxRotaryContext : kMaxLearntContext));
  PV_RETURN_IF_ERROR(InRange("segment types", a.type_vocab, 0, 1 << 10));
  PV_RETURN_IF_ERROR(InRange("position offset", a.position_offset, 0, 1 << 10));
  if (a.padding_token)
    PV_RETURN_IF_ERROR(InRange("padding token", *a.padding_token, 0, a.position_offset));
  PV_RETURN_IF_ERROR(InRange("labels", static_cast<int>(a.labels.size()), 0, 1 << 12));
  if (a.n_heads % a.n_kv_heads != 0)
    return MakeError(ErrorCode::kMismatch, "config: {} heads are no multiple of {} for keys",
                     a.n_heads, a.n_kv_heads);
  return {};
}

Status CheckRotary(const Architecture& a) {
  const Rotary& r = *a.rotary;
  PV_RETURN_IF_ERROR(InRange("rotary dimensions", r.dims, 2, a.d_head));
  if (r.dims % 2 != 0)
    return MakeError(ErrorCode::kOutOfRange, "config: {} rotary dimensions are odd", r.dims);
  if (!(r.theta > 1 && r.theta < 1e12))
    return MakeError(ErrorCode::kOutOfRange, "config: rotary base {}, not in (1, 1e12)", r.theta);
  if (!(r.linear_factor >= 1 && r.linear_factor <= 1e4))
    return MakeError(ErrorCode::kOutOfRange, "config: rope factor {}, not in [1, 1e4]",
                     r.linear_factor);
  if (!r.llama3) return {};
  const Rotary::Llama3& s = *r.llama3;
  PV_RETURN_IF_ERROR(InRange("original context", s.original_context, 1, kMaxRotaryContext));
  if (!(s.factor >= 1 && s.factor <= 1e4) || !(s.low_freq_factor > 0) ||
      !(s.high_freq_factor > s.low_freq_factor))
    return MakeError(ErrorCode::kOutOfRange,
                     "config: rope scaling factor {}, low {}, high {}: need 1 <= factor, "
                     "0 < low < high",
                     s.factor, s.low_freq_factor, s.high_freq_factor);
  return {};
}

std::uint64_t NormCount(const Architecture& a) {
  return static_cast<std::uint64_t>(a.d_model) * (a.norm == NormKind::kLayerNorm ? 2 : 1);
}

std::uint64_t LinearCount(int out, int in, bool bias) {
  return static_cast<std::uint64_t>(out) * static_cast<std::uint64_t>(in) + (bias ? out : 0);
}

std::uint64_t LayerCount(const Architecture& a) {
  return 2 * NormCount(a) + LinearCount(a.qkv_width(), a.d_model, a.qkv_bias) +
         LinearCount(a.d_model, a.q_width(), a.out_bias) +
         LinearCount(a.d_ff * (a.gated ? 2 : 1), a.d_model, a.ffn_bias) +
         LinearCount(a.d_model, a.d_ff, a.ffn_bias);
}

const char* ActivationName(Activation activation) {
  switch (activation) {
    case Activation::kGelu:
      return "GELU";
    case Activation::kGeluTanh:
      return "GELU (tanh)";
    case Activation::kSilu:
      return "SiLU";
    case Activation::kRelu:
      return "ReLU";
  }
  return "";
}

std::string HeadText(const Architecture& a) {
  if (a.head == HeadKind::kNone) return "no head";
  if (a.head == HeadKind::kClassifier) return fmt::format("classifier of {}", a.labels.size());
  return a.tied_head ? "tied head" : "head of its own";
}

}  // namespace

Status ValidateArchitecture(const Architecture& a) {
  PV_RETURN_IF_ERROR(CheckSizes(a));
  if (!(a.norm_eps > 0 && a.norm_eps < 1))
    return MakeError(ErrorCode::kOutOfRange, "config: norm epsilon {}, not in (0, 1)", a.norm_eps);
  if (a.rotary) PV_RETURN_IF_ERROR(CheckRotary(a));
  if (a.qkv_order == QkvOrder::kPerHead && a.n_kv_heads != a.n_heads)
    return MakeError(ErrorCode::kMismatch, "config: fused heads need {} key heads, found {}",
                     a.n_heads, a.n_kv_heads);
  if (a.head == HeadKind::kClassifier && a.labels.size() < 2)
    return MakeError(ErrorCode::kOutOfRange, "config: a classifier with {} labels < 2",
                     a.labels.size());
  return {};
}

QkvColumns ColumnsOf(const Architecture& a) {
  const int d = a.d_head;
  if (a.qkv_order == QkvOrder::kPerHead) return {{0, 3 * d}, {d, 3 * d}, {2 * d, 3 * d}};
  return {{0, d}, {a.q_width(), d}, {a.q_width() + a.kv_width(), d}};
}

std::uint64_t CountParameters(const Architecture& a) {
  const auto width = static_cast<std::uint64_t>(a.d_model);
  std::uint64_t count = LayerCount(a) * static_cast<std::uint64_t>(a.n_layers);
  count += width * static_cast<std::uint64_t>(a.vocab_size + a.type_vocab);
  if (!a.rotary) count += width * static_cast<std::uint64_t>(a.context + a.position_offset);
  count += NormCount(a) * ((a.final_norm ? 1 : 0) + (a.embedding_norm ? 1 : 0));
  if (a.head == HeadKind::kCausalLm && !a.tied_head)
    count += LinearCount(a.vocab_size, a.d_model, false);
  if (a.head == HeadKind::kClassifier)
    count += LinearCount(a.d_model, a.d_model, true) +
             LinearCount(static_cast<int>(a.labels.size()), a.d_model, true);
  return count;
}

std::string Describe(const Architecture& a) {
  std::string heads = fmt::format("{} heads of {}", a.n_heads, a.d_head);
  if (a.n_kv_heads != a.n_heads) heads += fmt::format(" ({} for keys and values)", a.n_kv_heads);
  const std::string positions =
      a.rotary ? fmt::format("rotary positions ({} of {}, base {:g}{})", a.rotary->dims, a.d_head,
                             a.rotary->theta, a.rotary->llama3 ? ", Llama 3 scaling" : "")
               : "learnt positions";
  const std::string window = a.window > 0 ? fmt::format(" (window {})", a.window) : "";
  return fmt::format(
      "{}: {} layers, width {}, {}, feed-forward {}{} ({}), {}, {}, {}, vocabulary {}, context "
      "{}{}, {}: {:.1f} M parameters",
      a.family, a.n_layers, a.d_model, heads, a.gated ? "gated " : "", a.d_ff,
      ActivationName(a.activation), a.norm == NormKind::kRmsNorm ? "RMSNorm" : "LayerNorm",
      a.form == BlockForm::kPreNorm    ? "pre-norm"
      : a.form == BlockForm::kParallel ? "parallel residual"
                                       : "post-norm",
      positions, a.vocab_size, a.context, window, HeadText(a),
      static_cast<double>(CountParameters(a)) * 1e-6);
}

}  // namespace polyveil::model
