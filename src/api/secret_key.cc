#include "ckks/client/secret_key.h"

#include <bit>
#include <utility>

#include "api/context.h"
#include "api/progress.h"
#include "ckks/client/decryptor.h"
#include "ckks/client/encryptor.h"
#include "ckks/client/key_generator.h"
#include "ckks/seeded.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"
#include "wire/file.h"
#include "wire/key_stream.h"

namespace polyveil {

struct SecretKey::Impl {
  std::shared_ptr<const Context::Impl> context;
  ckks::SecretKey key;
  Digest key_id;

  Impl(std::shared_ptr<const Context::Impl> of, ckks::SecretKey made)
      : context(std::move(of)), key(std::move(made)), key_id(wire::KeyIdOf(key)) {}
};

namespace {

template <typename T>
Result<Ciphertext> EncryptValues(const std::shared_ptr<const Context::Impl>& context,
                                 const ckks::SecretKey& key, const Digest& key_id,
                                 std::span<const T> values, int level) {
  const UsePool scope(context->pool.get());
  PV_ASSIGN_OR_RETURN(const int at, context->LevelOf(level));
  PV_ASSIGN_OR_RETURN(const ckks::Plaintext plain,
                      context->encoder.Encode(values, at, context->params->scale(at)));
  PV_ASSIGN_OR_RETURN(auto value,
                      ckks::Expand(*context->params, ckks::Encryptor(key).Encrypt(plain)));
  return Ciphertext(std::make_shared<const Ciphertext::Impl>(
      Ciphertext::Impl{context, std::move(value), key_id}));
}

}  // namespace

SecretKey SecretKey::Generate(const Context& context) {
  const UsePool scope(context.impl()->pool.get());
  return SecretKey(std::make_shared<const Impl>(context.impl(),
                                                ckks::SecretKey::Generate(context.impl()->params)));
}

Status SecretKey::Write(const std::string& path, std::optional<std::string_view> passphrase) const {
  return wire::WriteSecretKey(path, impl_->key, passphrase);
}

Result<SecretKey> SecretKey::Read(const Context& context, const std::string& path,
                                  std::optional<std::string_view> passphrase) {
  const UsePool scope(context.impl()->pool.get());
  PV_ASSIGN_OR_RETURN(ckks::SecretKey key, wire::ReadSecretKey(path, passphrase));
  if (key.params()->digest() != context.impl()->params->digest())
    return MakeError(ErrorCode::kMismatch, "{}: parameters {}, the context's are {}", path,
                     key.params()->spec().name, context.impl()->params->spec().name);
  return SecretKey(std::make_shared<const Impl>(context.impl(), std::move(key)));
}

Result<EvaluationKeys> SecretKey::MakeKeys(const KeyNeeds& needs,
                                           const OnProgress& on_progress) const {
  const UsePool scope(impl_->context->pool.get());
  PV_ASSIGN_OR_RETURN(const ckks::KeyRequest request, RequestOf(*impl_->context, needs));
  Reporter reporter(on_progress);
  PV_ASSIGN_OR_RETURN(auto keys, ckks::KeyGenerator(impl_->key).Generate(request, reporter.get()));
  return EvaluationKeys(std::make_shared<const EvaluationKeys::Impl>(
      EvaluationKeys::Impl{impl_->context, std::move(keys), impl_->key_id}));
}

Status SecretKey::WriteKeys(const std::string& path, const KeyNeeds& needs,
                            const OnProgress& on_progress) const {
  const UsePool scope(impl_->context->pool.get());
  PV_ASSIGN_OR_RETURN(const ckks::KeyRequest request, RequestOf(*impl_->context, needs));
  PV_ASSIGN_OR_RETURN(wire::PrivateFile file, wire::PrivateFile::Create(path));
  Reporter reporter(on_progress);
  PV_RETURN_IF_ERROR(wire::WriteKeyStream(
      impl_->key, request, [&](wire::ByteView bytes) { return file.Write(bytes); },
      reporter.get()));
  return file.Commit();
}

Result<Ciphertext> SecretKey::Encrypt(std::span<const Complex> values, int level) const {
  return EncryptValues(impl_->context, impl_->key, impl_->key_id, values, level);
}

Result<Ciphertext> SecretKey::Encrypt(std::span<const double> values, int level) const {
  return EncryptValues(impl_->context, impl_->key, impl_->key_id, values, level);
}

Result<std::vector<Complex>> SecretKey::Decrypt(const Ciphertext& ciphertext, int count) const {
  const Context::Impl& context = *impl_->context;
  const UsePool scope(context.pool.get());
  const int slots = context.params->slots();
  const int wanted = count == 0 ? slots : count;
  if (wanted < 1 || wanted > slots || !std::has_single_bit(static_cast<unsigned>(wanted)))
    return MakeError(ErrorCode::kInvalidArgument, "count = {} is no power of two of 1..{}", count,
                     slots);
  if (ciphertext.impl().key_id != impl_->key_id)
    return MakeError(ErrorCode::kMismatch, "the ciphertext is of another key");
  return context.encoder.Decode(ckks::Decryptor(impl_->key).Decrypt(ciphertext.impl().value),
                                wanted);
}

Result<EvaluationKeys> EvaluationKeys::Read(const Context& context, const std::string& path,
                                            const KeyNeeds& needs) {
  constexpr size_t kPiece = size_t{1} << 24;
  const UsePool scope(context.impl()->pool.get());
  PV_ASSIGN_OR_RETURN(const ckks::KeyRequest request, RequestOf(*context.impl(), needs));
  PV_ASSIGN_OR_RETURN(auto reader, wire::KeyStreamReader::Create(context.impl()->params, request));
  PV_ASSIGN_OR_RETURN(wire::FileReader file, wire::FileReader::Open(path));
  if (file.size() != reader.total())
    return MakeError(ErrorCode::kMismatch, "{}: {} bytes, keys for these needs are {}", path,
                     file.size(), reader.total());
  while (!reader.complete()) {
    PV_ASSIGN_OR_RETURN(const wire::Bytes bytes, file.Read(kPiece));
    PV_RETURN_IF_ERROR(reader.Push(bytes));
  }
  const Digest key_id = reader.key_id();
  return EvaluationKeys(
      std::make_shared<const Impl>(Impl{context.impl(), reader.TakeKeys(), key_id}));
}

std::size_t EvaluationKeys::bytes() const { return impl_->value.bytes(); }
std::string EvaluationKeys::key_id() const { return ToHex(impl_->key_id); }
std::string SecretKey::key_id() const { return ToHex(impl_->key_id); }

}  // namespace polyveil
