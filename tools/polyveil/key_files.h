// A secret key and its evaluation keys: from files or fresh, and their way to a server.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "ckks/client/secret_key.h"
#include "polyveil/terminal.h"
#include "serve/client/remote_model.h"
#include "wire/file.h"

namespace polyveil::tools {

// Beside FILE: FILE.eval holds the evaluation keys.
std::string EvaluationKeyPath(const std::string& key_file);

// The key of `file`, or a fresh one that is never written when `file` is empty. Errors: kMismatch
// when its parameters are not `params` (both named), and the file's.
Result<ckks::SecretKey> OpenSecretKey(const std::string& file, const PassphraseSource& passphrase,
                                      const ckks::ParametersPtr& params);

// Sends evaluation keys with a progress bar: those of FILE.eval when it is there, else made on the
// way. Returns the server's name for them.
Result<std::string> UploadKeys(serve::RemoteModel& remote, const ckks::SecretKey& key,
                               const std::string& key_file, const std::atomic<bool>& cancel);

// Counts a session of a stored key and says on stderr when the key should be renewed: a server that
// breaks the protocol may learn a little of it in each (README, threat model).
void CountSession(const std::string& key_file, const ckks::SecretKey& key);

// Writes FILE and FILE.eval; neither appears unless both are complete, and those of before are
// whole until then. At no moment is FILE without a complete secret key. Errors: kInvalidArgument
// (kKeep and a file is there), kResource (free space), kIo (path, bytes), kCancelled.
Status WriteKeyFiles(const std::string& file, wire::Existing existing, const ckks::SecretKey& key,
                     const ckks::KeyRequest& request, const PassphraseSource& passphrase,
                     double expected_seconds, const std::atomic<bool>& cancel);

}  // namespace polyveil::tools
