// make_random_model DIR [SEED [CONTEXT [NORM_END [RUNS]]]]: a bundle of random weights that fits
// the rings for tests. RUNS 0: without tables of runs of tokens.
#include <cstdlib>

#include "support/random_bundle.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: make_random_model DIR [SEED [CONTEXT [NORM_END [RUNS]]]]\n");
    return 2;
  }
  polyveil::testing::RandomModelShape shape;
  if (argc > 3) shape.context = std::atoi(argv[3]);
  if (argc > 4) shape.norm_end = std::atof(argv[4]);
  return polyveil::testing::WriteRandomBundle(argv[1],
                                              argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1,
                                              shape, argc <= 5 || std::atoi(argv[5]) != 0);
}
