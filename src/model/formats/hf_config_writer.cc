// config.json of Hugging Face's transformers for an architecture that came from another file.
#include <nlohmann/json.hpp>

#include "model/formats/architecture.h"

namespace polyveil::model {
namespace {

using OrderedJson = nlohmann::ordered_json;

void AddRope(const Rotary& rotary, OrderedJson& out) {
  out["rope_theta"] = rotary.theta;
  if (rotary.llama3) {
    out["rope_scaling"] = {{"rope_type", "llama3"},
                           {"factor", rotary.llama3->factor},
                           {"low_freq_factor", rotary.llama3->low_freq_factor},
                           {"high_freq_factor", rotary.llama3->high_freq_factor},
                           {"original_max_position_embeddings", rotary.llama3->original_context}};
  } else if (rotary.linear_factor != 1) {
    out["rope_scaling"] = {{"rope_type", "linear"}, {"factor", rotary.linear_factor}};
  }
}

}  // namespace

Result<std::string> FormatLlamaConfig(const Architecture& a) {
  const bool llama = a.family == "llama", qwen2 = a.family == "qwen2";
  if (!(llama || qwen2 || a.family == "mistral") || !a.rotary)
    return MakeError(ErrorCode::kMismatch,
                     "{}: config.json is written for llama, qwen2 and mistral alone", a.family);
  if (llama && a.qkv_bias != a.out_bias)
    return MakeError(ErrorCode::kMismatch,
                     "llama: biases on the projections: {}, on the output: {}; one field says both",
                     a.qkv_bias, a.out_bias);
  const char* name = llama ? "LlamaForCausalLM" : qwen2 ? "Qwen2ForCausalLM" : "MistralForCausalLM";
  OrderedJson out = {{"architectures", {name}},
                     {"model_type", a.family},
                     {"num_hidden_layers", a.n_layers},
                     {"hidden_size", a.d_model},
                     {"num_attention_heads", a.n_heads},
                     {"num_key_value_heads", a.n_kv_heads},
                     {"head_dim", a.d_head},
                     {"intermediate_size", a.d_ff},
                     {"vocab_size", a.vocab_size},
                     {"max_position_embeddings", a.context},
                     {"rms_norm_eps", a.norm_eps},
                     {"hidden_act", "silu"},
                     {"tie_word_embeddings", a.tied_head},
                     {"torch_dtype", "float32"}};
  if (llama) {
    out["attention_bias"] = a.qkv_bias;
    out["mlp_bias"] = a.ffn_bias;
  } else {
    out["sliding_window"] = a.window > 0 ? OrderedJson(a.window) : OrderedJson();
    if (qwen2) out["use_sliding_window"] = a.window > 0;
  }
  if (a.begin_token) out["bos_token_id"] = *a.begin_token;
  AddRope(*a.rotary, out);
  return out.dump(1) + "\n";
}

}  // namespace polyveil::model
