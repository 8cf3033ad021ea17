// The kernel tables that this build contains, for the dispatcher.
#pragma once

#include "ring/kernels.h"

namespace polyveil::backend {

const ring::Kernels& RefKernels();
// Defined on x86-64 only; call them only on a CPU that has the instructions.
const ring::Kernels& Avx2Kernels();
const ring::Kernels& Avx512Kernels();

// Whether POLYVEIL_BACKEND, where it is set, names a backend that this CPU runs; programs ask
// before their work, which would end in a failed check otherwise. Errors: kUnavailable (the known
// ones).
Status CheckVariable();

}  // namespace polyveil::backend
