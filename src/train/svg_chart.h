// Charts as inline SVG: lines and points on linear or logarithmic axes. Enough for a report, no
// more.
#pragma once

#include <string>
#include <vector>

namespace polyveil::train {

struct ChartSeries {
  std::string name;  // the same name, the same colour; a legend entry each
  std::vector<std::pair<double, double>> points{};
  bool line = true;
  bool thin = false;  // one of many: pale, without a legend entry
};

struct Chart {
  std::string title, x_label, y_label;
  bool log_x = false, log_y = false;
  std::vector<std::string> x_names{};  // categories in the place of numbers: x = 0, 1, ...
  std::vector<ChartSeries> series{};
};

// <svg> of 460 x 300; points that are not finite (or not positive on a logarithmic axis) are left
// out.
std::string ToSvg(const Chart& chart);

// One colour a name, in the order of `names` (eight of them, then again); a name outside them is
// nearly black.
std::string ChartColour(const std::vector<std::string>& names, const std::string& name);

// &, <, > and quotes for HTML and SVG.
std::string Escaped(const std::string& text);

}  // namespace polyveil::train
