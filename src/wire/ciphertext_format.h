// A token on its way up and its result on the way down; docs/formats/ciphertext.md.
#pragma once

#include "ckks/ciphertext.h"
#include "ckks/parameters.h"
#include "ckks/seeded.h"
#include "wire/container.h"

namespace polyveil::wire {

// What the reader of a message requires of it; every field is compared.
struct MessageBounds {
  Binding binding;
  u32 position = 0;
  int level = 0;
  double scale = 1;  // to 2^-20 relative, as the evaluator does
};

// Exact sizes, header included.
size_t TokenBytes(const ckks::Parameters& params, int level);
size_t ResultBytes(const ckks::Parameters& params, int level);

// Requires token.level and the shape of c0 to agree. Layout: position, level, scale, seed, c0.
Bytes FormatToken(const ckks::Parameters& params, const Binding& binding, u32 position,
                  const ckks::SeededCiphertext& token);
// Refuses a wrong length before it allocates. Errors: kCorrupt (also: a part most of whose
// residues modulo a prime are zero), kMismatch (digests, position, level, scale), kOutOfRange
// (residues, length); all name the field and both values. ParseResult has the same.
Result<ckks::SeededCiphertext> ParseToken(const ckks::Parameters& params, ByteView bytes,
                                          const MessageBounds& bounds);

// Requires degree 1. Layout: position, level, scale, c0, c1.
Bytes FormatResult(const ckks::Parameters& params, const Binding& binding, u32 position,
                   const ckks::Ciphertext& result);
Result<ckks::Ciphertext> ParseResult(const ckks::Parameters& params, ByteView bytes,
                                     const MessageBounds& bounds);

// A result whose level, key and scale (near the level's nominal one to a factor of 2^20) are its
// own; position 0, no model. key_id: out. Errors: as above.
Result<ckks::Ciphertext> ParseAnyResult(const ckks::Parameters& params, ByteView bytes,
                                        Digest& key_id);

}  // namespace polyveil::wire
