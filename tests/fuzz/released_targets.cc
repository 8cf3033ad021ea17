#include "fuzz/released_targets.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "model/client/text/text_tokenizer.h"
#include "model/float32/reference.h"
#include "model/formats/gguf_fixture.h"
#include "model/formats/released_fixture.h"

namespace polyveil::testing {
namespace {

using wire::Bytes;
using wire::ByteView;

std::string_view Text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Bytes FromText(const std::string& text) { return Bytes(text.begin(), text.end()); }

Bytes ReadVector(const std::string& name) {
  std::ifstream in(model::VectorPath(name), std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

nlohmann::json Case(const char* file, const std::string& name) {
  for (const auto& each : model::ReadVectors(file))
    if (each["name"] == name) return each;
  return {};
}

bool ParseSafetensorsTarget(ByteView bytes) { return model::ReadSafetensorsIndex(bytes).ok(); }

bool ParseConfigTarget(ByteView bytes) { return model::ParseHuggingFaceConfig(Text(bytes)).ok(); }

// Beside the byte-level tokenizer, whatever the class says.
bool ParseTokenizerConfigTarget(ByteView bytes) {
  static const std::string tokenizer = Case("tokenizers.json", "gpt2")["tokenizer"].dump();
  const auto loaded = model::TextTokenizer::ParseJson(tokenizer, Text(bytes), "llama");
  if (loaded.ok()) (void)loaded->Encode("It's <s> once caf\u00e9", true);
  return loaded.ok();
}

bool ParseTokenizerTarget(ByteView bytes) {
  const auto tokenizer = model::TextTokenizer::ParseJson(Text(bytes));
  if (tokenizer.ok()) (void)tokenizer->Encode("It's <s> 12 caf\u00e9");
  return tokenizer.ok();
}

// What is accepted must run: the forward pass trusts the checks.
bool ParseGgufTarget(ByteView bytes) {
  const auto file = model::GgufFile::Parse(bytes);
  if (!file.ok()) return false;
  (void)model::TextTokenizer::FromGguf(*file);
  const auto architecture = model::GgufArchitecture(*file);
  if (!architecture.ok()) return false;
  const auto bound =
      model::BindWeights(*architecture, model::GgufNames(*architecture), file->tensors());
  if (!bound.ok()) return false;
  const model::FloatReference reference(*architecture, bound->weights);
  const std::vector<model::TokenId> tokens = {0};
  const model::Sequence sequence{tokens};
  (void)reference.Hidden(std::span(&sequence, 1));
  return true;
}

// A GGUF file of a vocabulary without weights, with the byte-level cut of Qwen2.
Bytes MakeVocabulary() {
  model::GgufModel m;
  m.Set("general.architecture", "qwen2").Set("tokenizer.ggml.model", "gpt2");
  m.Set("tokenizer.ggml.pre", "qwen2").Set("tokenizer.ggml.add_bos_token", true);
  m.Set("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab", "<s>"});
  m.SetNumbers<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 1, 1, 3});
  m.Set("tokenizer.ggml.merges", std::vector<std::string>{"a b"});
  m.Set("tokenizer.ggml.bos_token_id", 3u);
  return m.Bytes();
}

bool ParseVocabularyTarget(ByteView bytes) {
  const auto file = model::GgufFile::Parse(bytes);
  if (!file.ok()) return false;
  const auto tokenizer = model::TextTokenizer::FromGguf(*file);
  if (tokenizer.ok()) (void)tokenizer->Encode("ab <s> 12 caf\u00e9", true);
  return tokenizer.ok();
}

}  // namespace

void AddReleasedTargets(std::vector<FuzzTarget>& targets) {
  const auto safetensors = model::FormatSafetensors(
      {{"x", model::MakeTensor("x", {2, 3})}, {"y", model::MakeTensor("y", {4})}},
      model::ElementType::kF16);
  const auto tokenizer = [](const char* name) {
    return FromText(Case("tokenizers.json", name)["tokenizer"].dump());
  };
  targets.push_back({"safetensors", Bytes(safetensors.begin(), safetensors.end()),
                     ParseSafetensorsTarget, false});
  for (const char* name : {"llama 3", "gpt_neox", "qwen2", "mistral", "opt", "roberta classifier",
                           "distilbert classifier"})
    targets.push_back({std::string("config.json ") + name,
                       FromText(Case("logits.json", name)["config"].dump()), ParseConfigTarget,
                       false});
  targets.push_back({"byte-level tokenizer", tokenizer("llama3"), ParseTokenizerTarget, false});
  targets.push_back({"SentencePiece tokenizer", tokenizer("llama"), ParseTokenizerTarget, false});
  targets.push_back({"WordPiece tokenizer", tokenizer("bert"), ParseTokenizerTarget, false});
  for (const char* name : {"added", "first space"})
    targets.push_back({std::string("tokenizer_config.json ") + name,
                       FromText(Case("tokenizer_configs.json", name)["config"].dump()),
                       ParseTokenizerConfigTarget, false});
  for (const char* name : {"llama", "bert", "qwen2"})
    targets.push_back({std::string("gguf ") + name, ReadVector(std::string(name) + ".gguf"),
                       ParseGgufTarget, false});
  targets.push_back({"gguf blocks", model::BlockLlama().Bytes(), ParseGgufTarget, false});
  targets.push_back({"gguf vocabulary", MakeVocabulary(), ParseVocabularyTarget, false});
}

}  // namespace polyveil::testing
