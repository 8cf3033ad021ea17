#include "model/attention_form.h"

#include <cmath>

namespace polyveil::model {

const char* AttentionKindName(AttentionKind kind) {
  switch (kind) {
    case AttentionKind::kPower:
      return "power";
    case AttentionKind::kPointwise:
      return "pointwise";
    case AttentionKind::kExponential:
      return "exponential";
    case AttentionKind::kNormaliseSquare:
      return "normalise-square";
  }
  return "unknown";
}

Result<AttentionKind> ParseAttentionKind(const std::string& name) {
  for (const AttentionKind kind : {AttentionKind::kPower, AttentionKind::kPointwise,
                                   AttentionKind::kExponential, AttentionKind::kNormaliseSquare})
    if (name == AttentionKindName(kind)) return kind;
  return MakeError(ErrorCode::kCorrupt, "attention kind \"{}\" is not known", name);
}

namespace {

Status CheckSoftmax(const AttentionForm& form, const std::string& where) {
  if (form.exponential.has_value() != form.approximates_softmax())
    return MakeError(ErrorCode::kMismatch, "{}.exponential is {}, the kind is {}", where,
                     form.exponential ? "present" : "missing", AttentionKindName(form.kind));
  if (form.squarings < 0 || form.squarings > 16 || form.rounds.size() > 12)
    return MakeError(ErrorCode::kOutOfRange, "{}: {} squarings, {} rounds", where, form.squarings,
                     form.rounds.size());
  if (form.rounds.empty() == (form.kind == AttentionKind::kNormaliseSquare))
    return MakeError(ErrorCode::kMismatch, "{}: {} rounds, the kind is {}", where,
                     form.rounds.size(), AttentionKindName(form.kind));
  if (form.exponential) PV_RETURN_IF_ERROR(approx::Validate(*form.exponential, where));
  for (const approx::Approximant& root : form.rounds)
    PV_RETURN_IF_ERROR(approx::Validate(root, where + ".rounds"));
  return {};
}

}  // namespace

Status Validate(const AttentionForm& form, int n_heads, const std::string& where) {
  const auto one_a_head = [&](const char* name, std::size_t size) -> Status {
    if (static_cast<int>(size) == n_heads) return {};
    return MakeError(ErrorCode::kMismatch, "{}.{} has {} values, n_heads = {}", where, name, size,
                     n_heads);
  };
  if (!form.powers.empty()) PV_RETURN_IF_ERROR(one_a_head("powers", form.powers.size()));
  for (const int power : form.powers)
    if (power < 2 || power > 12 || power % 2 != 0)
      return MakeError(ErrorCode::kOutOfRange, "{}.powers holds {}, not even in 2..12", where,
                       power);
  PV_RETURN_IF_ERROR(CheckSoftmax(form, where));
  if (!form.qk_norm) return {};
  PV_RETURN_IF_ERROR(one_a_head("qk_norm.gain", form.qk_norm->gain.size()));
  for (const double gain : form.qk_norm->gain)
    if (!std::isfinite(gain))
      return MakeError(ErrorCode::kOutOfRange, "{}.qk_norm.gain holds {}", where, gain);
  PV_RETURN_IF_ERROR(approx::Validate(form.qk_norm->query_root, where + ".qk_norm.query_root"));
  return approx::Validate(form.qk_norm->key_root, where + ".qk_norm.key_root");
}

}  // namespace polyveil::model
