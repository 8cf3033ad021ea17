#include "model/formats/hf_fields.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

namespace polyveil::model {
namespace {

void ReadRopeScaling(const JsonReader& rope, Rotary& rotary) {
  const bool named = rope.Has("rope_type");
  const std::string type = rope.TextOr("rope_type", rope.TextOr("type", "default").c_str());
  if (named && rope.TextOr("type", type.c_str()) != type)
    rope.Fail("type", fmt::format("is \"{}\" beside rope_type \"{}\"", rope.Text("type"), type));
  if (type == "default") return;
  const double factor = rope.Number("factor");
  if (type == "linear") {
    rotary.linear_factor = factor;
    (void)rope.Given("original_max_position_embeddings");  // means nothing to this type
  } else if (type == "llama3") {
    rotary.llama3 = {factor, rope.Number("low_freq_factor"), rope.Number("high_freq_factor"),
                     rope.Int("original_max_position_embeddings")};
  } else {
    rope.Fail("rope_type", fmt::format("\"{}\" is none of default, linear, llama3", type));
  }
}

bool IsOneOf(std::string_view key, std::initializer_list<std::string_view> parts,
             bool (*matches)(std::string_view key, std::string_view part)) {
  return std::any_of(parts.begin(), parts.end(), [&](auto part) { return matches(key, part); });
}

}  // namespace

Activation ReadActivation(const JsonReader& at, const char* key, const char* fallback) {
  static const std::map<std::string, Activation> kNames = {
      {"gelu", Activation::kGelu},          {"gelu_python", Activation::kGelu},
      {"gelu_new", Activation::kGeluTanh},  {"gelu_pytorch_tanh", Activation::kGeluTanh},
      {"gelu_fast", Activation::kGeluTanh}, {"silu", Activation::kSilu},
      {"swish", Activation::kSilu},         {"relu", Activation::kRelu}};
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

void AgreedNumber::Take(const JsonReader& at, const char* key) {
  if (!at.Given(key)) return;
  const double value = at.Number(key);
  if (value_ && *value_ != value)
    at.Fail(key, fmt::format("= {}, but {} = {}", value, key_, *value_));
  value_ = value;
  key_ = key;
}

Rotary ReadRotary(const JsonReader& at, int d_head, const RotaryKeys& keys) {
  AgreedNumber base, part;
  for (const char* key : keys.base) base.Take(at, key);
  for (const char* key : keys.part) part.Take(at, key);
  Rotary rotary;
  const bool both = at.Given("rope_scaling") && at.Given("rope_parameters");
  if (both && *at.Find("rope_scaling") != *at.Find("rope_parameters"))
    at.Fail("rope_scaling", "differs from rope_parameters");
  // rope_scaling of older files, rope_parameters of newer ones.
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    if (!at.Given(key)) continue;
    const JsonReader rope = at.Object(key);
    base.Take(rope, "rope_theta");
    part.Take(rope, "partial_rotary_factor");
    ReadRopeScaling(rope, rotary);
    rope.RefuseOthers([](std::string_view) { return false; });
  }
  rotary.theta = base.value_or(10000);
  const double fraction = part.value_or(keys.default_part);
  if (!(fraction > 0 && fraction <= 1))
    at.Fail("partial_rotary_factor", fmt::format("= {}, not in (0, 1]", fraction));
  rotary.dims = static_cast<int>(d_head * std::clamp(fraction, 0.0, 1.0));
  return rotary;
}

std::optional<int> ReadSlidingWindow(const JsonReader& at, bool used, int fallback) {
  // null says that there is none; no field at all leaves the family's own.
  std::optional<int> window;
  if (!at.Has("sliding_window") && fallback > 0) window = fallback;
  if (at.Given("sliding_window")) window = at.Int("sliding_window");
  (void)at.Has("max_window_layers");  // which layers: the narrowest one counts
  if (at.Given("layer_types")) {
    const JsonReader::Json& types = *at.Find("layer_types");
    used = false;
    for (const JsonReader::Json& type : types) {
      if (type != "full_attention" && type != "sliding_attention")
        at.Fail("layer_types", fmt::format("holds {}, neither full_attention nor sliding_attention",
                                           type.dump().substr(0, 64)));
      used = used || type == "sliding_attention";
    }
    if (used && !window) at.Fail("layer_types", "names sliding_attention without a sliding_window");
  }
  return used ? window : std::nullopt;
}

bool IsIrrelevantField(std::string_view key) {
  // How a file was written, how a model is trained, and how text is drawn from it.
  static const std::set<std::string_view> kNames = {
      "transformers_version", "unsloth_version", "unsloth_fixed", "transformers.js_config",
      "torch_dtype", "dtype", "use_bfloat16", "bf16", "fp16", "fp32", "use_cache", "output_past",
      "gradient_checkpointing", "pretraining_tp", "initializer_range", "init_std", "layerdrop",
      "attn_implementation", "chunk_size_feed_forward", "reorder_and_upcast_attn", "torchscript",
      "return_dict", "output_attentions", "output_hidden_states", "output_scores", "tf_legacy_loss",
      "tie_encoder_decoder", "cross_attention_hidden_size", "finetuning_task", "problem_type",
      "task_specific_params", "tokenizer_class", "model_max_length", "max_sequence_length",
      "is_llama_config", "prefix", "name_or_path", "license", "language", "id2label", "label2id",
      "num_labels", "sinusoidal_pos_embds", "directionality",
      // Drawing of text.
      "do_sample", "early_stopping", "num_beams", "num_beam_groups", "diversity_penalty",
      "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "length_penalty",
      "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
      "num_return_sequences", "return_dict_in_generate", "remove_invalid_values",
      "exponential_decay_length_penalty", "suppress_tokens", "begin_suppress_tokens", "max_length",
      "min_length", "max_new_tokens"};
  const auto begins = [](std::string_view k, std::string_view part) { return k.starts_with(part); };
  const auto ends = [](std::string_view k, std::string_view part) { return k.ends_with(part); };
  return kNames.contains(key) || IsOneOf(key, {"_", "summary_", "pooler_"}, begins) ||
         IsOneOf(key, {"dropout", "dropout_prob", "_pdrop", "_token_id"}, ends);
}

}  // namespace polyveil::model
