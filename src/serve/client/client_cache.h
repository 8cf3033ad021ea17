// The client's half of a server's model, kept in the user's cache folder under the digest of its
// files: fetched once, resumed where it broke off, checked at every use.
#pragma once

#include <functional>
#include <string>

#include "model/client_files.h"
#include "serve/client/remote_model.h"

namespace polyveil::serve {

struct ClientCacheOptions {
  std::string folder;                                      // empty: DefaultModelCache()
  u64 max_bytes = u64{16'000'000'000};                     // of all files of a model
  bool text_only = false;                                  // ClientManifest::OfText
  std::function<void(u64 done, u64 total)> on_bytes = {};  // while they come
  std::function<void()> on_wait = {};  // another process is fetching the same files
};

// $XDG_CACHE_HOME/polyveil/models, else ~/.cache/polyveil/models. Errors: kNotFound where neither
// variable is an absolute path.
Result<std::string> DefaultModelCache();

// What the server's client half consists of, or the part that is asked for. Errors: the server's
// and the transport's, those of ClientManifest::Parse, kResource above max_bytes (both sizes).
Result<model::ClientManifest> FetchManifest(RemoteModel& remote, const ClientCacheOptions& options);

// The files, mapped. Folders are made with mode 0700, files 0600; a folder of another user, or that
// others may write, is refused (kSecurity). Files appear under their digest's folder all at once;
// of two processes one fetches and the other waits. What is there already counts once its digests
// are right. Errors: those above, kCorrupt (name, both digests), kIo (path, reason), kCancelled.
Result<model::ClientFiles> FetchClientFiles(RemoteModel& remote, const ClientCacheOptions& options);

}  // namespace polyveil::serve
