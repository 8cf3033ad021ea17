#include "polyveil/bench_commands.h"

namespace polyveil::tools {

Command DescribeBench(Options& app) {
  return AddVerbs(
      app,
      {{"attention", "what variants of attention cost, side by side", DescribeBenchAttention},
       {"bootstrap", "precision, time, keys of a bootstrap", DescribeBenchBootstrap},
       {"engine", "every row of the performance table, beside the machine's ceilings",
        DescribeBenchEngine},
#ifdef POLYVEIL_RELEASED
       {"drafts", "what guessed tokens would save: how many are right, what a pass costs",
        DescribeBenchDrafts},
       {"layer", "one layer of a released model on ciphertexts: error, time by component, memory",
        DescribeBenchLayer},
#endif
       {"soak", "bootstraps for a given time: worst bits, escapes", DescribeBenchSoak}});
}

}  // namespace polyveil::tools
