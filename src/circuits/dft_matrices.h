// The special Fourier transform of the canonical embedding as a product of few sparse matrices
// (Chen, Chillotti, Song 2019, ePrint 2018/1043; Cheon, Han, Hhan 2018/1073).
//
// With n' = 2^log_period values w_k = a_k + i a_(k+n') of a polynomial in X^(slots/n'), the slots
// are z = F B w: B reverses bits, F = D_n' ... D_4 D_2 are the butterfly stages. SlotsToCoeffs
// applies F and CoeffsToSlots F^-1: the coefficients in between stand in bit-reversed order, which
// ModRaise does not see, so that B is never computed.
#pragma once

#include <vector>

#include "circuits/diagonal_matrix.h"

namespace polyveil::circuits {

// F in `levels` >= 1 factors, in the order of application. Entries of magnitude about 1.
std::vector<DiagonalMatrix> SlotsToCoeffsFactors(int log_period, int levels);
// n' F^-1 in `levels` factors, in the order of application. Entries of magnitude about 1.
std::vector<DiagonalMatrix> CoeffsToSlotsFactors(int log_period, int levels);

}  // namespace polyveil::circuits
