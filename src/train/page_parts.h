// Numbers and tables of a page made from JSON.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace polyveil::train {

// The number at a JSON pointer; NaN where there is none.
double Number(const nlohmann::ordered_json& json, const char* pointer);

struct Statistic {
  double mean = 0, deviation = 0;  // of the values; no number where one value shows none
  int count = 0;
};
// Over those that are finite.
Statistic Over(const std::vector<double>& values);

// The number in this format, a dash for none.
std::string Cell(double value, const char* format);
// 0 stands for a form without a divisor.
std::string Ratio(double value);

class Table {
 public:
  explicit Table(const std::vector<std::string>& heads) { Row(heads, "th"); }
  void Row(const std::vector<std::string>& cells, const char* tag = "td");
  std::string Html() const { return "<div class=\"table\"><table>\n" + rows_ + "</table></div>\n"; }

 private:
  std::string rows_;
};

}  // namespace polyveil::train
