#include "runtime/latency_table.h"

#include <algorithm>

namespace polyveil::runtime {

namespace {

constexpr const char* kOther = "other";

double Sum(const std::vector<LatencyTable::Row>& rows) {
  double sum = 0;
  for (const LatencyTable::Row& row : rows) sum += row.seconds;
  return sum;
}

}  // namespace

void LatencyTable::AddRow(std::vector<Row>& rows, const std::string& name, int count,
                          double seconds) {
  auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.name == name; });
  if (row == rows.end()) row = rows.insert(rows.end(), Row{name, 0, 0});
  row->count += count;
  row->seconds += seconds;
}

void LatencyTable::FinishStep(double seconds) {
  total_seconds += seconds;
  ++steps;
  AddRow(components, kOther, 0, total_seconds - Sum(components));
  AddRow(primitives, kOther, 0, total_seconds - Sum(primitives));
}

void LatencyTable::Merge(const LatencyTable& other) {
  for (const Row& row : other.components) AddRow(components, row.name, row.count, row.seconds);
  for (const Row& row : other.primitives) AddRow(primitives, row.name, row.count, row.seconds);
  total_seconds += other.total_seconds;
  steps += other.steps;
}

}  // namespace polyveil::runtime
