// How often a stored key has been used, in FILE.uses beside it; docs/formats/secret-key.md.
//
// A server that breaks the protocol can learn something of a key from how its owner reacts: where a
// text ends, which result is refused. That adds up over sessions of one key, and only over those.
#pragma once

#include <string>

#include "base/digest.h"
#include "base/result.h"

namespace polyveil::wire {

struct KeyUses {
  u64 sessions = 0;  // this one included
  double days = 0;   // since the key file was written
};

// Beside FILE.
std::string KeyUsesPath(const std::string& key_file);

// Counts one more session of the key and returns the count, on the disk before it returns; another
// key than the one counted so far starts at one. Programs that count at the same time wait for each
// other. Errors: kIo, kNotFound (the key file), kCorrupt, kOutOfRange (FILE.uses is named).
Result<KeyUses> CountSession(const std::string& key_file, const Digest& key_id);

}  // namespace polyveil::wire
