// A session on a mock server, whose model is a random one of the same width.
#pragma once

#include "serve/client/encrypted_session.h"
#include "support/random_model.h"

namespace polyveil::testing {

inline Result<std::unique_ptr<serve::EncryptedSession>> NewMockSession(serve::RemoteModel& remote,
                                                                       const ckks::SecretKey& key,
                                                                       const std::string& keys) {
  return serve::EncryptedSession::Create(remote, key, keys, RandomModel({}, 1).config);
}

}  // namespace polyveil::testing
