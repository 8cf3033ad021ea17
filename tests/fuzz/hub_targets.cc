#include "fuzz/hub_targets.h"

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "model/hub/client/text_tokenizer.h"
#include "model/hub/hub_fixture.h"
#include "model/hub/reference.h"

namespace polyveil::testing {
namespace {

namespace hub = model::hub;
using wire::Bytes;
using wire::ByteView;

std::string_view Text(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}
Bytes FromText(const std::string& text) { return Bytes(text.begin(), text.end()); }

Bytes ReadVector(const std::string& name) {
  std::ifstream in(hub::VectorPath(name), std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}

nlohmann::json Case(const char* file, const std::string& name) {
  for (const auto& each : hub::ReadVectors(file))
    if (each["name"] == name) return each;
  return {};
}

bool ParseSafetensorsTarget(ByteView bytes) { return model::ReadSafetensorsIndex(bytes).ok(); }

bool ParseConfigTarget(ByteView bytes) { return hub::ParseHuggingFaceConfig(Text(bytes)).ok(); }

bool ParseTokenizerTarget(ByteView bytes) {
  const auto tokenizer = hub::TextTokenizer::ParseJson(Text(bytes));
  if (tokenizer.ok()) (void)tokenizer->Encode("It's <s> 12 caf\u00e9");
  return tokenizer.ok();
}

// What is accepted must run: the forward pass trusts the checks.
bool ParseGgufTarget(ByteView bytes) {
  const auto file = hub::GgufFile::Parse(bytes);
  if (!file.ok()) return false;
  (void)hub::TextTokenizer::FromGguf(*file);
  const auto architecture = hub::GgufArchitecture(*file);
  if (!architecture.ok()) return false;
  const auto bound =
      hub::BindWeights(*architecture, hub::GgufNames(*architecture), file->tensors());
  if (!bound.ok()) return false;
  const hub::Reference reference(*architecture, bound->weights);
  const std::vector<hub::TokenId> tokens = {0};
  const hub::Sequence sequence{tokens};
  (void)reference.Hidden(std::span(&sequence, 1));
  return true;
}

}  // namespace

void AddHubTargets(std::vector<FuzzTarget>& targets) {
  const auto llama = Case("logits.json", "llama 3");
  const auto safetensors = model::FormatSafetensors(
      {{"x", hub::MakeTensor("x", {2, 3})}, {"y", hub::MakeTensor("y", {4})}},
      model::ElementType::kF16);
  const auto tokenizer = [](const char* name) {
    return FromText(Case("tokenizers.json", name)["tokenizer"].dump());
  };
  targets.push_back({"safetensors", Bytes(safetensors.begin(), safetensors.end()),
                     ParseSafetensorsTarget, false});
  targets.push_back({"config.json", FromText(llama["config"].dump()), ParseConfigTarget, false});
  targets.push_back({"byte-level tokenizer", tokenizer("llama3"), ParseTokenizerTarget, false});
  targets.push_back({"SentencePiece tokenizer", tokenizer("llama"), ParseTokenizerTarget, false});
  targets.push_back({"WordPiece tokenizer", tokenizer("bert"), ParseTokenizerTarget, false});
  targets.push_back({"gguf llama", ReadVector("llama.gguf"), ParseGgufTarget, false});
  targets.push_back({"gguf bert", ReadVector("bert.gguf"), ParseGgufTarget, false});
}

}  // namespace polyveil::testing
