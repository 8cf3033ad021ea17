#include "serve/metrics.h"

#include <fmt/format.h>

#include <cmath>

namespace polyveil::serve {

double Metrics::Bound(int bucket) {
  return 1e-3 * std::pow(10.0, bucket / 2) * (bucket % 2 == 0 ? 1 : 3);
}

Metrics::Value& Metrics::Find(std::string_view name, const std::string& labels, Kind kind) {
  auto found = families_.find(name);
  if (found == families_.end()) found = families_.emplace(std::string(name), Family{}).first;
  found->second.kind = kind;
  return found->second.values[labels];
}

void Metrics::Count(std::string_view name, const std::string& labels, double more) {
  const std::lock_guard lock(mutex_);
  Find(name, labels, Kind::kCounter).value += more;
}

void Metrics::Set(std::string_view name, const std::string& labels, double value) {
  const std::lock_guard lock(mutex_);
  Find(name, labels, Kind::kGauge).value = value;
}

void Metrics::Observe(std::string_view name, const std::string& labels, double seconds) {
  const std::lock_guard lock(mutex_);
  Value& value = Find(name, labels, Kind::kHistogram);
  value.value += seconds;
  int bucket = 0;
  while (bucket < kBuckets - 1 && seconds > Bound(bucket)) ++bucket;
  ++value.buckets[bucket];
}

void Metrics::Describe(std::string_view name, std::string help) {
  const std::lock_guard lock(mutex_);
  families_[std::string(name)].help = std::move(help);
}

std::string Metrics::Text() const {
  constexpr const char* kKinds[] = {"counter", "gauge", "histogram"};
  const std::lock_guard lock(mutex_);
  std::string text;
  for (const auto& [name, family] : families_) {
    if (family.values.empty()) continue;
    if (!family.help.empty()) text += fmt::format("# HELP {} {}\n", name, family.help);
    text += fmt::format("# TYPE {} {}\n", name, kKinds[static_cast<int>(family.kind)]);
    for (const auto& [labels, value] : family.values) {
      const std::string braced = labels.empty() ? "" : "{" + labels + "}";
      if (family.kind != Kind::kHistogram) {
        text += fmt::format("{}{} {}\n", name, braced, value.value);
        continue;
      }
      u64 count = 0;
      for (int bucket = 0; bucket < kBuckets; ++bucket) {
        count += value.buckets[bucket];
        text += fmt::format(
            "{}_bucket{{{}{}le=\"{}\"}} {}\n", name, labels, labels.empty() ? "" : ",",
            bucket + 1 < kBuckets ? fmt::format("{:.6g}", Bound(bucket)) : "+Inf", count);
      }
      text += fmt::format("{0}_sum{1} {2}\n{0}_count{1} {3}\n", name, braced, value.value, count);
    }
  }
  return text;
}

}  // namespace polyveil::serve
