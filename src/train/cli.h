// The commands of polyveil-train, so that `polyveil train` can offer the same ones.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "base/result.h"

namespace polyveil::train {

// prepare --data STORIES --out FOLDER [--vocab N] [--heldout PERCENT]
// run --config FILE --data FOLDER --out RUNS [--resume] [--stop-after N]
// eval --data FOLDER [--train-batches N] CHECKPOINT...
//                       held-out perplexities; escapes of polynomial models, N training batches too
// ranges --data FOLDER CHECKPOINT              ranges seen on held-out text
// convert --checkpoint FILE --data FOLDER --out RUNS [--name NAME] [--margin R] [--norm-error E]
//         [--divisor-error E] [--activation-error E] [--depth LEVELS] [--family NAME] [--batches N]
//         [--json FILE]   approximations by depth and error budget, what they do to held-out text
// study --config FILE [--quick] [--estimate] --data FOLDER --out FOLDER
//                                              trains and compares variants; study.json, study.html
// baseline --checkpoint SOFTMAX --data FOLDER [--kind exponential|normalise-square] [--margin R]
//          [--error E] [--windows N] [--out models/NAME]
//                                              softmax approximated directly, as a bundle
// export --checkpoint FILE --data FOLDER --out models/NAME
// sample --model models/NAME [--tokens N] [--temperature T] [--top-p P] [--seed S] PROMPT...
//                                              continuations by the float64 polynomial model
// Writes progress and results to `out`. Errors: kInvalidArgument for a wrong command line.
Status RunTrainCommand(const std::vector<std::string>& arguments, std::FILE* out);

}  // namespace polyveil::train
