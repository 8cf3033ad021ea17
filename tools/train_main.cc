// polyveil-train: prepare data, train, evaluate, export. Thin: everything is in src/train.
#include "train/cli.h"
#ifdef POLYVEIL_RELEASED
#include "train/distil/cli.h"
#endif
#include <malloc.h>

#include "version.h"

namespace polyveil::train {
namespace {

Command Describe(Options& app) {
  return AddVerbs(
      app, {{"prepare", "texts become a tokenizer and token streams", DescribePrepare},
            {"run", "train a model from a configuration", DescribeRun},
            {"eval", "held-out perplexities of checkpoints", DescribeEval},
            {"ranges", "ranges of the polynomials' inputs on held-out text", DescribeRanges},
            {"convert", "make a trained model polynomial", DescribeConvert},
#ifdef POLYVEIL_RELEASED
            {"distil", "make a released model polynomial", DescribeDistil},
#endif
            {"study", "train and compare variants of a configuration", DescribeStudy},
            {"search", "look for inputs that leave an interval", DescribeSearch},
            {"baseline", "approximate a softmax model directly, as a bundle", DescribeBaseline},
            {"export", "write a polynomial model as a bundle", DescribeExport},
            {"sample", "continuations by a bundle's float64 model", DescribeSample}});
}

}  // namespace
}  // namespace polyveil::train

int main(int argc, char** argv) {
  // Freed tensors are what the next step asks for again: given back to the system, their pages
  // would be made and cleared anew, about a tenth of a step.
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, -1);
  return polyveil::RunProgram({"polyveil-train", "polyveil-train: the trainer of polyveil's models",
                               POLYVEIL_VERSION " " POLYVEIL_COMMIT},
                              argc, argv, polyveil::train::Describe);
}
