// config.json of Hugging Face's transformers.
#include <algorithm>

#include "model/formats/hf_fields.h"

namespace polyveil::model {
namespace {

constexpr int kMaxLabelsRead = 1 << 12;

// Shares of labels are a softmax's of their logits: other heads' logits mean something else.
void RequireClasses(const JsonReader& at, std::size_t labels) {
  constexpr const char* kSingleLabel = "single_label_classification";
  if (const std::string type = at.TextOr("problem_type", kSingleLabel); type != kSingleLabel)
    at.Fail("problem_type", fmt::format("\"{}\" is not \"{}\", the only one implemented",
                                        type.substr(0, 64), kSingleLabel));
  if (labels < 2)
    at.Fail(at.Given("id2label") ? "id2label" : "num_labels",
            fmt::format("says {} labels, a classifier has 2 or more: one is a regression's, which "
                        "is not implemented",
                        labels));
}

std::vector<std::string> ReadLabels(const JsonReader& at) {
  std::vector<std::string> labels;
  if (!at.Given("id2label")) {
    for (int i = 0; i < std::min(at.IntOr("num_labels", 2), kMaxLabelsRead); ++i)
      labels.push_back(fmt::format("LABEL_{}", i));
    return labels;
  }
  const JsonReader names = at.Object("id2label");
  for (std::size_t i = 0; i < std::min<std::size_t>(names.json().size(), kMaxLabelsRead); ++i)
    labels.push_back(names.Text(std::to_string(i).c_str()));
  return labels;
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

bool HasPrefix(std::string_view name, std::string_view prefix) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return name.size() >= prefix.size() &&
         std::equal(prefix.begin(), prefix.end(), name.begin(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

std::optional<HeadKind> HeadOfClass(std::string_view part, bool causal) {
  if (part == "Model") return HeadKind::kNone;
  if (causal)
    return part == "ForCausalLM" || part == "LMHeadModel" ? std::optional(HeadKind::kCausalLm)
                                                          : std::nullopt;
  if (part == "ForSequenceClassification") return HeadKind::kClassifier;
  // Of other tasks' encoders the hidden states are read, not the head.
  for (const char* task : {"ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction",
                           "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice"})
    if (part == task) return HeadKind::kNone;
  return std::nullopt;
}

// The class that wrote the file says which head it has.
HeadKind ReadHead(const JsonReader& at, const Architecture& a, const char* class_prefix) {
  const HeadKind usual = a.causal ? HeadKind::kCausalLm : HeadKind::kNone;
  if (!at.Given("architectures")) return usual;
  const JsonReader::Json& names = *at.Find("architectures");
  if (names.is_array() && names.empty()) return usual;
  if (!names.is_array() || !names[0].is_string()) {
    at.Fail("architectures", "is no list of classes");
    return usual;
  }
  const auto name = names[0].get<std::string>();
  const std::size_t prefix = std::string_view(class_prefix).size();
  const auto head =
      HasPrefix(name, class_prefix) ? HeadOfClass(name.substr(prefix), a.causal) : std::nullopt;
  if (!head)
    at.Fail("architectures",
            fmt::format("names \"{}\", whose head or kind is not implemented", name.substr(0, 64)));
  return head.value_or(usual);
}

void RefuseWhatChangesWeights(const JsonReader& at) {
  RequireBool(at, "add_cross_attention", false, false);
  RequireBool(at, "is_encoder_decoder", false, false);
  if (at.Given("pruned_heads") && !at.Find("pruned_heads")->empty())
    at.Fail("pruned_heads", "names heads: pruned models are not implemented");
  if (at.Given("quantization_config"))
    at.Fail(
        "quantization_config",
        "is given: the safetensors hold codes of another library; GGUF has blocks that are read");
  if (at.Given("auto_map")) at.Fail("auto_map", "names code of the folder's own, which is not run");
}

}  // namespace

Result<Architecture> ParseHuggingFaceConfig(std::string_view text) {
  PV_ASSIGN_OR_RETURN(const auto json, ParseStrictJson(text, "config.json"));
  std::string error;
  const JsonReader at(json, "config", error);
  Architecture a;
  a.family = at.Text("model_type");
  const HuggingFaceFamily* family = FindHuggingFaceFamily(a.family);
  if (error.empty() && !family)
    at.Fail("model_type", fmt::format("\"{}\" is none of gpt2, gpt_neox, llama, qwen2, mistral, "
                                      "opt, bert, roberta, distilbert",
                                      a.family.substr(0, 64)));
  if (!error.empty()) return MakeError(ErrorCode::kMismatch, "{}", error);
  a.vocab_size = at.Int("vocab_size");
  family->read(at, a);
  if (a.n_kv_heads == 0) a.n_kv_heads = a.n_heads;
  if (a.d_head == 0 && a.n_heads > 0) {
    if (a.d_model % a.n_heads != 0)
      return MakeError(ErrorCode::kMismatch, "config: width {} is no multiple of {} heads",
                       a.d_model, a.n_heads);
    a.d_head = a.d_model / a.n_heads;
  }
  RefuseWhatChangesWeights(at);
  a.begin_token = ReadBeginToken(at, a);
  a.head = ReadHead(at, a, family->class_prefix);
  if (a.head == HeadKind::kClassifier) {
    a.labels = ReadLabels(at);
    RequireClasses(at, a.labels.size());
  }
  if (a.causal) (void)at.Has("is_decoder");  // every decoder is one
  at.RefuseOthers(IsIrrelevantField);
  if (!error.empty()) return MakeError(ErrorCode::kCorrupt, "{}", error);
  PV_RETURN_IF_ERROR(ValidateArchitecture(a));
  return a;
}

}  // namespace polyveil::model
