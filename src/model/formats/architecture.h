// Released transformer architectures as one configuration: GPT-2, GPT-NeoX (Pythia), Llama, Qwen2,
// Mistral, OPT, BERT, RoBERTa and DistilBERT differ in these fields and in nothing else that a
// forward pass asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/block_kinds.h"

namespace polyveil::model {

// Which elements of a head a rotation pairs: (i, i + r/2), or (2 i, 2 i + 1) as Llama's GGUF files
// store them.
enum class RotaryPairs { kHalves, kAdjacent };

// Rotary position embedding of the first `dims` elements of a head.
struct Rotary {
  int dims = 0;
  double theta = 10000;
  RotaryPairs pairs = RotaryPairs::kHalves;
  double linear_factor = 1;  // positions are divided by it
  // Llama 3.1's scaling: low frequencies are divided by `factor`, high ones kept.
  struct Llama3 {
    double factor, low_freq_factor, high_freq_factor;
    int original_context;
  };
  std::optional<Llama3> llama3;
};

// Order of the columns that the query, key and value projections write together.
enum class QkvOrder {
  kBlocks,   // all queries | all keys | all values
  kPerHead,  // of each head: query, key, value (GPT-NeoX); requires n_kv_heads = n_heads
};

enum class HeadKind {
  kNone,        // hidden states only
  kCausalLm,    // logits over the vocabulary
  kClassifier,  // labels from the first token: dense, pooler's function, linear
};

enum class Pooler { kTanh, kRelu };

struct Architecture {
  std::string family;  // model_type of transformers: "gpt2", "llama", ...
  int n_layers = 0, d_model = 0, n_heads = 0, n_kv_heads = 0, d_head = 0, d_ff = 0;
  int vocab_size = 0, context = 0;
  int window = 0;  // tokens that some layer sees at most, 0 for all; context ends there
  NormKind norm = NormKind::kLayerNorm;
  double norm_eps = 0;
  BlockForm form = BlockForm::kPreNorm;
  bool causal = true;
  bool final_norm = true;
  bool embedding_norm = false;
  Activation activation = Activation::kGelu;
  bool gated = false;  // down(activation(gate x) * up x)
  QkvOrder qkv_order = QkvOrder::kBlocks;
  bool qkv_bias = false, out_bias = false, ffn_bias = false;
  std::optional<Rotary> rotary;  // else learnt absolute positions
  int position_offset = 0;       // of the learnt positions (RoBERTa begins behind its padding id)
  std::optional<int> padding_token;  // not counted: it stands at the position of its own id
  int type_vocab = 0;                // segment embeddings
  HeadKind head = HeadKind::kCausalLm;
  bool tied_head = false;
  std::vector<std::string> labels;  // of a classifier
  Pooler pooler = Pooler::kTanh;
  std::optional<int> begin_token;  // that a text without a context is given

  int kv_width() const { return n_kv_heads * d_head; }
  int q_width() const { return n_heads * d_head; }
  int qkv_width() const { return q_width() + 2 * kv_width(); }
};

// Head h's first column inside a row of projections, and the distance to the next head's.
struct HeadColumns {
  int first, stride;
};
struct QkvColumns {
  HeadColumns query, key, value;
};
QkvColumns ColumnsOf(const Architecture& architecture);

// Refuses sizes outside of bounds that no released model exceeds, and combinations that the forward
// pass does not know. Errors: kOutOfRange, kMismatch (field and both values).
Status ValidateArchitecture(const Architecture& architecture);

// Weights of the blocks and of everything, biases and norms included.
std::uint64_t CountParameters(const Architecture& architecture);

// "llama: 30 layers, width 576, 9 heads of 64 (3 for keys and values), ..."
std::string Describe(const Architecture& architecture);

// config.json of Hugging Face's transformers 4 and 5, one model_type for each architecture above.
// Every field is used, on the list of those that never change the forward pass, or refused. Errors:
// kCorrupt, kOutOfRange, kMismatch; the field named.
Result<Architecture> ParseHuggingFaceConfig(std::string_view json);

// The config.json that ParseHuggingFaceConfig reads as this architecture. Errors: kMismatch for
// another family than llama, qwen2 and mistral.
Result<std::string> FormatLlamaConfig(const Architecture& architecture);

}  // namespace polyveil::model
