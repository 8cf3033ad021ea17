// Receives evaluation keys in pieces of any size and holds one unfinished record at a time.
#pragma once

#include <functional>
#include <optional>

#include "wire/key_format.h"

namespace polyveil::wire {

class KeyStreamReader {
 public:
  // Knows every size from the request: nothing that the stream says is believed. `key_id`, when
  // given, is required; otherwise the manifest's is taken and every record must repeat it.
  // `expanded`: the keys of the request whose uniform half is expanded, all of them by default; the
  // others stay compact. Errors: those of ManifestOf.
  static Result<KeyStreamReader> Create(ckks::ParametersPtr params, const ckks::KeyRequest& request,
                                        std::optional<Digest> key_id = std::nullopt,
                                        std::optional<ckks::KeyRequest> expanded = std::nullopt);

  // The next bytes of the stream. After an error the stream is dead and repeats the error.
  // Memory: one record's bytes beyond the keys themselves. Cost: a finished record is parsed and,
  // unless it stays compact, its uniform half expanded here.
  Status Push(ByteView bytes);

  u64 received() const { return received_; }
  u64 total() const { return total_; }
  size_t records() const { return next_; }
  bool complete() const { return received_ == total_ && !failed_; }
  bool failed() const { return failed_.has_value(); }
  const Digest& key_id() const { return binding_.key_id; }
  size_t key_bytes() const { return keys_.bytes(); }  // of the keys so far
  // Requires complete().
  ckks::EvaluationKeys TakeKeys() { return std::move(keys_); }

 private:
  KeyStreamReader() = default;
  Status PushUnchecked(ByteView bytes);
  size_t PartBytes() const;  // of the container under way
  Status FinishPart();
  Status FinishRecord(const ManifestEntry& entry);
  bool Expands(const ManifestEntry& entry) const;

  ckks::ParametersPtr params_;
  std::optional<Digest> required_key_id_;
  std::optional<ckks::KeyRequest> expanded_;
  std::vector<ManifestEntry> manifest_;
  Binding binding_;
  bool manifest_read_ = false;
  size_t next_ = 0;  // record under way
  Bytes part_;
  u64 received_ = 0, total_ = 0;
  std::optional<Error> failed_;
  ckks::EvaluationKeys keys_;
};

}  // namespace polyveil::wire
