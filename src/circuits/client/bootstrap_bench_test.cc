#include "circuits/client/bootstrap_bench.h"

#include <gtest/gtest.h>

namespace polyveil::circuits {
namespace {

BootstrapBenchOptions Options(const BootstrapSpec& spec, int runs) {
  return {ckks::Parameters::Create(ckks::FindParameters("test10").value()).value(),
          spec,
          {.count = runs}};
}

TEST(BootstrapBench, FillsTheReport) {
  for (const bool complex_slots : {false, true}) {
    const auto report = RunBootstrapBench(Options({6, complex_slots}, 6));
    ASSERT_TRUE(report.ok()) << report.error().message;
    EXPECT_TRUE(report->insecure);
    EXPECT_EQ(report->precision.size(), 6u);
    EXPECT_GE(report->worst_bits, 17);  // the bound of bootstrapper_test.cc is 17.9 at this size
    EXPECT_EQ(report->escapes, 0u);
    EXPECT_EQ(report->usable_levels, 15);
    EXPECT_GT(report->seconds, 0);
    EXPECT_GT(report->key_bytes, report->seeded_key_bytes);
    EXPECT_GT(report->key_count, 5);
    EXPECT_GT(report->plaintext_bytes, 0u);
    EXPECT_GT(report->peak_rss_bytes, 0u);
  }
}

TEST(BootstrapBench, Errors) {
  EXPECT_EQ(RunBootstrapBench(Options({6, false}, 0)).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(RunBootstrapBench(Options({12, false}, 1)).error().code, ErrorCode::kInvalidArgument);
  Progress progress;
  progress.Cancel();
  EXPECT_EQ(RunBootstrapBench(Options({6, false}, 1), &progress).error().code,
            ErrorCode::kCancelled);
}

}  // namespace
}  // namespace polyveil::circuits
