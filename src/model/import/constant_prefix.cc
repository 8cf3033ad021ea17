#include "model/import/constant_prefix.h"

#include "model/block_reference.h"
#include "model/formats/checkpoint.h"

namespace polyveil::model {
namespace {

using Tokens = std::vector<std::vector<double>>;

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

}  // namespace

Result<Tokens> EmbedTokens(const Checkpoint& checkpoint, std::span<const std::int32_t> tokens) {
  const Architecture& a = checkpoint.architecture;
  const Weights& w = checkpoint.weights;
  if (!a.causal)
    return MakeError(ErrorCode::kInvalidArgument, "family: {} is an encoder: no token is first",
                     a.family);
  if (tokens.size() > static_cast<std::size_t>(a.context))
    return MakeError(ErrorCode::kOutOfRange, "{} tokens > context {}", tokens.size(), a.context);
  Tokens embedded;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    PV_RETURN_IF_ERROR(CheckToken(a, tokens[i]));
    std::vector<float> x(static_cast<std::size_t>(a.d_model));
    AddRow(w.token_embedding, tokens[i], x);
    if (!a.rotary)
      AddRow(w.position_embedding, static_cast<std::int64_t>(i) + a.position_offset, x);
    embedded.emplace_back(x.begin(), x.end());
    if (a.norm == NormKind::kLayerNorm) RemoveMean(embedded.back());
  }
  return embedded;
}

Status SetPrefix(Block& block, const Tokens& inputs) {
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

Status AdvancePrefix(const Block& block, Tokens& inputs) {
  BlockReference reference(WithoutPrefix(block), Evaluation::kExact);
  for (auto& token : inputs) {
    PV_ASSIGN_OR_RETURN(token, reference.Step(token));
  }
  return {};
}

}  // namespace polyveil::model
