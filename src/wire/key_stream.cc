#include "wire/key_stream.h"

#include <algorithm>

#include "ckks/seeded.h"

namespace polyveil::wire {

Result<KeyStreamReader> KeyStreamReader::Create(ckks::ParametersPtr params,
                                                const ckks::KeyRequest& request,
                                                std::optional<Digest> key_id,
                                                std::optional<ckks::KeyRequest> expanded) {
  KeyStreamReader reader;
  PV_ASSIGN_OR_RETURN(reader.manifest_, ManifestOf(*params, request));
  reader.params_ = std::move(params);
  reader.required_key_id_ = key_id;
  reader.expanded_ = std::move(expanded);
  reader.total_ = StreamBytes(reader.manifest_);
  return reader;
}

Status KeyStreamReader::Push(ByteView bytes) {
  if (failed_) return *failed_;
  Status status = PushUnchecked(bytes);
  if (!status.ok()) {
    failed_ = status.error();
    Bytes().swap(part_);
    keys_ = {};
  }
  return status;
}

Status KeyStreamReader::PushUnchecked(ByteView bytes) {
  if (bytes.size() > total_ - received_) {
    return MakeError(ErrorCode::kOutOfRange, "evaluation keys: {} bytes beyond the stream's {}",
                     bytes.size() - (total_ - received_), total_);
  }
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), PartBytes() - part_.size());
    if (part_.empty()) part_.reserve(PartBytes());
    part_.insert(part_.end(), bytes.begin(), bytes.begin() + count);
    bytes = bytes.subspan(count);
    received_ += count;
    if (part_.size() == PartBytes()) PV_RETURN_IF_ERROR(FinishPart());
  }
  return {};
}

size_t KeyStreamReader::PartBytes() const {
  return manifest_read_ ? manifest_[next_].record_bytes : ManifestBytes(manifest_.size());
}

Status KeyStreamReader::FinishPart() {
  if (manifest_read_) {
    PV_RETURN_IF_ERROR(FinishRecord(manifest_[next_]));
    ++next_;
  } else {
    const Digest any_model{};
    Expected digests;
    digests.params = &params_->digest();
    digests.model = &any_model;
    if (required_key_id_) digests.key_id = &*required_key_id_;
    PV_RETURN_IF_ERROR(ParseManifest(part_, digests, manifest_, &binding_));
    manifest_read_ = true;
  }
  part_.clear();
  return {};
}

bool KeyStreamReader::Expands(const ManifestEntry& entry) const {
  if (!expanded_) return true;
  switch (entry.use) {
    case KeyUse::kRelinearization:
      return expanded_->relinearization_levels.contains(entry.level);
    case KeyUse::kConjugation:
      return expanded_->conjugation_levels.contains(entry.level);
    case KeyUse::kToSparse:
    case KeyUse::kToDense:
      return expanded_->encapsulation;
    case KeyUse::kRotation:
      break;
  }
  return expanded_->rotations.contains({entry.rotation, entry.level});
}

Status KeyStreamReader::FinishRecord(const ManifestEntry& entry) {
  PV_ASSIGN_OR_RETURN(ckks::KeySwitchKey key,
                      ParseKey(*params_, binding_, static_cast<u32>(next_), entry, part_));
  if (Expands(entry)) PV_RETURN_IF_ERROR(ckks::ExpandKey(*params_, key));
  switch (entry.use) {
    case KeyUse::kRelinearization:
      keys_.relinearization.emplace(entry.level, std::move(key));
      break;
    case KeyUse::kConjugation:
      keys_.conjugation.emplace(entry.level, std::move(key));
      break;
    case KeyUse::kToSparse:
      keys_.to_sparse = std::move(key);
      break;
    case KeyUse::kToDense:
      keys_.to_dense = std::move(key);
      break;
    case KeyUse::kRotation:
      keys_.rotations[entry.rotation].emplace(entry.level, std::move(key));
      break;
  }
  return {};
}

}  // namespace polyveil::wire
