// The kernel tables that this build contains, for the dispatcher.
#pragma once

#include "ring/kernels.h"

namespace polyveil::backend {

const ring::Kernels& RefKernels();
// Defined on x86-64 only; call them only on a CPU that has the instructions.
const ring::Kernels& Avx2Kernels();
const ring::Kernels& Avx512Kernels();

}  // namespace polyveil::backend
