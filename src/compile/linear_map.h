// A matrix between two layouts, given by diagonals that are made when they are needed: a program of
// a large model holds its matrices without their weights in memory.
#pragma once

#include <complex>
#include <functional>
#include <vector>

namespace polyveil::compile {

using Complex = std::complex<double>;

// y_s = sum_k diagonal(k)[s] x_(s + k stride), k = 0 .. terms - 1.
struct LinearMap {
  int terms = 1, stride = 1;
  // One value a slot. Thread-safe.
  std::function<std::vector<Complex>(int term)> diagonal;

  std::vector<int> Rotations() const {
    std::vector<int> rotations;
    for (int k = 0; k < terms; ++k) rotations.push_back(k * stride);
    return rotations;
  }
};

}  // namespace polyveil::compile
