// The steps of a run, and what is due behind each.
#pragma once

#include <functional>

#include "base/result.h"
#include "train/train_config.h"

namespace polyveil::train {

struct StepHooks {
  std::function<Status()> step;   // counts the run's step up
  std::function<bool()> stopped;  // behind a signal
  std::function<Status()> report, evaluate, save;
};

// From `step`, which hooks.step counts up, to `end`, where it reports too. A
// signal waits for a step's end, a second one does not. Returns whether it came
// to the end; it saves where it did not.
Result<bool> RunSteps(const Intervals &intervals, const std::int64_t &step, std::int64_t end,
                      const StepHooks &hooks);

}  // namespace polyveil::train
