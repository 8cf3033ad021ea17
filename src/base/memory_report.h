// What takes memory, by kind of object: names and bytes, filled in by who owns the objects.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/int_types.h"

namespace polyveil {

class MemoryReport {
 public:
  struct Entry {
    std::string name;
    size_t bytes = 0;
  };

  // Adds to the entry of this name, which is made when it is new. `pooled`: the bytes lie in
  // buffers of the buffer pool.
  void Add(std::string_view name, size_t bytes, bool pooled = true);
  // Ends the report with what the pool and the process know: buffers in use that nobody has
  // claimed (working values, and the rounding of sizes to the pool's classes), free buffers kept
  // for reuse, the process's peak.
  void Finish();

  // In order of their first Add.
  const std::vector<Entry>& entries() const { return entries_; }
  size_t BytesOf(std::string_view name) const;  // 0 when absent
  size_t pooled_bytes() const { return pooled_bytes_; }

  static constexpr char kWorking[] = "working buffers";
  static constexpr char kCached[] = "free buffers kept for reuse";
  static constexpr char kPeakRss[] = "process, peak resident";

 private:
  std::vector<Entry> entries_;
  size_t pooled_bytes_ = 0;
};

}  // namespace polyveil
