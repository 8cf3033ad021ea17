#include "model/formats/architecture.h"
#include "model/formats/weights.h"

namespace polyveil::model {
namespace {

WeightNames Gpt2Names() {
  WeightNames n;
  n.prefixes = {"transformer."};
  n.token_embedding = "wte";
  n.position_embedding = "wpe";
  n.final_norm = "ln_f";
  n.head = "lm_head";
  n.attention_norm = "h.{}.ln_1";
  n.ffn_norm = "h.{}.ln_2";
  n.qkv = {"h.{}.attn.c_attn"};
  n.out = "h.{}.attn.c_proj";
  n.up = "h.{}.mlp.c_fc";
  n.down = "h.{}.mlp.c_proj";
  n.transposed = true;
  return n;
}

WeightNames GptNeoxNames() {
  WeightNames n;
  n.prefixes = {"gpt_neox."};
  n.token_embedding = "embed_in";
  n.final_norm = "final_layer_norm";
  n.head = "embed_out";
  n.attention_norm = "layers.{}.input_layernorm";
  n.ffn_norm = "layers.{}.post_attention_layernorm";
  n.qkv = {"layers.{}.attention.query_key_value"};
  n.out = "layers.{}.attention.dense";
  n.up = "layers.{}.mlp.dense_h_to_4h";
  n.down = "layers.{}.mlp.dense_4h_to_h";
  return n;
}

WeightNames LlamaNames() {
  WeightNames n;
  n.prefixes = {"model."};
  n.token_embedding = "embed_tokens";
  n.final_norm = "norm";
  n.head = "lm_head";
  n.attention_norm = "layers.{}.input_layernorm";
  n.ffn_norm = "layers.{}.post_attention_layernorm";
  n.qkv = {"layers.{}.self_attn.q_proj", "layers.{}.self_attn.k_proj",
           "layers.{}.self_attn.v_proj"};
  n.out = "layers.{}.self_attn.o_proj";
  n.gate = "layers.{}.mlp.gate_proj";
  n.up = "layers.{}.mlp.up_proj";
  n.down = "layers.{}.mlp.down_proj";
  return n;
}

WeightNames EncoderNames(const std::string& family) {
  WeightNames n;
  n.prefixes = {family + "."};
  n.token_embedding = "embeddings.word_embeddings";
  n.position_embedding = "embeddings.position_embeddings";
  n.type_embedding = "embeddings.token_type_embeddings";
  n.embedding_norm = "embeddings.LayerNorm";
  n.attention_norm = "encoder.layer.{}.attention.output.LayerNorm";
  n.ffn_norm = "encoder.layer.{}.output.LayerNorm";
  n.qkv = {"encoder.layer.{}.attention.self.query", "encoder.layer.{}.attention.self.key",
           "encoder.layer.{}.attention.self.value"};
  n.out = "encoder.layer.{}.attention.output.dense";
  n.up = "encoder.layer.{}.intermediate.dense";
  n.down = "encoder.layer.{}.output.dense";
  n.pooler = family == "bert" ? "pooler.dense" : "classifier.dense";
  n.classifier = family == "bert" ? "classifier" : "classifier.out_proj";
  return n;
}

WeightNames OptNames() {
  WeightNames n;
  n.prefixes = {"model.decoder.", "decoder."};
  n.token_embedding = "embed_tokens";
  n.position_embedding = "embed_positions";
  n.final_norm = "final_layer_norm";
  n.head = "lm_head";
  n.attention_norm = "layers.{}.self_attn_layer_norm";
  n.ffn_norm = "layers.{}.final_layer_norm";
  n.qkv = {"layers.{}.self_attn.q_proj", "layers.{}.self_attn.k_proj",
           "layers.{}.self_attn.v_proj"};
  n.out = "layers.{}.self_attn.out_proj";
  n.up = "layers.{}.fc1";
  n.down = "layers.{}.fc2";
  return n;
}

WeightNames DistilBertNames() {
  WeightNames n;
  n.prefixes = {"distilbert."};
  n.token_embedding = "embeddings.word_embeddings";
  n.position_embedding = "embeddings.position_embeddings";
  n.embedding_norm = "embeddings.LayerNorm";
  n.attention_norm = "transformer.layer.{}.sa_layer_norm";
  n.ffn_norm = "transformer.layer.{}.output_layer_norm";
  n.qkv = {"transformer.layer.{}.attention.q_lin", "transformer.layer.{}.attention.k_lin",
           "transformer.layer.{}.attention.v_lin"};
  n.out = "transformer.layer.{}.attention.out_lin";
  n.up = "transformer.layer.{}.ffn.lin1";
  n.down = "transformer.layer.{}.ffn.lin2";
  n.pooler = "pre_classifier";
  n.classifier = "classifier";
  return n;
}

}  // namespace

WeightNames HuggingFaceNames(const Architecture& a) {
  if (a.family == "gpt2") return Gpt2Names();
  if (a.family == "gpt_neox") return GptNeoxNames();
  if (a.family == "opt") return OptNames();
  if (a.family == "distilbert") return DistilBertNames();
  if (a.family == "bert" || a.family == "roberta") return EncoderNames(a.family);
  return LlamaNames();
}

WeightNames GgufNames(const Architecture& a) {
  WeightNames n;
  const bool post = a.form == BlockForm::kPostNorm;
  n.token_embedding = "token_embd";
  n.position_embedding = "position_embd";
  n.type_embedding = "token_types";
  n.embedding_norm = "token_embd_norm";
  n.final_norm = "output_norm";
  n.head = "output";
  n.attention_norm = post ? "blk.{}.attn_output_norm" : "blk.{}.attn_norm";
  n.ffn_norm = post ? "blk.{}.layer_output_norm" : "blk.{}.ffn_norm";
  if (a.family == "gpt2" || a.family == "gpt_neox") {
    n.qkv = {"blk.{}.attn_qkv"};
  } else {
    n.qkv = {"blk.{}.attn_q", "blk.{}.attn_k", "blk.{}.attn_v"};
  }
  n.out = "blk.{}.attn_output";
  n.gate = "blk.{}.ffn_gate";
  n.up = "blk.{}.ffn_up";
  n.down = "blk.{}.ffn_down";
  return n;
}

}  // namespace polyveil::model
