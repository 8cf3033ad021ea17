#include "base/memory_report.h"

#include <algorithm>

#include "base/buffer.h"
#include "base/system.h"

namespace polyveil {

void MemoryReport::Add(std::string_view name, size_t bytes, bool pooled) {
  if (pooled) pooled_bytes_ += bytes;
  const auto entry = std::ranges::find(entries_, name, &Entry::name);
  if (entry != entries_.end())
    entry->bytes += bytes;
  else
    entries_.push_back({std::string(name), bytes});
}

void MemoryReport::Finish() {
  const buffer_pool::Stats stats = buffer_pool::GetStats();
  // Objects may come and go while the report is filled.
  Add(kWorking, stats.bytes_in_use > pooled_bytes_ ? stats.bytes_in_use - pooled_bytes_ : 0);
  Add(kCached, stats.bytes_cached, /*pooled=*/false);
  Add(kPeakRss, PeakRssBytes(), /*pooled=*/false);
}

size_t MemoryReport::BytesOf(std::string_view name) const {
  const auto entry = std::ranges::find(entries_, name, &Entry::name);
  return entry == entries_.end() ? 0 : entry->bytes;
}

}  // namespace polyveil
