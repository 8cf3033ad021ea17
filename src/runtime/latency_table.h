// Where the time of encrypted steps went.
#pragma once

#include <string>
#include <vector>

namespace polyveil::runtime {

// Seconds by component ("norm", "scores", "bootstrap", ...) and by primitive ("rotate", "multiply",
// "encode", ...). Either list adds up to total_seconds: what no row covers stands in the row
// "other".
struct LatencyTable {
  struct Row {
    std::string name;
    int count = 0;
    double seconds = 0;
  };
  std::vector<Row> components, primitives;
  double total_seconds = 0;
  int steps = 0;

  void AddComponent(const std::string& name, double seconds) {
    AddRow(components, name, 1, seconds);
  }
  void AddPrimitive(const std::string& name, double seconds) {
    AddRow(primitives, name, 1, seconds);
  }
  // Closes a step of this length: adds the remainders.
  void FinishStep(double seconds);
  void Merge(const LatencyTable& other);

 private:
  static void AddRow(std::vector<Row>& rows, const std::string& name, int count, double seconds);
};

}  // namespace polyveil::runtime
