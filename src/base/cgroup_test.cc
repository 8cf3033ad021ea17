#include "base/cgroup.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

namespace polyveil {
namespace {

class Cgroup : public testing::Test {
 protected:
  Cgroup() {
    std::string folder = testing::TempDir() + "cgroup-XXXXXX";
    root_ = mkdtemp(folder.data());
  }
  ~Cgroup() override { std::filesystem::remove_all(root_); }

  void Put(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = root_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << text << "\n";
  }
  CgroupLimits Read(const std::string& groups) const { return ReadCgroupLimits(groups, root_); }

  std::string root_;
};

TEST_F(Cgroup, NothingThereIsNoLimit) {
  for (const char* groups : {"", "0::/\n", "nonsense\n:\n::\n", "4:memory:/a/b\n1:cpu:/\n"}) {
    EXPECT_EQ(Read(groups).cpus, 0) << groups;
    EXPECT_EQ(Read(groups).memory_bytes, 0u) << groups;
  }
  Put("cpu.max", "max 100000");
  Put("memory.max", "max");
  EXPECT_EQ(Read("0::/\n").cpus, 0);
  EXPECT_EQ(Read("0::/\n").memory_bytes, 0u);
}

TEST_F(Cgroup, Version2TakesTheLeastOfAllAround) {
  Put("a/cpu.max", "150000 100000");
  Put("a/b/cpu.max", "max 100000");
  Put("a/b/c/cpu.max", "400000 100000");
  Put("a/memory.max", "3000000000");
  Put("a/b/memory.max", "2000000000");
  Put("a/b/c/memory.max", "max");
  EXPECT_EQ(Read("0::/a/b/c\n").cpus, 1.5);
  EXPECT_EQ(Read("0::/a/b/c\n").memory_bytes, 2'000'000'000u);
  EXPECT_EQ(Read("0::/a\n").memory_bytes, 3'000'000'000u);
  // A container sees its own group as the root, whatever /proc says.
  Put("memory.max", "1000000000");
  EXPECT_EQ(Read("0::/elsewhere/on/the/host\n").memory_bytes, 1'000'000'000u);
}

TEST_F(Cgroup, Version1) {
  Put("memory/docker/x/memory.limit_in_bytes", "500000000");
  Put("memory/memory.limit_in_bytes", "9223372036854771712");  // none
  Put("cpu,cpuacct/docker/x/cpu.cfs_quota_us", "50000");
  Put("cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000");
  Put("cpu,cpuacct/cpu.cfs_quota_us", "-1");
  Put("cpu,cpuacct/cpu.cfs_period_us", "100000");
  const std::string groups = "9:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n3:cpuset:/\n0::/\n";
  EXPECT_EQ(Read(groups).memory_bytes, 500'000'000u);
  EXPECT_EQ(Read(groups).cpus, 0.5);
  Put("cpu/cpu.cfs_quota_us", "20000");  // the controller's own name, as links have it
  Put("cpu/cpu.cfs_period_us", "100000");
  EXPECT_EQ(Read(groups).cpus, 0.2);
}

TEST_F(Cgroup, FilesOfNonsenseAreNoLimit) {
  for (const char* text : {"", "x", "-5", "1e3", "99999999999999999999999", "0"}) {
    Put("memory.max", text);
    Put("cpu.max", std::string(text) + " " + text);
    EXPECT_EQ(Read("0::/\n").memory_bytes, 0u) << text;
    EXPECT_EQ(Read("0::/\n").cpus, 0) << text;
  }
}

}  // namespace
}  // namespace polyveil
