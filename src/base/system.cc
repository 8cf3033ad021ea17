#include "base/system.h"

#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/cgroup.h"

namespace polyveil {
namespace {

CgroupLimits OwnLimits() {
  std::ifstream in("/proc/self/cgroup");
  std::stringstream groups;
  groups << in.rdbuf();
  return ReadCgroupLimits(groups.str(), "/sys/fs/cgroup");
}

size_t AllowedCpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    const int count = CPU_COUNT(&set);
    if (count > 0) return static_cast<size_t>(count);
  }
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

size_t PeakRssBytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

size_t CurrentRssBytes() {
  std::ifstream statm("/proc/self/statm");
  size_t total_pages = 0, resident_pages = 0;
  if (!(statm >> total_pages >> resident_pages)) return 0;
  return resident_pages * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

std::string CpuName() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(':');
    if (colon != std::string::npos && colon + 2 < line.size()) return line.substr(colon + 2);
  }
  return "unknown";
}

size_t CpuCount() {
  const size_t allowed = AllowedCpus();
  const double granted = OwnLimits().cpus;
  if (granted <= 0) return allowed;
  return std::clamp<size_t>(static_cast<size_t>(std::ceil(granted)), 1, allowed);
}

u64 MemoryBytes() {
  const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGE_SIZE);
  const u64 machine = pages > 0 && page > 0 ? static_cast<u64>(pages) * static_cast<u64>(page) : 0;
  const u64 granted = OwnLimits().memory_bytes;
  if (granted == 0 || machine == 0) return std::max(granted, machine);
  return std::min(granted, machine);
}

u64 AvailableMemoryBytes() {
  std::ifstream info("/proc/meminfo");
  u64 machine = 0;
  for (std::string line; std::getline(info, line) && machine == 0;)
    if (line.rfind("MemAvailable:", 0) == 0) machine = std::stoull(line.substr(13)) * 1024;
  const u64 granted = OwnLimits().memory_bytes, used = CurrentRssBytes();
  if (granted == 0) return machine;
  const u64 left = granted > used ? granted - used : 0;
  return machine == 0 ? left : std::min(machine, left);
}

}  // namespace polyveil
