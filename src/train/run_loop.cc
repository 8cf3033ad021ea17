#include "train/run_loop.h"

#include "base/interrupt.h"

namespace polyveil::train {

Result<bool> RunSteps(const Intervals &intervals, const std::int64_t &step, std::int64_t end,
                      const StepHooks &hooks) {
  const OrderlyEnd orderly(0);
  while (step < end) {
    PV_RETURN_IF_ERROR(hooks.step());
    if (hooks.stopped()) {
      PV_RETURN_IF_ERROR(hooks.save());
      return false;
    }
    if (IsDue(intervals.log_every, step) || step == end) PV_RETURN_IF_ERROR(hooks.report());
    if (IsDue(intervals.eval_every, step)) PV_RETURN_IF_ERROR(hooks.evaluate());
    if (IsDue(intervals.checkpoint_every, step)) PV_RETURN_IF_ERROR(hooks.save());
  }
  return true;
}

}  // namespace polyveil::train
