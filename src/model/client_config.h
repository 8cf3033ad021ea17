// client.json: everything of the client's half that is no tensor and no tokenizer.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/certificate.h"
#include "model/element_type.h"

namespace polyveil::model {

inline constexpr char kEmbedName[] =
    "embed";  // [vocabulary, width], the head's too where it has none
inline constexpr char kHeadName[] = "head";     // [vocabulary, width]
inline constexpr char kPositionName[] = "pos";  // [context + prefix and more, width]
inline constexpr char kFinalGainName[] = "final_gain", kFinalBiasName[] = "final_bias";
inline constexpr char kEmbeddingGainName[] = "embedding_gain";
inline constexpr char kEmbeddingBiasName[] = "embedding_bias";
inline constexpr char kTypeName[] = "type";  // [segments, width]: of an encoder
// Of a classifier's head: [width, width], [labels, width] and their biases.
inline constexpr char kPoolerName[] = "pooler", kPoolerBiasName[] = "pooler_bias";
inline constexpr char kClassifierName[] = "classifier";
inline constexpr char kClassifierBiasName[] = "classifier_bias";

struct ClientNorm {
  bool subtracts_mean = false;  // LayerNorm; else RMSNorm
  double eps = 0;
};

// A model that reads whole texts and writes none: what it makes of tokens is final_norm's result.
struct ClientEncoder {
  std::vector<std::string> labels;  // of its classifier, 2 or more; empty: it has none
  bool relu_pooler = false;         // else tanh
};

// How a file of the client's half holds numbers: row-major, blocks of quantised types inside rows.
// An I8 tensor NAME stands beside NAME.scale, one factor a row.
struct ClientTensor {
  ElementType type = ElementType::kF32;
  std::vector<std::int64_t> shape;  // one extent or two
};

struct ClientConfig {
  std::string name;
  // Of the server's half (ModelInfo's tensors_sha256); empty: it does not say.
  std::string model_digest;
  // Of a released model ("llama"): which rules its tokenizer follows where its files do not say.
  // Empty: the byte-level tokenizer of our bundles.
  std::string family;
  int width = 0, vocabulary = 0;
  int context = 0;  // tokens that a text may have, the prefix not among them
  // Constant tokens before every text: positions count from the first of them, none is encrypted.
  std::vector<std::int32_t> prefix;
  std::vector<std::int32_t> begin;  // of a text behind them; a released model's tokenizer has more
  std::vector<std::int32_t> ends;   // each ends a text
  int position_offset = 0;          // of the position embedding's rows
  int ngrams = 0;                   // tables for 2, 3, .. tokens
  // Blocks read and write the residual without its mean.
  bool centred = false;
  std::optional<ClientNorm> embedding_norm, final_norm;
  std::optional<ClientEncoder> encoder = {};
  std::map<std::string, ClientTensor> tensors;  // by the name of their file
  std::optional<Certificate> certificate;

  // RoBERTa's: positions do not count it, and it stands at the row of its own id.
  std::optional<std::int32_t> padding_token() const {
    if (family != "roberta" || position_offset == 0) return std::nullopt;
    return position_offset - 1;
  }
};

std::string FormatClientConfig(const ClientConfig& config);

// Refuses missing and unknown fields, sizes outside of bounds that no model exceeds, token ids
// outside the vocabulary. Errors: kCorrupt, kOutOfRange, kMismatch; the field named.
Result<ClientConfig> ParseClientConfig(std::string_view json);

}  // namespace polyveil::model
