// config.json as different versions and savers write it: used, irrelevant or refused by name.
#include <gtest/gtest.h>

#include "model/formats/architecture.h"
#include "model/formats/released_fixture.h"

namespace polyveil::model {
namespace {

using Json = nlohmann::json;

Json Config(const std::string& name) {
  for (const auto& each : ReadVectors("logits.json"))
    if (each["name"] == name) return each["config"];
  return {};
}

std::string ConfigError(const Json& config) {
  const auto parsed = ParseHuggingFaceConfig(config.dump());
  return parsed.ok() ? "" : parsed.error().message;
}

Json With(const Json& config, const Json& changes) {
  Json changed = config;
  changed.update(changes);
  return changed;
}

Json Without(Json config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) config.erase(key);
  return config;
}

void ExpectRefused(const Json& config, std::initializer_list<const char*> parts) {
  const std::string message = ConfigError(config);
  EXPECT_NE(message, "") << config.dump();
  for (const char* part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << message << " lacks " << part;
}

// Both spellings of the rotary fields, and both at once.
TEST(HfConfig, RopeParametersOfTransformers5) {
  const Json old = Config("gpt_neox");  // rotary_pct 0.5
  const std::initializer_list<const char*> fields = {"rotary_pct", "partial_rotary_factor",
                                                     "rotary_emb_base", "rope_theta"};
  const Json parameters = {
      {"rope_type", "default"}, {"rope_theta", 500.0}, {"partial_rotary_factor", 0.5}};
  const Json fresh = With(Without(old, fields), {{"rope_parameters", parameters}});
  const auto a = ParseHuggingFaceConfig(fresh.dump()).value();
  EXPECT_EQ(a.rotary->dims, 2);
  EXPECT_EQ(a.rotary->theta, 500);
  EXPECT_EQ(ParseHuggingFaceConfig(old.dump()).value().rotary->dims, 2);
  // transformers' own quarter leaves one dimension of four.
  ExpectRefused(Without(old, fields), {"rotary dimensions", "1"});
}

TEST(HfConfig, FieldsThatContradictEachOtherAreRefused) {
  const Json neox = Config("gpt_neox"), llama = Config("llama");
  ExpectRefused(With(neox, {{"rope_parameters", {{"partial_rotary_factor", 1.0}}}}),
                {"partial_rotary_factor", "1", "0.5"});
  ExpectRefused(With(llama, {{"rope_theta", 10000.0}, {"rope_parameters", {{"rope_theta", 5e5}}}}),
                {"rope_theta", "500000", "10000"});
  ExpectRefused(With(llama, {{"rope_scaling", {{"rope_type", "linear"}, {"factor", 2.0}}},
                             {"rope_parameters", {{"rope_type", "linear"}, {"factor", 4.0}}}}),
                {"rope_scaling", "rope_parameters"});
  ExpectRefused(With(llama, {{"rope_scaling", {{"rope_type", "linear"}, {"type", "llama3"}}}}),
                {"type", "llama3", "linear"});
}

TEST(HfConfig, UnknownFieldsAreRefusedByName) {
  const Json llama = Config("llama");
  ExpectRefused(With(llama, {{"attention_multiplier", 0.5}}), {"attention_multiplier", "0.5"});
  ExpectRefused(With(llama, {{"sliding_window", 4096}}), {"sliding_window", "4096"});
  ExpectRefused(
      With(llama, {{"rope_scaling",
                    {{"rope_type", "linear"}, {"factor", 2.0}, {"attention_factor", 0.5}}}}),
      {"rope_scaling", "attention_factor"});
  ExpectRefused(With(llama, {{"rope_scaling", {{"factor", 2.0}}}}), {"rope_scaling", "factor"});
  ExpectRefused(With(llama, {{"quantization_config", {{"bits", 4}}}}), {"quantization_config"});
  ExpectRefused(With(llama, {{"auto_map", {{"AutoConfig", "x.Y"}}}}), {"auto_map"});
  ExpectRefused(With(llama, {{"pruned_heads", {{"0", {1}}}}}), {"pruned_heads"});
  ExpectRefused(With(llama, {{"rope_interleaved", true}}), {"rope_interleaved"});
  ExpectRefused(With(llama, {{"partial_rotary_factor", 0.5}}), {"partial_rotary_factor"});
  ExpectRefused(With(Config("bert"), {{"is_decoder", true}}), {"is_decoder"});
  ExpectRefused(With(Config("gpt2"), {{"scale_attn_by_inverse_layer_idx", true}}),
                {"scale_attn_by_inverse_layer_idx"});
}

TEST(HfConfig, FieldsOfWritingTrainingAndDrawingAreIrrelevant) {
  const Json extra = {{"transformers_version", "5.0.0"},
                      {"_name_or_path", "x"},
                      {"dtype", "bfloat16"},
                      {"use_cache", true},
                      {"attention_dropout", 0.1},
                      {"top_k", 50},
                      {"pad_token_id", 0},
                      {"initializer_range", 0.02},
                      {"unsloth_version", "1"},
                      {"chunk_size_feed_forward", 0},
                      {"is_encoder_decoder", false},
                      {"pruned_heads", Json::object()},
                      {"future_field", nullptr}};
  for (const auto& vectors : ReadVectors("logits.json"))
    EXPECT_EQ(ConfigError(With(extra, vectors["config"])), "") << vectors["name"];
}

TEST(HfConfig, TheClassSaysWhichHead) {
  const Json llama = Config("llama"), bert = Config("bert");
  const auto head = [](const Json& config, const char* name) {
    return ParseHuggingFaceConfig(With(config, {{"architectures", {name}}}).dump()).value().head;
  };
  EXPECT_EQ(head(llama, "LlamaForCausalLM"), HeadKind::kCausalLm);
  EXPECT_EQ(head(llama, "LLaMAForCausalLM"), HeadKind::kCausalLm);
  EXPECT_EQ(head(llama, "LlamaModel"), HeadKind::kNone);
  EXPECT_EQ(head(Config("gpt2"), "GPT2LMHeadModel"), HeadKind::kCausalLm);
  EXPECT_EQ(head(bert, "BertForMaskedLM"), HeadKind::kNone);
  EXPECT_EQ(head(bert, "BertForSequenceClassification"), HeadKind::kClassifier);
  ExpectRefused(With(llama, {{"architectures", {"LlamaForSequenceClassification"}}}),
                {"architectures", "LlamaForSequenceClassification"});
  ExpectRefused(With(llama, {{"architectures", {"MistralForCausalLM"}}}), {"MistralForCausalLM"});
  ExpectRefused(With(llama, {{"architectures", "LlamaForCausalLM"}}), {"architectures"});
}

// Of a regression's or several labels' logits a softmax says nothing.
TEST(HfConfig, ClassifiersOfOtherProblemsAreRefused) {
  const Json one = Config("bert classifier"), unnamed = Config("roberta classifier");
  for (const char* type : {"regression", "multi_label_classification"})
    ExpectRefused(With(one, {{"problem_type", type}}), {"config.problem_type", type});
  EXPECT_EQ(ConfigError(With(one, {{"problem_type", "single_label_classification"}})), "");
  EXPECT_EQ(ConfigError(With(one, {{"problem_type", nullptr}})), "");
  EXPECT_EQ(ConfigError(With(Config("bert"), {{"problem_type", "regression"}})), "");  // no head
  Json named = one;
  named["id2label"] = {{"0", "LABEL_0"}};
  ExpectRefused(named, {"config.id2label", "1 labels"});
  named["id2label"] = Json::object();
  ExpectRefused(named, {"config.id2label", "0 labels"});
  ExpectRefused(With(unnamed, {{"num_labels", 1}}), {"config.num_labels", "1 labels"});
}

// Behind a window the model sees less than everything: the context ends there.
TEST(HfConfig, SlidingWindowsEndTheContext) {
  const auto context = [](const Json& config) {
    return ParseHuggingFaceConfig(config.dump()).value().context;
  };
  const Json mistral = With(Config("mistral"), {{"max_position_embeddings", 32768}});
  EXPECT_EQ(context(mistral), 12);
  EXPECT_EQ(context(Without(mistral, {"sliding_window"})), 4096);  // transformers' own
  EXPECT_EQ(context(With(mistral, {{"sliding_window", nullptr}})), 32768);
  const Json qwen2 = With(Config("qwen2"), {{"max_position_embeddings", 32768}});
  EXPECT_EQ(context(With(qwen2, {{"sliding_window", 16}})), 32768);
  EXPECT_EQ(context(With(qwen2, {{"sliding_window", 16}, {"use_sliding_window", true}})), 16);
  const Json layers = {{"sliding_window", 16},
                       {"layer_types", {"full_attention", "sliding_attention"}}};
  EXPECT_EQ(context(With(qwen2, layers)), 16);
  ExpectRefused(With(qwen2, {{"layer_types", {"chunked_attention"}}}),
                {"layer_types", "chunked_attention"});
}

TEST(HfConfig, WhatOptAndDistilBertLackIsNamed) {
  ExpectRefused(With(Config("opt"), {{"word_embed_proj_dim", 8}}),
                {"word_embed_proj_dim", "8", "16"});
  ExpectRefused(With(Config("opt"), {{"do_layer_norm_before", false}}), {"do_layer_norm_before"});
  ExpectRefused(With(Config("opt"), {{"_remove_final_layer_norm", true}}),
                {"_remove_final_layer_norm"});
  EXPECT_EQ(ParseHuggingFaceConfig(Config("distilbert classifier").dump()).value().pooler,
            Pooler::kRelu);
}

// A converted GGUF file's configuration says what the file said.
TEST(HfConfig, WrittenConfigurationsAreReadBack) {
  for (const char* name : {"llama", "llama 3", "llama linear", "qwen2", "mistral"}) {
    SCOPED_TRACE(name);
    const auto a = ParseHuggingFaceConfig(Config(name).dump()).value();
    const auto b = ParseHuggingFaceConfig(FormatLlamaConfig(a).value()).value();
    EXPECT_EQ(Describe(a), Describe(b));
    EXPECT_EQ(a.qkv_bias, b.qkv_bias);
    EXPECT_EQ(a.out_bias, b.out_bias);
    EXPECT_EQ(a.window, b.window);
    EXPECT_EQ(a.rotary->linear_factor, b.rotary->linear_factor);
  }
  EXPECT_FALSE(FormatLlamaConfig(ParseHuggingFaceConfig(Config("gpt2").dump()).value()).ok());
}

}  // namespace
}  // namespace polyveil::model
