#include "polyveil/key_files.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "base/printable.h"
#include "polyveil/progress_bar.h"
#include "wire/client/key_uses.h"
#include "wire/client/key_writer.h"
#include "wire/client/secret_key_file.h"
#include "wire/file.h"
#include "wire/key_stream.h"

namespace polyveil::tools {
namespace {

// A session of T tokens tells at most log2(T + 1) bits of the secret. At 7 bits, about four of its
// N ternary coefficients, this many sessions tell 1.7% of N = 2^16: two bits of security.
constexpr u64 kAdvisedSessions = 256;
constexpr double kAdvisedDays = 90;

// Key generation with a bar; a sink's error or an interruption ends it.
Status StreamKeys(const ckks::SecretKey& key, const ckks::KeyRequest& request, const char* title,
                  double expected_seconds, const wire::ByteSink& sink,
                  const std::atomic<bool>& cancel) {
  ProgressBar bar(title, expected_seconds);
  Progress progress([&](const ProgressReport& report) {
    const double total = static_cast<double>(report.total);
    bar.Update(total > 0 ? static_cast<double>(report.done) / total : 0, report.label);
  });
  const wire::ByteSink checked = [&](wire::ByteView bytes) -> Status {
    if (cancel) progress.Cancel();
    PV_RETURN_IF_ERROR(progress.Check());
    return sink(bytes);
  };
  return wire::WriteKeyStream(key, request, checked, &progress);
}

// Refuses another key's or another program's file before anything is sent.
Status CheckKeyFile(const std::string& path, wire::FileReader& file, serve::RemoteModel& remote,
                    const Digest& key_id) {
  const auto fail = [&](const Error& error) {
    return MakeError(error.code, "{}: {} (without this file the keys are made on the way)", path,
                     error.message);
  };
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*remote.params(), remote.info().keys));
  PV_ASSIGN_OR_RETURN(const wire::Bytes start, file.Read(wire::ManifestBytes(manifest.size())));
  wire::Binding binding;
  const Digest any_model{};
  wire::Expected expected;
  expected.params = &remote.params()->digest();
  expected.model = &any_model;
  expected.key_id = &key_id;
  const Status status = wire::ParseManifest(start, expected, manifest, &binding);
  if (!status.ok()) return fail(status.error());
  if (file.size() != wire::StreamBytes(manifest)) {
    return MakeError(ErrorCode::kCorrupt, "{}: {} bytes, its manifest says {}", path, file.size(),
                     wire::StreamBytes(manifest));
  }
  return file.Rewind();
}

Status SendFile(const std::string& path, serve::RemoteModel& remote, const Digest& key_id,
                serve::KeyUpload& upload, const std::atomic<bool>& cancel) {
  PV_ASSIGN_OR_RETURN(wire::FileReader file, wire::FileReader::Open(path));
  PV_RETURN_IF_ERROR(CheckKeyFile(path, file, remote, key_id));
  ProgressBar bar("sending keys", 0);
  for (u64 sent = 0; sent < file.size();) {
    if (cancel) return MakeError(ErrorCode::kCancelled, "cancelled while sending {}", path);
    PV_ASSIGN_OR_RETURN(const wire::Bytes piece, file.Read(size_t{1} << 20));
    PV_RETURN_IF_ERROR(upload.Write(piece));
    sent += piece.size();
    bar.Update(static_cast<double>(sent) / static_cast<double>(file.size()), FormatBytes(sent));
  }
  return {};
}

Status CheckFreeSpace(const std::string& path, u64 needed) {
  const auto folder = std::filesystem::path(path).parent_path();
  struct statvfs info;
  if (statvfs(folder.empty() ? "." : folder.c_str(), &info) != 0) return {};  // the write will tell
  const u64 available = static_cast<u64>(info.f_bavail) * info.f_frsize;
  if (available >= needed) return {};
  return MakeError(ErrorCode::kResource, "{}: {} bytes are needed, {} are free", path, needed,
                   available);
}

std::optional<std::string_view> View(const std::optional<SecureVector<char>>& passphrase) {
  if (!passphrase) return std::nullopt;
  return std::string_view(passphrase->data(), passphrase->size());
}

}  // namespace

std::string EvaluationKeyPath(const std::string& key_file) { return key_file + ".eval"; }

Result<ckks::SecretKey> OpenSecretKey(const std::string& file, const PassphraseSource& source,
                                      const ckks::ParametersPtr& params) {
  if (file.empty()) return ckks::SecretKey::Generate(params);
  PV_ASSIGN_OR_RETURN(const auto info, wire::ReadSecretKeyInfo(file));
  if (info.spec.name != params->spec().name) {
    return MakeError(ErrorCode::kMismatch, "{}: a key for parameters '{}', the server runs '{}'",
                     file, info.spec.name, params->spec().name);
  }
  PassphraseSource needed = source;
  if (info.encrypted && needed.file.empty()) needed.ask = true;
  PV_ASSIGN_OR_RETURN(const auto passphrase, ReadPassphrase(needed, /*confirm=*/false));
  PV_ASSIGN_OR_RETURN(ckks::SecretKey key, wire::ReadSecretKey(file, View(passphrase)));
  if (key.params()->digest() != params->digest()) {
    return MakeError(ErrorCode::kMismatch, "{}: parameter digest {}..., the server's is {}...",
                     file, ToHex(key.params()->digest()).substr(0, 16),
                     ToHex(params->digest()).substr(0, 16));
  }
  return key;
}

Result<std::string> UploadKeys(serve::RemoteModel& remote, const ckks::SecretKey& key,
                               const std::string& key_file, const std::atomic<bool>& cancel) {
  const Digest key_id = wire::KeyIdOf(key);
  const std::string path = EvaluationKeyPath(key_file);
  const bool stored = !key_file.empty() && access(path.c_str(), F_OK) == 0;
  PV_ASSIGN_OR_RETURN(serve::KeyUpload upload, serve::KeyUpload::Begin(remote, key_id));
  Status sent;
  if (stored) {
    sent = SendFile(path, remote, key_id, upload, cancel);
  } else {
    sent = StreamKeys(
        key, remote.info().keys, "making and sending keys",
        remote.info().estimate.key_generation_seconds,
        [&](wire::ByteView bytes) { return upload.Write(bytes); }, cancel);
  }
  auto handle = sent.ok() ? upload.Finish() : Result<std::string>(sent.error());
  if (!handle.ok()) upload.Abandon();  // the first error is the one to tell
  return handle;
}

void CountSession(const std::string& key_file, const ckks::SecretKey& key) {
  const auto uses = wire::CountSession(key_file, wire::KeyIdOf(key));
  if (!uses.ok()) {
    std::fprintf(stderr, "warning: this session of the key is not counted: %s\n",
                 Printable(uses.error().message).c_str());
    return;
  }
  if (uses->sessions <= kAdvisedSessions && uses->days <= kAdvisedDays) return;
  std::fprintf(stderr,
               "warning: %s: session %llu of a key %.0f days old (advised: up to %llu sessions, "
               "%.0f days); renew it: polyveil keygen --force --out %s ...\n",
               key_file.c_str(), static_cast<unsigned long long>(uses->sessions), uses->days,
               static_cast<unsigned long long>(kAdvisedSessions), kAdvisedDays, key_file.c_str());
}

Status WriteKeyFiles(const std::string& file, wire::Existing existing, const ckks::SecretKey& key,
                     const ckks::KeyRequest& request, const PassphraseSource& source,
                     double expected_seconds, const std::atomic<bool>& cancel) {
  PV_ASSIGN_OR_RETURN(const auto manifest, wire::ManifestOf(*key.params(), request));
  PV_RETURN_IF_ERROR(CheckFreeSpace(EvaluationKeyPath(file), wire::StreamBytes(manifest)));
  PV_ASSIGN_OR_RETURN(const auto passphrase, ReadPassphrase(source, /*confirm=*/true));
  PV_ASSIGN_OR_RETURN(auto evaluation, wire::PrivateFile::Create(EvaluationKeyPath(file)));
  PV_RETURN_IF_ERROR(StreamKeys(
      key, request, "making keys", expected_seconds,
      [&](wire::ByteView bytes) { return evaluation.Write(bytes); }, cancel));
  PV_RETURN_IF_ERROR(evaluation.Prepare());
  PV_ASSIGN_OR_RETURN(auto secret, wire::PrepareSecretKey(file, key, View(passphrase)));
  // Both are on the disk; from here on files only change their names. Evaluation keys first: the
  // old secret key stays in its place until the new one, with all that belongs to it, is there.
  PV_RETURN_IF_ERROR(evaluation.Commit(existing));
  Status committed = secret.Commit(existing);
  if (!committed.ok() && existing == wire::Existing::kKeep) unlink(EvaluationKeyPath(file).c_str());
  return committed;
}

}  // namespace polyveil::tools
