// Matrices on periodic slot vectors, stored by diagonals: y_j = sum_r diag_r[j] x_(j+r). Plain
// arithmetic only.
#pragma once

#include <complex>
#include <map>
#include <span>
#include <vector>

namespace polyveil::circuits {

using Complex = std::complex<double>;

// Diagonals with period 2^log_period: every vector has that many entries, or repeats as many as it
// has where LinearTransform says so. Rotations are taken modulo the period, so an index may be
// negative.
struct DiagonalMatrix {
  int log_period = 0;
  std::map<int, std::vector<Complex>> diagonals;

  int period() const { return 1 << log_period; }
};

// r modulo the period, a power of two, in (-period/2, period/2].
inline int Centred(int r, int period) {
  r &= period - 1;
  return r > period / 2 ? r - period : r;
}

DiagonalMatrix IdentityMatrix(int log_period);
// The product x -> a(b(x)); equal periods. Indices are reduced to (-period/2, period/2].
DiagonalMatrix Compose(const DiagonalMatrix& a, const DiagonalMatrix& b);
// Row j times factors[j]; factors.size() is a power-of-two multiple of the period, which the result
// takes over.
DiagonalMatrix ScaleRows(const DiagonalMatrix& matrix, std::span<const Complex> factors);
std::vector<Complex> ApplyPlain(const DiagonalMatrix& matrix, std::span<const Complex> x);
// The smallest power of two that is a period of the (power-of-two long) vector, by exact equality.
size_t SmallestPeriod(std::span<const Complex> values);

}  // namespace polyveil::circuits
