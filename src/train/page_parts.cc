#include "train/page_parts.h"

#include <fmt/format.h>

#include <cmath>

#include "train/svg_chart.h"

namespace polyveil::train {

double Number(const nlohmann::ordered_json& json, const char* pointer) {
  const nlohmann::ordered_json::json_pointer at(pointer);
  if (!json.contains(at) || !json.at(at).is_number()) return std::nan("");
  return json.at(at).get<double>();
}

Statistic Over(const std::vector<double>& values) {
  Statistic s;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    s.mean += v;
    ++s.count;
  }
  if (s.count == 0) return {std::nan(""), std::nan(""), 0};
  s.mean /= s.count;
  for (const double v : values)
    if (std::isfinite(v)) s.deviation += (v - s.mean) * (v - s.mean);
  s.deviation = s.count > 1 ? std::sqrt(s.deviation / (s.count - 1)) : std::nan("");
  return s;
}

std::string Cell(double value, const char* format) {
  return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : std::string("–");
}

std::string Ratio(double value) { return Cell(value > 0 ? value : std::nan(""), "{:.3g}"); }

void Table::Row(const std::vector<std::string>& cells, const char* tag) {
  rows_ += "<tr>";
  for (const std::string& cell : cells)
    rows_ += fmt::format("<{}>{}</{}>", tag, Escaped(cell), tag);
  rows_ += "</tr>\n";
}

}  // namespace polyveil::train
