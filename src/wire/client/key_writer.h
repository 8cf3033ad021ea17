// Evaluation keys made one by one and handed on at once: memory stays at one key.
#pragma once

#include <functional>

#include "base/progress.h"
#include "ckks/client/secret_key.h"
#include "ckks/key_request.h"
#include "wire/key_format.h"

namespace polyveil::wire {

// Takes the next bytes of a stream: a file, an upload.
using ByteSink = std::function<Status(ByteView)>;

// Writes the stream of docs/formats/evaluation-keys.md. Progress: one unit per byte.
// Errors: kOutOfRange (a level or rotation outside the parameters), kCancelled, and the sink's.
Status WriteKeyStream(const ckks::SecretKey& key, const ckks::KeyRequest& request,
                      const ByteSink& sink, Progress* progress = nullptr);

}  // namespace polyveil::wire
