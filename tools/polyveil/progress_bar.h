// A live bar on a terminal; elsewhere a line from time to time.
#pragma once

#include <string>
#include <string_view>

#include "base/system.h"

namespace polyveil::tools {

class ProgressBar {
 public:
  // Writes to stderr. expected_seconds: the estimate, for the time left before anything is known.
  ProgressBar(std::string title, double expected_seconds);
  ~ProgressBar() { Clear(); }

  // fraction in [0, 1]; label: what runs now.
  void Update(double fraction, std::string_view label);
  void Clear();
  double seconds() const { return timer_.Seconds(); }

 private:
  double SecondsLeft(double fraction) const;
  std::string Line(double fraction, std::string_view label) const;

  const std::string title_;
  const double expected_seconds_;
  const bool terminal_;
  Timer timer_;
  double last_seconds_ = -1e9;
  bool drawn_ = false;
};

}  // namespace polyveil::tools
