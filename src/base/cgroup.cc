#include "base/cgroup.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <vector>

namespace polyveil {
namespace {

constexpr u64 kNoLimit = u64{1} << 60;  // version 1 writes a number like this for none

// The first numbers of a file; none where it is missing or says "max" or -1.
std::vector<u64> ReadNumbers(const std::string& path) {
  std::vector<u64> numbers;
  std::ifstream in(path);
  for (std::string word; in >> word;) {
    u64 value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size()) break;
    numbers.push_back(value);
  }
  return numbers;
}

void LimitMemory(const std::string& file, CgroupLimits& limits) {
  const auto numbers = ReadNumbers(file);
  if (numbers.empty() || numbers[0] == 0 || numbers[0] >= kNoLimit) return;
  limits.memory_bytes =
      limits.memory_bytes == 0 ? numbers[0] : std::min(limits.memory_bytes, numbers[0]);
}

void LimitCpus(u64 quota, u64 period, CgroupLimits& limits) {
  if (quota == 0 || period == 0) return;
  const double cpus = static_cast<double>(quota) / static_cast<double>(period);
  limits.cpus = limits.cpus == 0 ? cpus : std::min(limits.cpus, cpus);
}

// One group's folder, whichever version's files it has.
void ReadFolder(const std::string& folder, CgroupLimits& limits) {
  LimitMemory(folder + "/memory.max", limits);
  LimitMemory(folder + "/memory.limit_in_bytes", limits);
  if (const auto numbers = ReadNumbers(folder + "/cpu.max"); numbers.size() == 2)
    LimitCpus(numbers[0], numbers[1], limits);
  const auto quota = ReadNumbers(folder + "/cpu.cfs_quota_us");
  const auto period = ReadNumbers(folder + "/cpu.cfs_period_us");
  if (!quota.empty() && !period.empty()) LimitCpus(quota[0], period[0], limits);
}

// The group and all around it, up to the mount's root.
void ReadUpwards(const std::string& mount, std::string group, CgroupLimits& limits) {
  while (!group.empty() && group != "/") {
    ReadFolder(mount + group, limits);
    group.erase(std::min(group.rfind('/'), group.size()));
  }
  ReadFolder(mount, limits);
}

bool Lists(std::string_view controllers, std::string_view wanted) {
  const std::string all = "," + std::string(controllers) + ",";
  return all.find("," + std::string(wanted) + ",") != std::string::npos;
}

}  // namespace

CgroupLimits ReadCgroupLimits(std::string_view groups, const std::string& root) {
  CgroupLimits limits;
  std::istringstream lines{std::string(groups)};
  for (std::string line; std::getline(lines, line);) {  // "4:cpu,cpuacct:/a/b" or "0::/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      for (const char* mount : {"", "/unified"}) ReadUpwards(root + mount, group, limits);
    } else if (Lists(controllers, "cpu") || Lists(controllers, "memory")) {
      ReadUpwards(root + "/" + controllers, group, limits);
      for (const char* one : {"cpu", "memory"})
        if (controllers != one && Lists(controllers, one))
          ReadUpwards(root + "/" + one, group, limits);
    }
  }
  return limits;
}

}  // namespace polyveil
