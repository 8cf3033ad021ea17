// The benchmark itself, on a ring that is too small for numbers that mean anything.
#include "bench/engine_bench.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bench/targets.h"

namespace polyveil::bench {
namespace {

EngineBenchOptions Options() {
  EngineBenchOptions options;
  options.parameters = {ckks::Parameters::Create(ckks::FindParameters("test11").value()).value()};
  options.quick = true;
  return options;
}

TEST(EngineBench, MeasuresEveryRowThatNeedsNoModel) {
  const auto report = RunEngineBench(Options());
  ASSERT_TRUE(report.ok()) << report.error().message;
  for (const Target& target : Targets()) {
    // Those bootstraps need other parameters.
    if (target.id.starts_with("demo_") || target.id.starts_with("bootstrap_")) continue;
    const auto row = std::find_if(report->rows.begin(), report->rows.end(), [&](const Row& r) {
      return r.id == target.id && r.threads == target.threads;
    });
    ASSERT_NE(row, report->rows.end()) << target.id;
    EXPECT_GT(row->measured.seconds, 0) << target.id;
    EXPECT_GT(row->measured.cpu_seconds, 0) << target.id;
    EXPECT_LE(row->measured.least_seconds, row->measured.seconds) << target.id;
    EXPECT_EQ(FindTarget(*row)->target, target.target);
  }
  EXPECT_TRUE(std::any_of(report->rows.begin(), report->rows.end(),
                          [](const Row& row) { return row.id == "bootstrap_demo"; }));
  ASSERT_EQ(report->ceilings.size(), 2u);
  EXPECT_GT(report->ceilings[0].read_bytes, 1e8);
}

// A floor that the measurement beats would be wrong (the ceiling's own noise aside).
TEST(EngineBench, FloorsAreBelowMeasurements) {
  const auto report = RunEngineBench(Options());
  ASSERT_TRUE(report.ok());
  for (const Row& row : report->rows) {
    if (row.threads != 1 || row.work.butterflies == 0) continue;
    EXPECT_LT(FloorSeconds({row.work.butterflies, row.work.products, 0}, report->ceilings[0]),
              1.3 * row.measured.seconds)
        << row.id;
  }
}

TEST(EngineBench, Errors) {
  EXPECT_EQ(RunEngineBench({}).error().code, ErrorCode::kInvalidArgument);
  EngineBenchOptions options = Options();
  options.cancelled = [] { return true; };
  EXPECT_EQ(RunEngineBench(options).error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace polyveil::bench
