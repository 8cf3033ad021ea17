#include "serve/client/encrypted_session.h"

#include <algorithm>
#include <cmath>

#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "compile/layout.h"
#include "wire/client/secret_key_file.h"

namespace polyveil::serve {
ResultShape ShapeOfResult(const ModelInfo& info) {
  return {info.labels > 0 ? info.labels : info.d_model, info.result_unit, info.result};
}

InputEncryptor::InputEncryptor(const RemoteModel& remote, const ckks::SecretKey& key)
    : remote_(remote), key_(key), unit_(remote.info().input_unit), encoder_(remote.params()) {}

EncryptedSession::EncryptedSession(RemoteModel& remote, const ckks::SecretKey& key)
    : remote_(remote),
      key_(key),
      inputs_(remote, key),
      guard_(ShapeOfResult(remote.info()), *remote.params()),
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

Status InputEncryptor::Check(std::span<const double> embedding) const {
  const auto d_model = static_cast<size_t>(remote_.info().d_model);
  if (embedding.size() != d_model) {
    return MakeError(ErrorCode::kMismatch, "embedding: {} values, the model's width is {}",
                     embedding.size(), d_model);
  }
  for (const double value : embedding) {
    if (std::abs(value) <= kLargestSlot * unit_) continue;
    return MakeError(ErrorCode::kOutOfRange,
                     "embedding: |{}| is above {} times the input's unit {}", value, kLargestSlot,
                     unit_);
  }
  return {};
}

Result<ckks::SeededCiphertext> InputEncryptor::Encrypt(
    std::span<const std::vector<double>> embeddings) const {
  const int texts = remote_.info().texts;
  if (embeddings.empty() || embeddings.size() > static_cast<size_t>(texts))
    return MakeError(ErrorCode::kOutOfRange, "{} texts together, the server decodes {}",
                     embeddings.size(), texts);
  for (const auto& embedding : embeddings) PV_RETURN_IF_ERROR(Check(embedding));
  const std::vector<double> values = compile::PackTexts(embeddings, texts, unit_);
  const int level = remote_.info().input_level;
  PV_ASSIGN_OR_RETURN(const auto plain,
                      encoder_.Encode(values, level, remote_.params()->scale(level)));
  return ckks::Encryptor(key_).Encrypt(plain);
}

compile::TokenSlots EncryptedSession::Slots(std::span<const ckks::Ciphertext> results) const {
  compile::TokenSlots slots;
  for (const ckks::Ciphertext& result : results)
    slots.push_back(
        inputs_.encoder().Decode(ckks::Decryptor(key_).Decrypt(result), remote_.params()->slots()));
  return slots;
}

Result<SessionStep> EncryptedSession::Exchange(
    const Request& request, const std::function<Status(const compile::TokenSlots&)>& read) {
  SessionStep step;
  Timer timer;
  const u64 sent = remote_.http().bytes_sent(), received = remote_.http().bytes_received();
  PV_ASSIGN_OR_RETURN(RemoteStep remote, request());
  step.bytes_up = remote_.http().bytes_sent() - sent;
  step.bytes_down = remote_.http().bytes_received() - received;
  step.remote_seconds = timer.Seconds();
  timer.Reset();
  trusted_ = read(Slots(remote.results));
  PV_RETURN_IF_ERROR(trusted_);
  step.decrypt_seconds = timer.Seconds();
  step.server = std::move(remote.latency);
  step.server_peak_rss_bytes = remote.server_peak_rss_bytes;
  return step;
}

Result<SessionStep> EncryptedSession::Step(std::span<const double> embedding,
                                           const RemoteProgressCallback& on_progress) {
  const std::vector<double> text(embedding.begin(), embedding.end());
  PV_ASSIGN_OR_RETURN(Results texts, StepTexts({&text, 1}, on_progress));
  texts.cost.residual = std::move(texts.residuals.front());
  return std::move(texts.cost);
}

Result<EncryptedSession::Results> EncryptedSession::StepTexts(
    std::span<const std::vector<double>> embeddings, const RemoteProgressCallback& on_progress) {
  PV_RETURN_IF_ERROR(trusted_);
  Timer timer;
  PV_ASSIGN_OR_RETURN(const ckks::SeededCiphertext token, inputs_.Encrypt(embeddings));
  const double encrypt_seconds = timer.Seconds();
  Results texts;
  const auto request = [&]() -> Result<RemoteStep> {
    auto step = remote_.Step(session_.id, key_id_, static_cast<u32>(position_), token, on_progress);
    sent_ += step.ok();
    return step;
  };
  PV_ASSIGN_OR_RETURN(
      texts.cost, Exchange(request, [&](const compile::TokenSlots& slots) -> Status {
        PV_ASSIGN_OR_RETURN(texts.residuals,
                            guard_.ReadTexts(slots.front(), remote_.info().texts,
                                             static_cast<int>(embeddings.size()), position_ + 1));
        return {};
      }));
  texts.cost.encrypt_seconds = encrypt_seconds;
  ++position_;
  return texts;
}

Result<EncryptedSession::Results> EncryptedSession::Read(
    std::span<const std::vector<double>> embeddings, const RemoteProgressCallback& on_progress,
    std::span<const int> texts) {
  PV_RETURN_IF_ERROR(trusted_);
  const int tokens = static_cast<int>(embeddings.size());
  const std::vector<PromptInfo>& programs = remote_.info().prompts;
  const auto program =
      std::ranges::find_if(programs, [&](const PromptInfo& each) { return each.tokens >= tokens; });
  if (tokens == 0 || program == programs.end() || position_ != 0)
    return MakeError(ErrorCode::kOutOfRange,
                     "a prompt of {} tokens at once at position {}: the server takes {} at 0",
                     tokens, position_, programs.empty() ? 0 : programs.back().tokens);
  for (const auto& embedding : embeddings) PV_RETURN_IF_ERROR(inputs_.Check(embedding));
  Timer timer;
  const int level = program->input_level;
  const compile::TokenLayout layout = LayoutOf(remote_.info(), *program, remote_.params()->slots());
  std::vector<ckks::SeededCiphertext> inputs;
  for (const auto& slots : compile::PackTokens(embeddings, layout, inputs_.unit())) {
    PV_ASSIGN_OR_RETURN(const auto plain,
                        inputs_.encoder().Encode(std::span<const ckks::Complex>(slots), level,
                                                 remote_.params()->scale(level)));
    inputs.push_back(ckks::Encryptor(key_).Encrypt(plain));
  }
  const double encrypt_seconds = timer.Seconds();
  Results prompt;
  const auto request = [&]() -> Result<RemoteStep> {
    auto step =
        remote_.ReadPrompt(session_.id, key_id_, *program,
                           texts.empty() ? std::span(&tokens, 1) : texts, inputs, on_progress);
    if (step.ok() && !remote_.info().encoder) sent_ = tokens;
    return step;
  };
  PV_ASSIGN_OR_RETURN(
      prompt.cost, Exchange(request, [&](const compile::TokenSlots& slots) -> Status {
        PV_ASSIGN_OR_RETURN(prompt.residuals, guard_.ReadTokens(slots, layout, tokens));
        return {};
      }));
  prompt.cost.encrypt_seconds = encrypt_seconds;
  prompt.cost.residual = prompt.residuals.back();
  if (!remote_.info().encoder) position_ = tokens;
  return prompt;
}

Status EncryptedSession::Pad() {
  const std::vector<double> nothing(static_cast<size_t>(remote_.info().d_model));
  PV_ASSIGN_OR_RETURN(const ckks::SeededCiphertext token, inputs_.Encrypt({&nothing, 1}));
  PV_ASSIGN_OR_RETURN(const RemoteStep step,
                      remote_.Step(session_.id, key_id_, static_cast<u32>(sent_), token, {}));
  (void)guard_.Read(Slots(step.results).front(), sent_ + 1);  // takes its time, as ever
  ++sent_;
  return {};
}

}  // namespace polyveil::serve
