#include "serve/client/encrypted_session.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::serve {
namespace {

ResultShape ShapeOfResult(const ModelInfo& info) {
  return {info.d_model, info.result_unit, info.result};
}

}  // namespace

EncryptedSession::EncryptedSession(RemoteModel& remote, const ckks::SecretKey& key)
    : remote_(remote),
      key_(key),
      input_unit_(remote.info().input_unit),
      guard_(ShapeOfResult(remote.info()), *remote.params()),
      encoder_(remote.params()),
      key_id_(wire::KeyIdOf(key)) {}

Result<std::unique_ptr<EncryptedSession>> EncryptedSession::Create(
    RemoteModel& remote, const ckks::SecretKey& key, const std::string& keys_handle,
    std::span<const std::int32_t> public_tokens) {
  std::unique_ptr<EncryptedSession> session(new EncryptedSession(remote, key));
  PV_ASSIGN_OR_RETURN(session->session_, remote.CreateSession(keys_handle, public_tokens));
  session->position_ = session->sent_ = static_cast<int>(public_tokens.size());
  return session;
}

EncryptedSession::~EncryptedSession() {
  // A server that is gone has forgotten it anyway.
  if (!session_.id.empty()) (void)remote_.RemoveSession(session_.id).ok();
}

Result<ckks::SeededCiphertext> EncryptedSession::Encrypt(std::span<const double> embedding) const {
  const auto d_model = static_cast<size_t>(remote_.info().d_model);
  if (embedding.size() != d_model) {
    return MakeError(ErrorCode::kMismatch, "embedding: {} values, the model's width is {}",
                     embedding.size(), d_model);
  }
  std::vector<double> values(embedding.begin(), embedding.end());
  for (double& value : values) {
    if (!(std::abs(value) <= kLargestSlot * input_unit_)) {
      return MakeError(ErrorCode::kOutOfRange,
                       "embedding: |{}| is above {} times the input's unit {}", value, kLargestSlot,
                       input_unit_);
    }
    value /= input_unit_;
  }
  values.resize(std::bit_ceil(d_model));  // the layout's period; its padding is zero
  const int level = remote_.info().input_level;
  PV_ASSIGN_OR_RETURN(const auto plain,
                      encoder_.Encode(values, level, remote_.params()->scale(level)));
  return ckks::Encryptor(key_).Encrypt(plain);
}

Result<std::vector<double>> EncryptedSession::Decrypt(const ckks::Ciphertext& result) const {
  const auto plain = ckks::Decryptor(key_).Decrypt(result);
  return guard_.Read(encoder_.Decode(plain, remote_.params()->slots()), position_ + 1);
}

Result<SessionStep> EncryptedSession::Step(std::span<const double> embedding,
                                           const RemoteProgressCallback& on_progress) {
  PV_RETURN_IF_ERROR(trusted_);
  SessionStep step;
  Timer timer;
  PV_ASSIGN_OR_RETURN(const ckks::SeededCiphertext token, Encrypt(embedding));
  step.encrypt_seconds = timer.Seconds();
  timer.Reset();
  const u64 sent = remote_.http().bytes_sent(), received = remote_.http().bytes_received();
  PV_ASSIGN_OR_RETURN(
      RemoteStep remote,
      remote_.Step(session_.id, key_id_, static_cast<u32>(position_), token, on_progress));
  ++sent_;
  step.bytes_up = remote_.http().bytes_sent() - sent;
  step.bytes_down = remote_.http().bytes_received() - received;
  step.remote_seconds = timer.Seconds();
  timer.Reset();
  auto residual = Decrypt(remote.result);
  if (!residual.ok()) {
    trusted_ = residual.error();
    return residual.error();
  }
  step.residual = *std::move(residual);
  step.decrypt_seconds = timer.Seconds();
  step.server = std::move(remote.latency);
  step.server_peak_rss_bytes = remote.server_peak_rss_bytes;
  ++position_;
  return step;
}

Status EncryptedSession::Pad() {
  const std::vector<double> nothing(static_cast<size_t>(remote_.info().d_model));
  PV_ASSIGN_OR_RETURN(const ckks::SeededCiphertext token, Encrypt(nothing));
  PV_ASSIGN_OR_RETURN(const RemoteStep step,
                      remote_.Step(session_.id, key_id_, static_cast<u32>(sent_), token, {}));
  (void)Decrypt(step.result);  // takes its time, as ever
  ++sent_;
  return {};
}

}  // namespace polyveil::serve
