// A session on a mock server.
#pragma once

#include "serve/client/encrypted_session.h"

namespace polyveil::testing {

inline Result<std::unique_ptr<serve::EncryptedSession>> NewMockSession(serve::RemoteModel& remote,
                                                                       const ckks::SecretKey& key,
                                                                       const std::string& keys) {
  return serve::EncryptedSession::Create(remote, key, keys);
}

}  // namespace polyveil::testing
