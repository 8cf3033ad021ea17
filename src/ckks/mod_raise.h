// ModRaise with sparse-secret encapsulation (internal to the evaluator).
#pragma once

#include "ckks/ciphertext.h"
#include "ckks/keys.h"
#include "ckks/parameters.h"

namespace polyveil::ckks {

// A ciphertext at level 0 as one of the same plaintext + q0 I at max_level(), |I| <= (h + 1) / 2.
// Three steps: s -> s' over q0 P'; centred lift of both components from q0 to Q p_0; s' -> s over
// Q p_0. The lifted c1 is below q0 / 2 in magnitude, so one row and one special prime do for the
// way back: the noise is that of c1 e / p_0, about sigma sqrt(N / 12) per coefficient as in step
// one, and the key is an eighth of a full one.
// Level/scale: max_level(), scale unchanged. Cost: 4 (max_level + 1) + 12 transforms.
// Requires: a.level == 0, degree 1, keys of their kinds.
// Source: Bossuat, Troncoso-Pastoriza, Hubaux 2022, ePrint 2022/024, Alg. 4; deviation: the way
// back uses the gadget (1) instead of the RNS gadget.
Ciphertext RaiseModulus(const Parameters& params, const Ciphertext& a,
                        const KeySwitchKey& to_sparse, const KeySwitchKey& to_dense);

}  // namespace polyveil::ckks
