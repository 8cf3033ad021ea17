// Limits that a container or a service manager sets: control groups of Linux, version 1 and 2.
#pragma once

#include <string>
#include <string_view>

#include "base/int_types.h"

namespace polyveil {

struct CgroupLimits {
  double cpus = 0;       // processors' worth of time; 0: not limited
  u64 memory_bytes = 0;  // 0: not limited
};

// The least of the limits of a process's groups and of all groups around them. groups: the text of
// /proc/self/cgroup; root: where control groups are mounted. A group that is not visible there (a
// container sees its own as the root) is passed over.
CgroupLimits ReadCgroupLimits(std::string_view groups, const std::string& root);

}  // namespace polyveil
