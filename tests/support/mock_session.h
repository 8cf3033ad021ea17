// A session on a mock server, whose model is nothing but a width.
#pragma once

#include "serve/client/encrypted_session.h"

namespace polyveil::testing {

inline Result<std::unique_ptr<serve::EncryptedSession>> NewMockSession(serve::RemoteModel& remote,
                                                                       const ckks::SecretKey& key,
                                                                       const std::string& keys) {
  return serve::EncryptedSession::Create(remote, key, keys, serve::SessionUnits{});
}

}  // namespace polyveil::testing
