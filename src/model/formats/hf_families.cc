// What each model_type of transformers means, one reader each.
#include <algorithm>
#include <map>

#include "model/formats/hf_fields.h"

namespace polyveil::model {
namespace {

int HeadWidth(const Architecture& a) { return a.n_heads > 0 ? a.d_model / a.n_heads : 0; }

// Fields that share a name in most files.
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
  const bool old = at.Has("n_ctx") && !at.Has("n_positions");
  a.context = at.Int(old ? "n_ctx" : "n_positions");
  a.norm_eps = at.NumberOr("layer_norm_epsilon", 1e-5);
  a.activation = ReadActivation(at, "activation_function", "gelu_new");
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.tied_head = at.BoolOr("tie_word_embeddings", true);
  RequireBool(at, "scale_attn_weights", true, true);
  RequireBool(at, "scale_attn_by_inverse_layer_idx", false, false);
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
  a.rotary = ReadRotary(
      at, HeadWidth(a),
      {{"rotary_emb_base", "rope_theta"}, {"rotary_pct", "partial_rotary_factor"}, 0.25});
}

// What Llama, Qwen2 and Mistral share.
void ReadGatedDecoder(const JsonReader& at, Architecture& a) {
  ReadCommon(at, a);
  a.d_head = at.IntOr("head_dim", HeadWidth(a));
  a.norm = NormKind::kRmsNorm;
  a.norm_eps = at.NumberOr("rms_norm_eps", 1e-6);
  a.activation = ReadActivation(at, "hidden_act", "silu");
  a.gated = true;
  a.tied_head = at.BoolOr("tie_word_embeddings", false);
  a.rotary = ReadRotary(at, a.d_head, {{"rope_theta"}, {"partial_rotary_factor"}});
  if (a.rotary->dims != a.d_head)
    at.Fail("partial_rotary_factor", "is not 1: this family rotates whole heads");
}

void ReadLlama(const JsonReader& at, Architecture& a) {
  ReadGatedDecoder(at, a);
  a.n_kv_heads = at.IntOr("num_key_value_heads", a.n_heads);
  a.qkv_bias = a.out_bias = at.BoolOr("attention_bias", false);
  a.ffn_bias = at.BoolOr("mlp_bias", false);
  RequireBool(at, "rope_interleaved", false, false);
}

// transformers' own numbers stand where the field is missing, and they fit one released model only.
int RequiredKvHeads(const JsonReader& at, const Architecture& a) {
  return at.Has("num_key_value_heads") ? at.IntOr("num_key_value_heads", a.n_heads)
                                       : at.Int("num_key_value_heads");
}

// Behind the window the forward pass would see less than everything: the context ends there.
void LimitContext(const std::optional<int>& window, Architecture& a) {
  if (!window) return;
  a.window = *window;
  a.context = std::min(a.context, a.window);
}

void ReadQwen2(const JsonReader& at, Architecture& a) {
  ReadGatedDecoder(at, a);
  a.n_kv_heads = RequiredKvHeads(at, a);
  a.qkv_bias = true;
  RequireBool(at, "use_mrope", false, false);
  LimitContext(ReadSlidingWindow(at, at.BoolOr("use_sliding_window", false), 4096), a);
}

void ReadMistral(const JsonReader& at, Architecture& a) {
  ReadGatedDecoder(at, a);
  a.n_kv_heads = RequiredKvHeads(at, a);
  LimitContext(ReadSlidingWindow(at, true, 4096), a);
}

void ReadOpt(const JsonReader& at, Architecture& a) {
  a.n_layers = at.Int("num_hidden_layers");
  a.d_model = at.Int("hidden_size");
  a.n_heads = at.Int("num_attention_heads");
  a.d_ff = at.Int("ffn_dim");
  a.context = at.Int("max_position_embeddings");
  a.position_offset = 2;
  a.norm_eps = 1e-5;
  a.activation = ReadActivation(at, "activation_function", "relu");
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  a.tied_head = at.BoolOr("tie_word_embeddings", true);
  if (const int width = at.IntOr("word_embed_proj_dim", a.d_model); width != a.d_model)
    at.Fail(
        "word_embed_proj_dim",
        fmt::format("= {} beside hidden_size = {}: embeddings of another width need projections "
                    "that are not implemented",
                    width, a.d_model));
  RequireBool(at, "do_layer_norm_before", true, true);
  RequireBool(at, "_remove_final_layer_norm", false, false);
  RequireBool(at, "enable_bias", true, true);
  RequireBool(at, "layer_norm_elementwise_affine", true, true);
}

// What BERT, RoBERTa and DistilBERT share.
void SetEncoder(const JsonReader& at, Architecture& a) {
  a.form = BlockForm::kPostNorm;
  a.causal = a.final_norm = false;
  a.embedding_norm = true;
  a.qkv_bias = a.out_bias = a.ffn_bias = true;
  RequireBool(at, "is_decoder", false, false);
  (void)at.Has("tie_word_embeddings");  // of a head that is not read
}

void ReadBert(const JsonReader& at, Architecture& a) {
  ReadCommon(at, a);
  SetEncoder(at, a);
  a.norm_eps = at.NumberOr("layer_norm_eps", 1e-12);
  a.activation = ReadActivation(at, "hidden_act", "gelu");
  a.type_vocab = at.IntOr("type_vocab_size", 2);
  if (const auto kind = at.TextOr("position_embedding_type", "absolute"); kind != "absolute")
    at.Fail("position_embedding_type", fmt::format("\"{}\" is not \"absolute\"", kind));
}

void ReadRoberta(const JsonReader& at, Architecture& a) {
  ReadBert(at, a);
  a.padding_token = at.IntOr("pad_token_id", 1);
  a.position_offset = *a.padding_token + 1;
  a.context -= a.position_offset;
}

void ReadDistilBert(const JsonReader& at, Architecture& a) {
  a.n_layers = at.Int("n_layers");
  a.d_model = at.Int("dim");
  a.n_heads = at.Int("n_heads");
  a.d_ff = at.Int("hidden_dim");
  a.context = at.Int("max_position_embeddings");
  SetEncoder(at, a);
  (void)at.Has("tie_weights_");
  a.norm_eps = 1e-12;
  a.activation = ReadActivation(at, "activation", "gelu");
  a.pooler = Pooler::kRelu;
}

}  // namespace

const HuggingFaceFamily* FindHuggingFaceFamily(std::string_view model_type) {
  static const std::map<std::string_view, HuggingFaceFamily> kFamilies = {
      {"gpt2", {ReadGpt2, "GPT2"}},
      {"gpt_neox", {ReadGptNeox, "GPTNeoX"}},
      {"llama", {ReadLlama, "Llama"}},
      {"qwen2", {ReadQwen2, "Qwen2"}},
      {"mistral", {ReadMistral, "Mistral"}},
      {"opt", {ReadOpt, "OPT"}},
      {"bert", {ReadBert, "Bert"}},
      {"roberta", {ReadRoberta, "Roberta"}},
      {"distilbert", {ReadDistilBert, "DistilBert"}}};
  const auto it = kFamilies.find(model_type);
  return it == kFamilies.end() ? nullptr : &it->second;
}

}  // namespace polyveil::model
