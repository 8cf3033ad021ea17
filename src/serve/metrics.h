// Counters, gauges and histograms as Prometheus reads them (text format 0.0.4).
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/int_types.h"

namespace polyveil::serve {

// `labels` is what stands between the braces: R"(code="200")"; texts of a peer are none, since each
// set of labels is kept for good.
class Metrics {
 public:
  void Count(std::string_view name, const std::string& labels = "", double more = 1);
  void Set(std::string_view name, const std::string& labels, double value);
  // Into buckets of 1, 3, 10, 30 ... 10^4 times a millisecond.
  void Observe(std::string_view name, const std::string& labels, double seconds);
  // Families by name; those of HELP texts only.
  void Describe(std::string_view name, std::string help);
  std::string Text() const;

 private:
  static constexpr int kBuckets = 15;  // the last is +Inf
  enum class Kind { kCounter, kGauge, kHistogram };
  struct Value {
    double value = 0;  // of a histogram: the sum
    u64 buckets[kBuckets] = {};
  };
  struct Family {
    Kind kind = Kind::kCounter;
    std::string help;
    std::map<std::string, Value> values;
  };
  Value& Find(std::string_view name, const std::string& labels, Kind kind);
  static double Bound(int bucket);

  mutable std::mutex mutex_;
  std::map<std::string, Family, std::less<>> families_;  // guarded by mutex_
};

}  // namespace polyveil::serve
