// The bytes of one content-addressed file, part by part.
#pragma once

#include <functional>
#include <string>

#include "model/client_files.h"
#include "serve/client/remote_model.h"

namespace polyveil::serve {

// Of one request.
inline constexpr u64 kDownloadPartBytes = u64{16} << 20;

// Appends to the file at `path` (made with mode 0600 where it is missing) what it lacks of the
// entry's bytes, synced at the end. The bytes are not checked. A broken connection is tried anew
// where it broke. Errors: kIo (path, bytes, reason: a full disk), kCorrupt for an answer that is
// not the part asked for, the server's and the transport's; kUnavailable when it takes longer than
// ten minutes and a second for every 16 KiB.
Status DownloadRest(RemoteModel& remote, const std::string& path,
                    const model::ClientManifest::Entry& entry,
                    const std::function<void(u64 done)>& on_bytes);

}  // namespace polyveil::serve
