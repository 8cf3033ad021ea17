// config.json of Hugging Face's transformers.
#include <algorithm>
#include <map>

#include "model/hub/architecture.h"
#include "model/strict_json.h"

namespace polyveil::model::hub {
namespace {

Activation ReadActivation(const JsonReader& at, const char* key, const char* fallback) {
  static const std::map<std::string, Activation> kNames = {
      {"gelu", Activation::kGelu},          {"gelu_new", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"silu", Activation::kSilu},          {"swish", Activation::kSilu},
      {"relu", Activation::kRelu}};
  const std::string name = at.TextOr(key, fallback);
  const auto it = kNames.find(name);
  if (it != kNames.end()) return it->second;
  at.Fail(key, fmt::format("\"{}\" is no activation that is implemented", name));
  return Activation::kGelu;
}

void RequireBool(const JsonReader& at, const char* key, bool fallback, bool required) {
  if (at.BoolOr(key, fallback) != required)
    at.Fail(key, fmt::format("is {}, only {} is implemented", !required, required));
}

// rope_scaling of older files, rope_parameters of newer ones.
void ReadRopeScaling(const JsonReader& rope, Rotary& rotary) {
  rotary.theta = rope.NumberOr("rope_theta", rotary.theta);
  const std::string type =
      rope.Has("rope_type") ? rope.Text("rope_type") : rope.TextOr("type", "default");
  if (type == "default") return;
  const double factor = rope.Number("factor");
  if (type == "linear") {
    rotary.linear_factor = factor;
  } else if (type == "llama3") {
    rotary.llama3 = {factor, rope.Number("low_freq_factor"), rope.Number("high_freq_factor"),
                     rope.Int("original_max_position_embeddings")};
  } else {
    rope.Fail("rope_type", fmt::format("\"{}\" is none of default, linear, llama3", type));
  }
}

Rotary ReadRotary(const JsonReader& at, int dims, double theta) {
  Rotary rotary;
  rotary.dims = dims;
  rotary.theta = theta;
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (at.Given(key)) ReadRopeScaling(at.Object(key), rotary);
  return rotary;
}

// Fields that share a name in all but GPT-2's files.
void ReadCommon(const JsonReader& at, Architecture& a) {
  a.n_layers = at.Int("num_hidden_layers");
  a.d_model = at.Int("hidden_size");
  a.n_heads = at.Int("num_attention_heads");
  a.d_ff = at.Int("intermediate_size");
  a.context = at.Int("max_position_embeddings");
}

void ReadGpt2(const JsonReader& at, Architecture& a) {
  a.n_layers = at.Int("n_layer");
  a.d_model = at.Int("n_embd");
  a.n_heads = at.Int("n_head");
  a.d_ff = at.IntOr("n_inner", 4 * a.d_model);
  a.context = at.Has("n_positions") ? at.Int("n_positions") : at.Int("n_ctx");
  a.norm_eps = at.NumberOr("layer_norm_epsilon", 1e-5);
  a.activation = ReadActivation(at, "activation_function", "gelu_new");
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.tied_head = at.BoolOr("tie_word_embeddings", true);
  RequireBool(at, "scale_attn_weights", true, true);
  RequireBool(at, "scale_attn_by_inverse_layer_idx", false, false);
  RequireBool(at, "add_cross_attention", false, false);
}

void ReadGptNeox(const JsonReader& at, Architecture& a) {
  ReadCommon(at, a);
  a.norm_eps = at.NumberOr("layer_norm_eps", 1e-5);
  a.activation = ReadActivation(at, "hidden_act", "gelu");
  a.form = at.BoolOr("use_parallel_residual", true) ? BlockForm::kParallel : BlockForm::kPreNorm;
  a.qkv_order = QkvOrder::kPerHead;
  a.qkv_bias = a.out_bias = at.BoolOr("attention_bias", true);
  a.ffn_bias = true;
  a.tied_head = at.BoolOr("tie_word_embeddings", false);
  const int d_head = a.n_heads > 0 ? a.d_model / a.n_heads : 0;
  a.rotary = ReadRotary(at, static_cast<int>(d_head * at.NumberOr("rotary_pct", 0.25)),
                        at.NumberOr("rotary_emb_base", 10000));
}

void ReadLlama(const JsonReader& at, Architecture& a) {
  ReadCommon(at, a);
  a.n_kv_heads = at.IntOr("num_key_value_heads", a.n_heads);
  a.d_head = at.IntOr("head_dim", a.n_heads > 0 ? a.d_model / a.n_heads : 0);
  a.norm = NormKind::kRmsNorm;
  a.norm_eps = at.NumberOr("rms_norm_eps", 1e-6);
  a.activation = ReadActivation(at, "hidden_act", "silu");
  a.gated = true;
  a.qkv_bias = a.out_bias = at.BoolOr("attention_bias", false);
  a.ffn_bias = at.BoolOr("mlp_bias", false);
  a.tied_head = at.BoolOr("tie_word_embeddings", false);
  a.rotary = ReadRotary(at, a.d_head, at.NumberOr("rope_theta", 10000));
  if (at.IntOr("pretraining_tp", 1) > 1 || at.Given("sliding_window"))
    at.Fail("pretraining_tp", "or sliding_window asks for what is not implemented");
}

std::vector<std::string> ReadLabels(const JsonReader& at) {
  std::vector<std::string> labels;
  if (!at.Given("id2label")) {
    for (int i = 0; i < std::min(at.IntOr("num_labels", 2), 1 << 12); ++i)
      labels.push_back(fmt::format("LABEL_{}", i));
    return labels;
  }
  const JsonReader names = at.Object("id2label");
  for (std::size_t i = 0; i < std::min<std::size_t>(names.json().size(), 1 << 12); ++i)
    labels.push_back(names.Text(std::to_string(i).c_str()));
  return labels;
}

void ReadEncoder(const JsonReader& at, Architecture& a) {
  ReadCommon(at, a);
  a.norm_eps = at.NumberOr("layer_norm_eps", 1e-12);
  a.activation = ReadActivation(at, "hidden_act", "gelu");
  a.form = BlockForm::kPostNorm;
  a.causal = a.final_norm = false;
  a.embedding_norm = true;
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.type_vocab = at.IntOr("type_vocab_size", 2);
  if (const auto kind = at.TextOr("position_embedding_type", "absolute"); kind != "absolute")
    at.Fail("position_embedding_type", fmt::format("\"{}\" is not \"absolute\"", kind));
  RequireBool(at, "is_decoder", false, false);
  if (a.family == "roberta") {
    a.position_offset = at.IntOr("pad_token_id", 1) + 1;
    a.context -= a.position_offset;
  }
}

// Newer files may list several tokens that end a text.
std::optional<int> ReadBeginToken(const JsonReader& at, const Architecture& a) {
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    if (!at.Given(key) || !at.Find(key)->is_number()) continue;
    const int token = at.Int(key);
    if (token < a.vocab_size) return token;
  }
  return std::nullopt;
}

// The class that wrote the file says which head it has.
HeadKind ReadHead(const JsonReader& at, const Architecture& a) {
  std::string name;
  if (const auto it = at.json().find("architectures");
      it != at.json().end() && it->is_array() && !it->empty() && (*it)[0].is_string())
    name = (*it)[0].get<std::string>();
  if (name.ends_with("ForSequenceClassification")) {
    if (a.causal) at.Fail("architectures", "asks for a classifier on a decoder");
    return HeadKind::kClassifier;
  }
  return a.causal ? HeadKind::kCausalLm : HeadKind::kNone;
}

}  // namespace

Result<Architecture> ParseHuggingFaceConfig(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(text, "config.json"));
  std::string error;
  const JsonReader at(json, "config", error);
  using Read = void (*)(const JsonReader&, Architecture&);
  static const std::map<std::string, Read> kFamilies = {{"gpt2", ReadGpt2},
                                                        {"gpt_neox", ReadGptNeox},
                                                        {"llama", ReadLlama},
                                                        {"bert", ReadEncoder},
                                                        {"roberta", ReadEncoder}};
  Architecture a;
  a.family = at.Text("model_type");
  const auto read = kFamilies.find(a.family);
  if (error.empty() && read == kFamilies.end())
    at.Fail("model_type",
            fmt::format("\"{}\" is none of gpt2, gpt_neox, llama, bert, roberta", a.family));
  if (!error.empty()) return MakeError(ErrorCode::kMismatch, "{}", error);
  a.vocab_size = at.Int("vocab_size");
  read->second(at, a);
  if (a.n_kv_heads == 0) a.n_kv_heads = a.n_heads;
  if (a.d_head == 0 && a.n_heads > 0) {
    if (a.d_model % a.n_heads != 0)
      return MakeError(ErrorCode::kMismatch, "config: width {} is no multiple of {} heads",
                       a.d_model, a.n_heads);
    a.d_head = a.d_model / a.n_heads;
  }
  a.begin_token = ReadBeginToken(at, a);
  a.head = ReadHead(at, a);
  if (a.head == HeadKind::kClassifier) a.labels = ReadLabels(at);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  PV_RETURN_IF_ERROR(ValidateArchitecture(a));
  return a;
}

}  // namespace polyveil::model::hub
