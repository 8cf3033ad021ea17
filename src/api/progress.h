// A caller's progress callback as the modules' Progress.
#pragma once

#include "base/progress.h"
#include "polyveil/ckks.h"

namespace polyveil {

// Hands what is done on, and the caller's wish to stop.
class Reporter {
 public:
  explicit Reporter(const OnProgress& on_progress)
      : progress_([this, &on_progress](const ProgressReport& report) {
          if (!on_progress || report.total == 0) return;
          const double done = static_cast<double>(report.done) / static_cast<double>(report.total);
          if (!on_progress(done)) progress_.Cancel();
        }) {}
  Progress* get() { return &progress_; }

 private:
  Progress progress_;
};

}  // namespace polyveil
