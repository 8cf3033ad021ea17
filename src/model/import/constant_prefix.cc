#include "model/import/constant_prefix.h"

#include <cmath>
#include <numeric>

#include "model/block_reference.h"
#include "model/formats/checkpoint.h"

namespace polyveil::model {
namespace {

using TokenVectors = std::vector<std::vector<double>>;

Status CheckToken(const Architecture& a, std::int32_t token) {
  if (token >= 0 && token < a.vocab_size) return {};
  return MakeError(ErrorCode::kOutOfRange, "token {} outside the vocabulary of {}", token,
                   a.vocab_size);
}

Block WithoutPrefix(const Block& block) {
  Block plain = block;
  plain.prefix_keys.clear();
  plain.prefix_values.clear();
  return plain;
}

// By the norm of the embedding, whose gain and bias the first block has.
void Normalise(double eps, std::vector<double>& x) {
  const double squares = std::inner_product(x.begin(), x.end(), x.begin(), 0.0);
  const double root = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  for (double& value : x) value *= root;
}

}  // namespace

Result<TokenVectors> EmbedTokens(const Checkpoint& checkpoint,
                                 std::span<const std::int32_t> tokens) {
  const Architecture& a = checkpoint.architecture;
  const Weights& w = checkpoint.weights;
  if (tokens.size() > static_cast<std::size_t>(a.context))
    return MakeError(ErrorCode::kOutOfRange, "{} tokens > context {}", tokens.size(), a.context);
  TokenVectors embedded;
  std::int64_t counted = a.position_offset;  // the next token's position that is no padding
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    PV_RETURN_IF_ERROR(CheckToken(a, tokens[i]));
    std::vector<float> x(static_cast<std::size_t>(a.d_model));
    AddRow(w.token_embedding, tokens[i], x);
    const bool padding = tokens[i] == a.padding_token;
    if (!a.rotary) AddRow(w.position_embedding, padding ? tokens[i] : counted++, x);
    if (a.type_vocab > 0) AddRow(w.type_embedding, 0, x);
    std::vector<double>& values = embedded.emplace_back(x.begin(), x.end());
    if (a.norm == NormKind::kLayerNorm) RemoveMean(values);
    if (a.form == BlockForm::kPostNorm) Normalise(a.norm_eps, values);
  }
  return embedded;
}

Status SetPrefix(Block& block, const TokenVectors& inputs) {
  Block exact = WithoutPrefix(block);
  const auto heads = static_cast<std::size_t>(block.shape.n_heads);
  exact.forms.kappa.assign(heads, 1);
  exact.forms.shift.assign(heads, 1);
  BlockReference reference(exact, Evaluation::kExact);
  for (const auto& token : inputs) PV_RETURN_IF_ERROR(reference.Step(token));
  block.prefix_keys = reference.keys();
  block.prefix_values = reference.values();
  return {};
}

Status AdvancePrefix(const Block& block, TokenVectors& inputs) {
  BlockReference reference(WithoutPrefix(block), Evaluation::kExact);
  for (auto& token : inputs) {
    PV_ASSIGN_OR_RETURN(token, reference.Step(token));
  }
  return {};
}

}  // namespace polyveil::model
