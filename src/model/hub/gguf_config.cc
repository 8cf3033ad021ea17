// The architecture that a GGUF file's metadata describes. Keys after ggml's docs/gguf.md.
#include "model/hub/gguf.h"

namespace polyveil::model::hub {
namespace {

// Reads "<architecture>.<key>"; the first error stays.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  int Int(const std::string& key, std::optional<int> fallback = {}) {
    const auto value = Get(file_.Integer(prefix_ + key), key, fallback.has_value());
    if (!value) return fallback.value_or(0);
    if (*value >= 0 && *value <= 1 << 24) return static_cast<int>(*value);
    Fail(MakeError(ErrorCode::kOutOfRange, "gguf: \"{}{}\" = {} is no count below 2^24", prefix_,
                   key, *value));
    return 0;
  }
  double Number(const std::string& key, std::optional<double> fallback = {}) {
    return Get(file_.Number(prefix_ + key), key, fallback.has_value())
        .value_or(fallback.value_or(0));
  }
  bool Bool(const std::string& key, bool fallback) {
    return Get(file_.Bool(prefix_ + key), key, true).value_or(fallback);
  }
  std::string Text(const std::string& key, const char* fallback) {
    return Get(file_.Text(prefix_ + key), key, true).value_or(fallback);
  }
  bool Has(const std::string& key) const { return file_.Has(prefix_ + key); }
  bool HasTensor(const char* name) const { return file_.tensors().contains(name); }
  void Fail(Error error) {
    if (status_.ok()) status_ = std::move(error);
  }
  const Status& status() const { return status_; }

 private:
  template <typename T>
  std::optional<T> Get(Result<std::optional<T>> value, const std::string& key, bool optional) {
    if (!value.ok()) {
      Fail(value.error());
      return std::nullopt;
    }
    if (!*value && !optional)
      Fail(MakeError(ErrorCode::kNotFound, "gguf: key \"{}{}\" is missing", prefix_, key));
    return *value;
  }

  const GgufFile& file_;
  std::string prefix_;
  Status status_;
};

void ReadSizes(Metadata& at, Architecture& a) {
  a.n_layers = at.Int("block_count");
  a.d_model = at.Int("embedding_length");
  a.n_heads = at.Int("attention.head_count");
  a.n_kv_heads = at.Int("attention.head_count_kv", a.n_heads);
  a.d_ff = at.Int("feed_forward_length");
  a.context = at.Int("context_length");
  a.d_head = at.Int("attention.key_length", a.n_heads > 0 ? a.d_model / a.n_heads : 0);
  if (at.Int("attention.value_length", a.d_head) != a.d_head)
    at.Fail(MakeError(ErrorCode::kMismatch, "gguf: attention.value_length {} != key_length {}",
                      at.Int("attention.value_length", 0), a.d_head));
  if (const int experts = at.Int("expert_count", 0); experts > 0)
    at.Fail(
        MakeError(ErrorCode::kMismatch, "gguf: expert_count = {}, only 0 is implemented", experts));
}

Rotary ReadRotary(Metadata& at, int d_head, RotaryPairs pairs) {
  Rotary rotary;
  rotary.dims = at.Int("rope.dimension_count", d_head);
  rotary.theta = at.Number("rope.freq_base", 10000);
  rotary.pairs = pairs;
  const std::string scaling = at.Text("rope.scaling.type", "none");
  if (scaling == "linear") {
    rotary.linear_factor = at.Number("rope.scaling.factor");
  } else if (scaling != "none") {
    at.Fail(MakeError(ErrorCode::kMismatch, "gguf: rope.scaling.type = \"{}\", not none or linear",
                      scaling));
  }
  return rotary;
}

void ReadLlama(Metadata& at, Architecture& a) {
  a.norm = NormKind::kRmsNorm;
  a.norm_eps = at.Number("attention.layer_norm_rms_epsilon");
  a.activation = Activation::kSilu;
  a.gated = true;
  a.rotary = ReadRotary(at, a.d_head, RotaryPairs::kAdjacent);
  a.qkv_bias = at.HasTensor("blk.0.attn_q.bias");
  a.out_bias = at.HasTensor("blk.0.attn_output.bias");
  a.ffn_bias = at.HasTensor("blk.0.ffn_up.bias");
}

void ReadGpt2(Metadata& at, Architecture& a) {
  a.norm_eps = at.Number("attention.layer_norm_epsilon");
  a.activation = Activation::kGeluTanh;
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
}

// The converter writes all queries, keys and values as blocks; the activation stands in no key, the
// released models' is the exact GELU.
void ReadGptNeox(Metadata& at, Architecture& a) {
  a.norm_eps = at.Number("attention.layer_norm_epsilon");
  a.activation = Activation::kGelu;
  a.form = at.Bool("use_parallel_residual", true) ? BlockForm::kParallel : BlockForm::kPreNorm;
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.rotary = ReadRotary(at, a.d_head, RotaryPairs::kHalves);
}

void ReadBert(Metadata& at, Architecture& a) {
  a.norm_eps = at.Number("attention.layer_norm_epsilon");
  a.activation = Activation::kGelu;
  a.form = BlockForm::kPostNorm;
  a.causal = a.final_norm = false;
  a.embedding_norm = true;
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.head = HeadKind::kNone;
}

}  // namespace

Result<Architecture> GgufArchitecture(const GgufFile& file) {
  PV_ASSIGN_OR_RETURN(const auto name, file.Text("general.architecture"));
  using Read = void (*)(Metadata&, Architecture&);
  struct Family {
    const char* family;
    Read read;
  };
  static const std::map<std::string, Family> kFamilies = {{"llama", {"llama", ReadLlama}},
                                                          {"gpt2", {"gpt2", ReadGpt2}},
                                                          {"gptneox", {"gpt_neox", ReadGptNeox}},
                                                          {"bert", {"bert", ReadBert}}};
  const auto family = kFamilies.find(name.value_or(""));
  if (family == kFamilies.end())
    return MakeError(ErrorCode::kMismatch,
                     "gguf: general.architecture = \"{}\", none of llama, gpt2, gptneox, bert",
                     name.value_or("").substr(0, 64));
  Architecture a;
  a.family = family->second.family;
  Metadata at(file, *name + ".");
  ReadSizes(at, a);
  family->second.read(at, a);
  PV_RETURN_IF_ERROR(at.status());
  const auto rows = [&](const char* tensor) {
    const auto it = file.tensors().find(tensor);
    return it == file.tensors().end()
               ? 0
               : static_cast<int>(std::min<std::int64_t>(it->second.rows(), 1 << 24));
  };
  a.vocab_size = rows("token_embd.weight");
  a.type_vocab = rows("token_types.weight");
  a.tied_head = !at.HasTensor("output.weight");
  PV_ASSIGN_OR_RETURN(const auto begin, file.Integer("tokenizer.ggml.bos_token_id"));
  if (begin && *begin >= 0 && *begin < a.vocab_size) a.begin_token = static_cast<int>(*begin);
  PV_RETURN_IF_ERROR(ValidateArchitecture(a));
  return a;
}

}  // namespace polyveil::model::hub
