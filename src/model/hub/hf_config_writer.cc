// config.json of Hugging Face's transformers for an architecture that came from another file.
#include <nlohmann/json.hpp>

#include "model/hub/architecture.h"

namespace polyveil::model::hub {
namespace {

using Json = nlohmann::ordered_json;

void AddRope(const Rotary& rotary, Json& out) {
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
  if (a.family != "llama" || !a.rotary)
    return MakeError(ErrorCode::kMismatch, "{}: config.json is written for llama alone", a.family);
  Json out = {{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
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
              {"attention_bias", a.qkv_bias},
              {"mlp_bias", a.ffn_bias},
              {"tie_word_embeddings", a.tied_head},
              {"torch_dtype", "float32"}};
  if (a.begin_token) out["bos_token_id"] = *a.begin_token;
  AddRope(*a.rotary, out);
  return out.dump(1) + "\n";
}

}  // namespace polyveil::model::hub
