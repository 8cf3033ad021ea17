#pragma once

#include "ring/ntt_tables.h"

namespace polyveil::backend::avx2 {

void ForwardNtt(u64* out, const u64* in, const ring::NttTables& tables);
void InverseNtt(u64* out, const u64* in, const ring::NttTables& tables, u64 scale);

}  // namespace polyveil::backend::avx2
