// A text's encrypted caches as a server keeps them; docs/formats/server-state.md.
#pragma once

#include <span>
#include <vector>

#include "ckks/ciphertext.h"
#include "ckks/parameters.h"
#include "wire/container.h"

namespace polyveil::wire {

// Layout: position, count; of each value: its parts (0 for none), level, scale, the parts. Requires
// levels of `params` and parts of that shape.
Bytes FormatSessionState(const ckks::Parameters& params, const Binding& binding, u32 position,
                         std::span<const ckks::Ciphertext> values);
// Errors: those of OpenContainer; kMismatch (position), kOutOfRange (count, parts, level,
// residues), kCorrupt (a scale that is none, bytes left over).
Result<std::vector<ckks::Ciphertext>> ParseSessionState(const ckks::Parameters& params,
                                                        ByteView bytes, const Binding& binding,
                                                        u32 position, size_t max_values);

}  // namespace polyveil::wire
