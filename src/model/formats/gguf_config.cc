// The architecture that a GGUF file's metadata describes. Keys after ggml's docs/gguf.md.
#include <algorithm>
#include <set>

#include "model/formats/architecture.h"
#include "model/formats/gguf.h"

namespace polyveil::model {
namespace {

// Reads "<architecture>.<key>" and remembers what it was asked for; the first error stays.
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
  bool Has(const std::string& key) {
    asked_.insert(prefix_ + key);
    return file_.Has(prefix_ + key);
  }
  bool HasTensor(const char* name) const { return file_.tensors().contains(name); }
  // Only this value is implemented.
  void Require(const std::string& key, bool required) {
    if (Bool(key, required) != required)
      Fail(MakeError(ErrorCode::kMismatch, "gguf: \"{}{}\" is {}, only {} is implemented", prefix_,
                     key, !required, required));
  }
  // Refuses keys that nothing has asked for and that may change the forward pass.
  void RefuseOthers() {
    for (const std::string& key : file_.Keys())
      if (!asked_.contains(key) && !IsIrrelevant(key))
        Fail(MakeError(ErrorCode::kMismatch,
                       "gguf: key \"{}\" is not known: it may change what the file means",
                       key.substr(0, 128)));
  }
  void Fail(Error error) {
    if (status_.ok()) status_ = std::move(error);
  }
  const Status& status() const { return status_; }

 private:
  // Names, licences, how the file was made; the tokenizer's keys are its reader's.
  bool IsIrrelevant(std::string_view key) const {
    for (const char* space : {"general.", "tokenizer.", "quantize.", "training.", "split."})
      if (key.starts_with(space)) return true;
    if (!key.starts_with(prefix_)) return false;
    key.remove_prefix(prefix_.size());
    static const std::set<std::string_view> kKeys = {"tensor_data_layout", "pooling_type",
                                                     "expert_used_count", "rope.scaling.finetuned",
                                                     "rope.scaling.original_context_length"};
    return kKeys.contains(key);
  }

  template <typename T>
  std::optional<T> Get(Result<std::optional<T>> value, const std::string& key, bool optional) {
    asked_.insert(prefix_ + key);
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
  std::set<std::string> asked_;
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

// The factor is scaling.factor, in the first converters' files scale_linear; 0 stands for none, and
// a missing type for "linear" (llama.cpp).
double ReadLinearFactor(Metadata& at) {
  const std::string type = at.Text("rope.scaling.type", "linear");
  const bool typed = at.Has("rope.scaling.type");
  const bool factor = at.Has("rope.scaling.factor"), old = at.Has("rope.scale_linear");
  if (type != "none" && type != "linear")
    at.Fail(MakeError(ErrorCode::kMismatch, "gguf: rope.scaling.type = \"{}\", not none or linear",
                      type.substr(0, 64)));
  if (typed && type == "linear" && !factor && !old) (void)at.Number("rope.scaling.factor");
  if (factor && old && at.Number("rope.scaling.factor") != at.Number("rope.scale_linear"))
    at.Fail(MakeError(ErrorCode::kMismatch,
                      "gguf: rope.scaling.factor = {}, rope.scale_linear = {}",
                      at.Number("rope.scaling.factor"), at.Number("rope.scale_linear")));
  const double value = at.Number(factor ? "rope.scaling.factor" : "rope.scale_linear", 1);
  return type == "none" || value == 0 ? 1 : value;
}

Rotary ReadRotary(Metadata& at, int d_head, RotaryPairs pairs) {
  Rotary rotary;
  rotary.dims = at.Int("rope.dimension_count", d_head);
  rotary.theta = at.Number("rope.freq_base", 10000);
  rotary.pairs = pairs;
  rotary.linear_factor = ReadLinearFactor(at);
  return rotary;
}

// What the files of Llama, Mistral and Qwen2 share.
void ReadGatedDecoder(Metadata& at, RotaryPairs pairs, Architecture& a) {
  a.norm = NormKind::kRmsNorm;
  a.norm_eps = at.Number("attention.layer_norm_rms_epsilon");
  a.activation = Activation::kSilu;
  a.gated = true;
  a.rotary = ReadRotary(at, a.d_head, pairs);
  a.qkv_bias = at.HasTensor("blk.0.attn_q.bias");
  a.out_bias = at.HasTensor("blk.0.attn_output.bias");
  a.ffn_bias = at.HasTensor("blk.0.ffn_up.bias");
  // Behind the window the forward pass would see less than everything: the context ends there.
  a.window = at.Int("attention.sliding_window", 0);
  if (a.window > 0) a.context = std::min(a.context, a.window);
  at.Require("attention.causal", true);
}

void ReadLlama(Metadata& at, Architecture& a) { ReadGatedDecoder(at, RotaryPairs::kAdjacent, a); }

void ReadQwen2(Metadata& at, Architecture& a) { ReadGatedDecoder(at, RotaryPairs::kHalves, a); }

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
  at.Require("attention.causal", false);
  a.embedding_norm = true;
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.head = HeadKind::kNone;
}

struct Family {
  const char* family;
  void (*read)(Metadata&, Architecture&);
};

const Family* FindFamily(const std::string& name) {
  static const std::map<std::string, Family> kFamilies = {{"llama", {"llama", ReadLlama}},
                                                          {"qwen2", {"qwen2", ReadQwen2}},
                                                          {"gpt2", {"gpt2", ReadGpt2}},
                                                          {"gptneox", {"gpt_neox", ReadGptNeox}},
                                                          {"bert", {"bert", ReadBert}}};
  const auto it = kFamilies.find(name);
  return it == kFamilies.end() ? nullptr : &it->second;
}

// That the file is one whole model, in blocks of the layout that is read.
Status CheckGeneral(const GgufFile& file) {
  PV_ASSIGN_OR_RETURN(const auto type, file.Text("general.type"));
  if (type && *type != "model")
    return MakeError(ErrorCode::kMismatch, "gguf: general.type = \"{}\", only \"model\" is read",
                     type->substr(0, 64));
  PV_ASSIGN_OR_RETURN(const auto parts, file.Integer("split.count"));
  if (parts.value_or(0) > 1)
    return MakeError(ErrorCode::kMismatch,
                     "gguf: split.count = {}: one part of a model; gguf-split --merge joins them",
                     *parts);
  PV_ASSIGN_OR_RETURN(const auto version, file.Integer("general.quantization_version"));
  if (version.value_or(2) > 2)
    return MakeError(ErrorCode::kMismatch, "gguf: general.quantization_version = {} > 2", *version);
  return {};
}

int RowsOf(const GgufFile& file, const char* tensor) {
  const auto it = file.tensors().find(tensor);
  if (it == file.tensors().end()) return 0;
  return static_cast<int>(std::min<std::int64_t>(it->second.rows(), 1 << 24));
}

}  // namespace

Result<Architecture> GgufArchitecture(const GgufFile& file) {
  PV_ASSIGN_OR_RETURN(const auto name, file.Text("general.architecture"));
  const Family* family = FindFamily(name.value_or(""));
  if (!family)
    return MakeError(
        ErrorCode::kMismatch,
        "gguf: general.architecture = \"{}\", none of llama, qwen2, gpt2, gptneox, bert",
        name.value_or("").substr(0, 64));
  PV_RETURN_IF_ERROR(CheckGeneral(file));
  Architecture a;
  a.family = family->family;
  Metadata at(file, *name + ".");
  ReadSizes(at, a);
  family->read(at, a);
  a.vocab_size = RowsOf(file, "token_embd.weight");
  a.type_vocab = RowsOf(file, "token_types.weight");
  if (const int vocabulary = at.Int("vocab_size", a.vocab_size); vocabulary != a.vocab_size)
    at.Fail(MakeError(ErrorCode::kMismatch, "gguf: vocab_size = {}, token_embd.weight has {} rows",
                      vocabulary, a.vocab_size));
  at.RefuseOthers();
  PV_RETURN_IF_ERROR(at.status());
  a.tied_head = !at.HasTensor("output.weight");
  PV_ASSIGN_OR_RETURN(const auto begin, file.Integer("tokenizer.ggml.bos_token_id"));
  if (begin && *begin >= 0 && *begin < a.vocab_size) a.begin_token = static_cast<int>(*begin);
  PV_RETURN_IF_ERROR(ValidateArchitecture(a));
  return a;
}

}  // namespace polyveil::model
