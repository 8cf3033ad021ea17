// The user's side of a run: passphrases, sizes and durations in words.
#pragma once

#include <optional>
#include <string>

#include "base/int_types.h"
#include "base/interrupt.h"
#include "base/result.h"
#include "base/secure_memory.h"

namespace polyveil::tools {

// How a passphrase is asked for.
struct PassphraseSource {
  bool ask = false;  // from the terminal, without echo
  std::string file;  // its first line
};
// Nothing when neither is set. confirm: asks twice. Errors: kInvalidArgument (empty, no terminal,
// differing), kIo.
Result<std::optional<SecureVector<char>>> ReadPassphrase(const PassphraseSource& source,
                                                         bool confirm);

std::string FormatBytes(double bytes);  // "1.53 GB"
inline std::string Bytes(u64 count) { return FormatBytes(static_cast<double>(count)); }
std::string FormatSeconds(double seconds);  // "41.2 s", "3 min 12 s", "0.8 ms"

}  // namespace polyveil::tools
