// A secret key and its evaluation keys: from files or fresh, and their way to a server.
#pragma once

#include <atomic>
#include <optional>
#include <string>

#include "ckks/client/secret_key.h"
#include "polyveil/terminal.h"
#include "serve/client/remote_model.h"

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

// Writes FILE and FILE.eval; neither appears unless both are complete. Errors: kResource (free
// space), kIo (path, bytes), kCancelled.
Status WriteKeyFiles(const std::string& file, const ckks::SecretKey& key,
                     const ckks::KeyRequest& request, const PassphraseSource& passphrase,
                     double expected_seconds, const std::atomic<bool>& cancel);

}  // namespace polyveil::tools
