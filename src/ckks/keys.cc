#include "ckks/keys.h"

namespace polyveil::ckks {
namespace {

constexpr int kSpecialIndex = 128;
constexpr int kEncapsulationIndex = 255;

Result<const KeySwitchKey*> Find(const std::optional<KeySwitchKey>& key, const char* name,
                                 int level) {
  if (!key) return MakeError(ErrorCode::kMissingKey, "no {} key (needed at level {})", name, level);
  if (key->level < level)
    return MakeError(ErrorCode::kMissingKey, "{} key reaches level {} < needed {}", name,
                     key->level, level);
  return &*key;
}

}  // namespace

KeyShape ShapeOf(const Parameters& params, KeyKind kind, int level) {
  KeyShape shape;
  const auto add = [&](const ring::NttTables& table, int index) {
    shape.tables.push_back(&table);
    shape.chain_indices.push_back(index);
  };
  if (kind == KeyKind::kToSparse) level = 0;
  if (kind == KeyKind::kToDense) level = params.max_level();
  PV_CHECK(level >= 0 && level <= params.max_level(), "level {} of {}", level, params.max_level());
  for (int j = 0; j < params.limbs(level); ++j) add(params.q_table(j), j);
  if (kind == KeyKind::kToSparse) add(params.encapsulation_table(), kEncapsulationIndex);
  const int p_limbs = kind == KeyKind::kGadget ? params.p_count() : kind == KeyKind::kToDense;
  for (int j = 0; j < p_limbs; ++j) add(params.p_table(j), kSpecialIndex + j);
  shape.rows = kind == KeyKind::kGadget ? params.digits(level) : 1;
  return shape;
}

size_t KeySwitchKey::bytes() const {
  size_t sum = 0;
  for (const auto& row : b) sum += row.bytes();
  for (const auto& row : a) sum += row.bytes();
  return sum;
}

Result<const KeySwitchKey*> EvaluationKeys::FindRotation(int rotation, int level) const {
  const auto entry = rotations.find(rotation);
  if (entry == rotations.end())
    return MakeError(ErrorCode::kMissingKey, "no key for rotation {} (needed at level {})",
                     rotation, level);
  if (entry->second.level < level)
    return MakeError(ErrorCode::kMissingKey, "key of rotation {} reaches level {} < needed {}",
                     rotation, entry->second.level, level);
  return &entry->second;
}

Result<const KeySwitchKey*> EvaluationKeys::FindRelinearization(int level) const {
  return Find(relinearization, "relinearization", level);
}

Result<const KeySwitchKey*> EvaluationKeys::FindConjugation(int level) const {
  return Find(conjugation, "conjugation", level);
}

Status EvaluationKeys::Covers(const KeyRequest& request) const {
  for (const auto& [rotation, level] : request.rotations)
    PV_RETURN_IF_ERROR(FindRotation(rotation, level));
  if (request.relinearization_level >= 0)
    PV_RETURN_IF_ERROR(FindRelinearization(request.relinearization_level));
  if (request.conjugation_level >= 0)
    PV_RETURN_IF_ERROR(FindConjugation(request.conjugation_level));
  if (request.encapsulation) {
    PV_RETURN_IF_ERROR(Find(to_sparse, "to-sparse (ModRaise)", 0));
    PV_RETURN_IF_ERROR(Find(to_dense, "to-dense (ModRaise)", 0));
  }
  return {};
}

size_t EvaluationKeys::bytes() const {
  size_t sum = 0;
  for (const auto* key : {&relinearization, &conjugation, &to_sparse, &to_dense})
    if (*key) sum += (*key)->bytes();
  for (const auto& [rotation, key] : rotations) sum += key.bytes();
  return sum;
}

}  // namespace polyveil::ckks
