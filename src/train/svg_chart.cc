#include "train/svg_chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace polyveil::train {
namespace {

constexpr double kWidth = 460, kHeight = 300, kLeft = 62, kRight = 108, kTop = 30, kBottom = 44;
// Okabe and Ito's palette without yellow: told apart by every kind of eye.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                    "#56b4e9", "#8c6d1f", "#555555", "#e69f00"};
constexpr const char* kUnnamed = "#222222";  // series that stand in no legend

struct Axis {
  double lo = std::numeric_limits<double>::infinity(), hi = -lo;
  bool log = false;

  bool Shows(double x) const { return std::isfinite(x) && (!log || x > 0); }
  double Scaled(double x) const { return log ? std::log10(x) : x; }
  void Include(double x) {
    if (!Shows(x)) return;
    lo = std::min(lo, Scaled(x));
    hi = std::max(hi, Scaled(x));
  }
  void Widen(double share) {
    if (!(lo <= hi)) lo = 0, hi = 1;
    const double room = hi > lo ? share * (hi - lo) : std::max(0.5, 0.1 * std::abs(lo));
    lo -= room;
    hi += room;
  }
  double Position(double x, double begin, double end) const {
    return begin + (Scaled(x) - lo) / (hi - lo) * (end - begin);
  }
  // Round numbers inside the axis, four or so of them; powers of ten where decades are shown.
  std::vector<double> Ticks() const {
    if (log && hi - lo > 1) return Decades();
    const double from = log ? std::pow(10, lo) : lo, to = log ? std::pow(10, hi) : hi;
    const double rough = (to - from) / 4, unit = std::pow(10, std::floor(std::log10(rough)));
    const double step = unit * (rough / unit < 1.5 ? 1 : rough / unit < 3.5 ? 2 : 5);
    std::vector<double> ticks;
    for (double t = std::ceil(from / step) * step; t <= to + 1e-9 * step; t += step)
      ticks.push_back(std::abs(t) < 1e-12 * step ? 0 : t);
    return ticks;
  }
  std::vector<double> Decades() const {
    const double step = std::max(1.0, std::ceil((hi - lo) / 5));
    std::vector<double> ticks;
    for (double t = std::ceil(lo); t <= hi; t += step) ticks.push_back(std::pow(10, t));
    return ticks;
  }
};

class Drawing {
 public:
  explicit Drawing(const Chart& chart) : chart_(chart) {
    x_.log = chart.log_x;
    y_.log = chart.log_y;
    for (const ChartSeries& series : chart.series) {
      if (!series.thin && std::find(names_.begin(), names_.end(), series.name) == names_.end())
        names_.push_back(series.name);
      for (const auto& [x, y] : series.points)
        if (x_.Shows(x) && y_.Shows(y)) x_.Include(x), y_.Include(y);
    }
    if (!chart.x_names.empty()) x_.lo = 0, x_.hi = static_cast<double>(chart.x_names.size()) - 1;
    x_.Widen(chart.x_names.empty() ? 0.03 : 0.12);
    y_.Widen(0.06);
  }

  std::string Run() {
    out_ = fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", kWidth,
                       kHeight, Escaped(chart_.title));
    Text(kLeft, 18, "start", "title", chart_.title);
    Axes();
    for (const ChartSeries& series : chart_.series) Draw(series);
    Legend();
    return out_ + "</svg>\n";
  }

 private:
  double X(double x) const { return x_.Position(x, kLeft, kWidth - kRight); }
  double Y(double y) const { return y_.Position(y, kHeight - kBottom, kTop); }

  void Text(double x, double y, const char* anchor, const char* style, const std::string& text) {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" class=\"{}\">{}</text>",
                        x, y, anchor, style, Escaped(text));
  }
  void Line(double x1, double y1, double x2, double y2) {
    out_ += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>", x1, y1,
                        x2, y2);
  }

  void Axes() {
    for (const double tick : y_.Ticks()) {
      Line(kLeft, Y(tick), kWidth - kRight, Y(tick));
      Text(kLeft - 6, Y(tick) + 4, "end", "tick", fmt::format("{:.4g}", tick));
    }
    if (chart_.x_names.empty()) {
      for (const double tick : x_.Ticks())
        Text(X(tick), kHeight - kBottom + 16, "middle", "tick", fmt::format("{:.4g}", tick));
    } else {
      for (std::size_t i = 0; i < chart_.x_names.size(); ++i)
        Text(X(static_cast<double>(i)), kHeight - kBottom + 16, "middle", "tick",
             chart_.x_names[i]);
    }
    Text((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", "label", chart_.x_label);
    out_ += fmt::format(
        "<text transform=\"translate(14 {:.1f}) rotate(-90)\" "
        "text-anchor=\"middle\" class=\"label\">{}</text>",
        (kTop + kHeight - kBottom) / 2, Escaped(chart_.y_label));
  }

  void Draw(const ChartSeries& series) {
    const std::string colour = ChartColour(names_, series.name);
    std::string path, dots;
    for (const auto& [x, y] : series.points) {
      if (!x_.Shows(x) || !y_.Shows(y)) continue;
      path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", X(x), Y(y));
      dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.2\" fill=\"{}\"/>", X(x), Y(y),
                          colour);
    }
    if (series.line)
      out_ += fmt::format(
          "<path d=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" opacity=\"{}\"/>", path,
          colour, series.thin ? 1 : 2, series.thin ? 0.35 : 1);
    if (!series.line || (series.points.size() <= 12 && !series.thin)) out_ += dots;
  }

  // Beside the plot, where it hides nothing.
  void Legend() {
    const double x = kWidth - kRight + 8;
    double y = kTop + 8;
    for (const std::string& name : names_) {
      out_ += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"9\" height=\"9\" fill=\"{}\"/>",
                          x, y - 8, ChartColour(names_, name));
      Text(x + 13, y, "start", "legend", name);
      y += 14;
    }
  }

  const Chart& chart_;
  Axis x_, y_;
  std::vector<std::string> names_;
  std::string out_;
};

}  // namespace

std::string ToSvg(const Chart& chart) { return Drawing(chart).Run(); }

std::string ChartColour(const std::vector<std::string>& names, const std::string& name) {
  const auto at = std::find(names.begin(), names.end(), name) - names.begin();
  if (at == static_cast<std::ptrdiff_t>(names.size())) return kUnnamed;
  return kColours[static_cast<std::size_t>(at) % std::size(kColours)];
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace polyveil::train
