#include "train/study_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "train/page_parts.h"
#include "train/study_tasks.h"
#include "train/svg_chart.h"

namespace polyveil::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kHead = R"(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:980px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ddd}
p.note{color:#555;max-width:70em}table{border-collapse:collapse;font-size:13px;margin:.6em 0}
div.table{overflow-x:auto}th,td{padding:3px 8px;text-align:right;border-bottom:1px solid #e6e6e6}td{white-space:nowrap}th:first-child,td:first-child{text-align:left}
th{border-bottom:2px solid #999}td.bad{color:#b00}.charts{display:flex;flex-wrap:wrap;gap:12px}
svg{width:460px;max-width:100%;height:auto}svg line{stroke:#e3e3e3}svg text{font:11px system-ui,sans-serif;fill:#333}
svg .title{font-size:13px;font-weight:600}svg .tick{fill:#666;font-size:10px}svg .legend{font-size:11px}
</style>)";

class Page {
 public:
  explicit Page(const Json& study) : study_(study) {
    for (const Json& run : study.at("runs")) {
      const std::string name = run.at("variant");
      if (!runs_.count(name)) order_.push_back(name);
      runs_[name].push_back(&run);
    }
    baseline_ = study.value("baseline", std::string());
  }

  std::string Run() {
    const std::string title = Escaped(study_.at("study").get<std::string>());
    out_ = fmt::format("{}<title>{}</title></head><body>\n<h1>{}</h1>\n", kHead, title, title);
    Overview();
    Curves();
    Attention();
    Tasks();
    Sensitivity();
    Sweeps();
    Pareto();
    Conversions();
    Stages();
    return out_ + "</body></html>\n";
  }

 private:
  std::vector<std::string> Group(const std::string& group) const {
    std::vector<std::string> out;
    for (const std::string& name : order_)
      if (runs_.at(name).front()->at("group") == group) out.push_back(name);
    return out;
  }
  std::vector<std::string> Groups() const {
    std::vector<std::string> out;
    for (const std::string& name : order_) {
      const std::string group = runs_.at(name).front()->at("group");
      if (std::find(out.begin(), out.end(), group) == out.end()) out.push_back(group);
    }
    return out;
  }
  bool AnyRunHas(const char* field) const {
    for (const Json& run : study_.at("runs"))
      if (run.contains(field)) return true;
    return false;
  }
  Statistic Of(const std::string& variant, const char* pointer) const {
    std::vector<double> values;
    for (const Json* run : runs_.at(variant)) values.push_back(Number(*run, pointer));
    return Over(values);
  }
  // Seed by seed against the baseline, where both have the seed: the seeds' own spread drops out.
  Statistic Change(const std::string& variant) const {
    std::vector<double> values;
    if (!runs_.count(baseline_)) return Over(values);
    for (const Json* run : runs_.at(variant))
      for (const Json* other : runs_.at(baseline_))
        if (run->at("seed") == other->at("seed"))
          values.push_back(100 * (Number(*run, "/perplexity") / Number(*other, "/perplexity") - 1));
    return Over(values);
  }
  int Diverged(const std::string& variant) const {
    int count = 0;
    for (const Json* run : runs_.at(variant)) count += run->contains("diverged");
    return count;
  }

  void Heading(const char* title, const char* note) {
    out_ += fmt::format("<h2>{}</h2>\n<p class=\"note\">{}</p>\n", title, note);
  }
  void Charts(const std::vector<Chart>& charts) {
    out_ += "<div class=\"charts\">\n";
    for (const Chart& chart : charts) out_ += ToSvg(chart);
    out_ += "</div>\n";
  }

  void VariantTable(const std::vector<std::string>& names) {
    Table table({"variant", "seeds", "diverged", "perplexity", "± sd", "against baseline", "± sd",
                 "divisor's range", "0.1–99.9%", "variances' range", "largest score"});
    for (const std::string& name : names) {
      const Statistic perplexity = Of(name, "/perplexity");
      table.Row({name, std::to_string(runs_.at(name).size()), std::to_string(Diverged(name)),
                 Cell(perplexity.mean, "{:.3f}"), Cell(perplexity.deviation, "{:.3f}"),
                 Cell(Change(name).mean, "{:+.2f}%"), Cell(Change(name).deviation, "{:.2f}"),
                 Ratio(Of(name, "/ranges/divisor_ratio").mean),
                 Ratio(Of(name, "/ranges/divisor_ratio_trimmed").mean),
                 Cell(Of(name, "/ranges/variance_ratio").mean, "{:.3g}"),
                 Cell(Of(name, "/ranges/largest_score").mean, "{:.3g}")});
    }
    out_ += table.Html();
  }

  void Overview() {
    const Json& base = study_.at("base");
    const Json* any = runs_.empty() ? nullptr : runs_.at(order_.front()).front();
    out_ += fmt::format(
        "<p class=\"note\">{} parameters, {} tokens a run, width {}, context {}. Held-out "
        "perplexity of stories; ranges are largest over smallest, the widest of all layers and "
        "heads, means over seeds, without any margin.</p>\n",
        any ? Cell(Number(*any, "/parameters"), "{:.0f}") : "–",
        any ? Cell(Number(*any, "/tokens"), "{:.0f}") : "–",
        Cell(Number(base, "/shape/d_model"), "{:.0f}"),
        Cell(Number(base, "/shape/context"), "{:.0f}"));
    Heading("Twins", "Same data, order, steps and seeds; they differ in the form of attention.");
    VariantTable(Group("twins"));
  }

  void Curves() {
    Heading("Loss while training", "Pale lines are single seeds, strong ones their means.");
    Chart chart{"Training loss", "step", "nats a token"};
    for (const std::string& name : Group("twins")) {
      std::map<double, std::vector<double>> by_step;
      for (const Json* run : runs_.at(name)) {
        ChartSeries single{name, {}, true, true};
        for (const Json& point : run->at("curve")) {
          single.points.emplace_back(point[0], point[1]);
          by_step[point[0]].push_back(point[1]);
        }
        chart.series.push_back(std::move(single));
      }
      ChartSeries mean{name};
      for (const auto& [step, values] : by_step) mean.points.emplace_back(step, Over(values).mean);
      chart.series.push_back(std::move(mean));
    }
    Charts({chart});
  }

  void Attention() {
    Heading(
        "What attention does",
        "One dot a layer and head, seeds averaged; lines join the layers' means. Rows of weights "
        "are scaled to sum 1 first. Entropy 1 is uniform; sparsity is the share of keys below a "
        "tenth of the uniform weight; induction is the weight on what followed the last "
        "occurrence of the token in repeated random text.");
    std::vector<Chart> charts;
    for (const char* metric :
         {"entropy", "sparsity", "distance", "diagonal", "previous", "induction"}) {
      Chart chart{metric, "layer", metric};
      for (const std::string& name : Group("twins")) AddHeads(name, metric, chart);
      charts.push_back(std::move(chart));
    }
    Charts(charts);
  }

  void AddHeads(const std::string& variant, const char* metric, Chart& chart) const {
    std::map<std::pair<int, int>, std::vector<double>> heads;
    std::map<int, std::vector<double>> layers;
    for (const Json* run : runs_.at(variant)) {
      if (!run->contains("attention")) continue;
      for (const Json& head : run->at("attention")) {
        heads[{head.at("layer"), head.at("head")}].push_back(head.at(metric));
        layers[head.at("layer")].push_back(head.at(metric));
      }
    }
    ChartSeries dots{variant, {}, false}, means{variant, {}, true, true};
    for (const auto& [at, values] : heads) dots.points.emplace_back(at.first, Over(values).mean);
    for (const auto& [layer, values] : layers) {
      means.points.emplace_back(layer, Over(values).mean);
      if (static_cast<int>(chart.x_names.size()) <= layer)
        chart.x_names.push_back(std::to_string(layer));
    }
    chart.series.push_back(std::move(means));
    chart.series.push_back(std::move(dots));
  }

  void Tasks() {
    Heading(
        "In-context tasks",
        "Share of predictable positions whose likeliest token is right, on fresh sequences. The "
        "best possible is 1 (n-gram: 0.9). Minimal pairs: the share whose right sentence is the "
        "likelier, the mean of all sets; chance is 0.5.");
    std::vector<std::string> names = {"variant"};
    std::vector<std::string> tasks;
    for (const Task task : kTasks) tasks.push_back(TaskName(task));
    for (const std::string& task : tasks) names.insert(names.end(), {task, "± sd"});
    const bool pairs = AnyRunHas("pairs");
    if (pairs) names.insert(names.end(), {"minimal pairs", "± sd"});
    Table table(names);
    Chart chart{"Accuracy", "task", "share right"};
    chart.x_names = tasks;
    for (const std::string& name : Group("twins")) {
      std::vector<std::string> row = {name};
      ChartSeries series{name, {}, false};  // tasks have no order that a line could follow
      for (std::size_t i = 0; i < tasks.size(); ++i) {
        const Statistic s = Of(name, ("/tasks/" + tasks[i]).c_str());
        row.insert(row.end(), {Cell(s.mean, "{:.3f}"), Cell(s.deviation, "{:.3f}")});
        series.points.emplace_back(static_cast<double>(i), s.mean);
      }
      const Statistic s = Of(name, "/pairs/accuracy");
      if (pairs) row.insert(row.end(), {Cell(s.mean, "{:.3f}"), Cell(s.deviation, "{:.3f}")});
      table.Row(row);
      chart.series.push_back(std::move(series));
    }
    out_ += table.Html();
    Charts({chart});
  }

  // A list of numbers of every run, averaged over seeds.
  ChartSeries Averaged(const std::string& variant, const char* field,
                       const std::vector<double>& xs) const {
    ChartSeries series{variant};
    for (std::size_t i = 0; i < xs.size(); ++i)
      series.points.emplace_back(xs[i], Of(variant, fmt::format("/{}/{}", field, i).c_str()).mean);
    return series;
  }

  void Sensitivity() {
    Heading(
        "Sensitivity to length and to the scale of scores",
        "Nats a token by the position in the context (octaves), and with every query multiplied "
        "by a factor that training has not seen.");
    Chart position{"By position", "first position of the octave", "nats a token"};
    position.log_x = true;
    Chart scale{"By score scale", "factor", "nats a token"};
    scale.log_x = true;
    for (const std::string& name : Group("twins")) {
      const Json& first = *runs_.at(name).front();
      if (!first.contains("nats_by_position")) continue;
      std::vector<double> xs;
      for (std::size_t i = 0; i < first.at("nats_by_position").size(); ++i)
        xs.push_back(i == 0 ? 4 : 4 * std::pow(2.0, static_cast<double>(i)));
      position.series.push_back(Averaged(name, "nats_by_position", xs));
      scale.series.push_back(Averaged(name, "nats_by_score_scale",
                                      first.at("score_scales").get<std::vector<double>>()));
    }
    Charts({position, scale});
  }

  void Sweeps() {
    for (const std::string& group : Groups()) {
      if (group == "twins" || runs_.at(Group(group).front()).front()->contains("behind")) continue;
      Heading(Escaped("Sweep: " + group).c_str(), "One setting varied, the rest as the twins.");
      VariantTable(Group(group));
    }
  }

  // Twins stand for themselves, a sweep's variants for their group: as many colours as there are.
  std::string Label(const std::string& name) const {
    const std::string group = runs_.at(name).front()->at("group");
    return group == "twins" ? name : group;
  }

  // The points that no other beats in both, joined.
  static ChartSeries Front(const std::vector<ChartSeries>& clouds) {
    std::vector<std::pair<double, double>> points;
    for (const ChartSeries& cloud : clouds)
      for (const auto& point : cloud.points)
        if (point.first > 0 && std::isfinite(point.second)) points.push_back(point);
    std::sort(points.begin(), points.end());
    ChartSeries front{"front", {}, true, true};
    for (const auto& point : points)
      if (front.points.empty() || point.second < front.points.back().second)
        front.points.push_back(point);
    return front;
  }

  // What one run far from all others would flatten.
  static void LeaveOutFar(Chart& chart) {
    double least = INFINITY;
    for (const ChartSeries& series : chart.series)
      for (const auto& [x, y] : series.points)
        if (std::isfinite(y)) least = std::min(least, y);
    for (ChartSeries& series : chart.series)
      std::erase_if(series.points, [&](const auto& point) {
        return !(point.first <= 1e5) || !(point.second <= 1.5 * least);
      });
  }

  // Of the stage's sites whose name holds `what`: the largest of f(site).
  template <typename F>
  static double Worst(const Json& stage, const char* what, F f) {
    double worst = std::nan("");
    for (const Json& site : stage.at("escapes").at("sites"))
      if (site.at("site").get<std::string>().find(what) != std::string::npos)
        worst = std::fmax(worst, f(site));
    return worst;
  }

  static double Width(const Json& site) {
    return Number(site, "/interval/1") / Number(site, "/interval/0");
  }

  // Where the runs of one variant stand: (range or levels, perplexity).
  struct Points {
    ChartSeries range, interval, levels;
  };
  void AddPoints(const Json& run, Points& points) const {
    const double ratio = Number(run, "/ranges/divisor_ratio");
    if (ratio > 0) points.range.points.emplace_back(ratio, Number(run, "/perplexity"));
    for (const Json& c : run.value("conversions", Json::array()))
      points.levels.points.emplace_back(Number(c, "/levels"),
                                        Number(c, "/effect/polynomial_perplexity"));
    if (!run.contains("polynomial") || run.at("polynomial").contains("diverged")) return;
    const Json& stage = run.at("polynomial");
    const double perplexity = Number(stage, "/perplexity");
    points.levels.points.emplace_back(Number(stage, "/levels"), perplexity);
    points.interval.points.emplace_back(Worst(stage, "divisor", Width), perplexity);
  }

  void Pareto() {
    Heading(
        "Perplexity against range and against levels",
        "Every run of every variant, a colour for each sweep; the pale line joins the runs that no "
        "other beats in both. Intervals: the widest of a divisor, margin included, of stages that "
        "train on through polynomials. Levels: the longest path of the deepest layer in the decode "
        "program, with the polynomials of each error budget and of those stages. Ranges above "
        "10^5, and perplexities half again above the least, stand in the tables alone.");
    Chart range{"Against the divisor's range", "range (largest / smallest)", "perplexity"};
    Chart interval{"Against the divisors' interval", "b / a", "perplexity, polynomial"};
    range.log_x = interval.log_x = true;
    Chart levels{"Against levels a block", "levels", "perplexity, polynomial"};
    for (const std::string& name : order_) {
      const ChartSeries empty{Label(name), {}, false};
      Points points{empty, empty, empty};
      for (const Json* run : runs_.at(name)) AddPoints(*run, points);
      for (auto [chart, series] : {std::pair{&range, &points.range},
                                   {&interval, &points.interval},
                                   {&levels, &points.levels}})
        if (!series->points.empty()) chart->series.push_back(std::move(*series));
    }
    for (Chart* chart : {&range, &interval, &levels}) {
      LeaveOutFar(*chart);
      chart->series.push_back(Front(chart->series));
    }
    Charts({range, interval, levels});
  }

  // Run by run, so that a seed without a number drops out on both sides.
  Statistic AgainstParent(const std::string& variant, std::size_t budget) const {
    std::vector<double> values;
    for (const Json* run : runs_.at(variant)) {
      const std::string effect = fmt::format("/conversions/{}/effect", budget);
      values.push_back(100 * (Number(*run, (effect + "/polynomial_perplexity").c_str()) /
                                  Number(*run, (effect + "/parent_perplexity").c_str()) -
                              1));
    }
    return Over(values);
  }

  // Seeds whose conversion was refused, or whose polynomials gave no number.
  std::string Unusable(const std::string& variant, std::size_t budget, bool exploded) const {
    int count = 0;
    for (const Json* run : runs_.at(variant)) {
      if (!run->contains("conversions")) continue;
      const Json& conversion = run->at("conversions").at(budget);
      const bool refused = conversion.contains("refused");
      count += exploded
                   ? !refused && !std::isfinite(Number(conversion, "/effect/polynomial_perplexity"))
                   : refused;
    }
    return std::to_string(count);
  }

  void Conversions() {
    Heading("The polynomial against its parent",
            "Means over the seeds that gave a number; the others are counted: refused where no "
            "approximation fits, exploded where an input so far outside its interval came that the "
            "loss is none. KL is from the parent's distribution, by position; escapes are inputs "
            "outside their interval on all held-out text.");
    Table table({"variant", "budget", "refused", "exploded", "levels", "perplexity",
                 "against parent", "mean KL", "worst KL", "another argmax", "escapes",
                 "positions hit", "worst ratio"});
    for (const std::string& name : order_) {
      const Json& first = *runs_.at(name).front();
      if (!first.contains("conversions")) continue;
      for (std::size_t i = 0; i < first.at("conversions").size(); ++i) {
        const auto of = [&](const char* what) {
          return Of(name, fmt::format("/conversions/{}/{}", i, what).c_str()).mean;
        };
        table.Row({name, Cell(of("budget"), "{:.3g}"), Unusable(name, i, false),
                   Unusable(name, i, true), Cell(of("levels"), "{:.1f}"),
                   Cell(of("effect/polynomial_perplexity"), "{:.3f}"),
                   Cell(AgainstParent(name, i).mean, "{:+.3f}%"),
                   Cell(of("effect/all_positions/mean_kl"), "{:.2e}"),
                   Cell(of("effect/all_positions/worst_kl"), "{:.2e}"),
                   Cell(of("effect/all_positions/other_argmax"), "{:.0f}"),
                   Cell(of("effect/escapes/escapes"), "{:.1f}"),
                   Cell(of("effect/positions_with_escapes/positions"), "{:.1f}"),
                   Cell(of("effect/escapes/worst_ratio"), "{:.3f}")});
      }
    }
    out_ += table.Html();
  }

  void StageRow(const Json& run, Table& table) const {
    const Json& stage = run.at("polynomial");
    const std::string name = fmt::format("{} s{}", run.at("variant").get<std::string>(),
                                         run.at("seed").get<std::uint64_t>());
    if (stage.contains("diverged")) return table.Row({name, "diverged"});
    const auto change = [&](const Json& of, const char* from) {
      return Cell(100 * (Number(stage, "/perplexity") / Number(of, from) - 1), "{:+.2f}%");
    };
    const double margin = -Worst(stage, "", [](const Json& site) {
      return -std::min(Number(site, "/margins/0"), Number(site, "/margins/1"));
    });
    std::vector<std::string> row = {
        name,
        Cell(Number(stage, "/perplexity"), "{:.3f}"),
        change(run, "/perplexity"),
        change(stage, "/effect/parent_perplexity"),
        Cell(Number(stage, "/levels"), "{:.0f}"),
        Ratio(Worst(stage, "divisor", Width)),
        Ratio(Worst(stage, "variance", Width)),
        Cell(Number(stage, "/escapes/positions"), "{:.0f}"),
        Cell(Number(stage, "/escapes/escapes"), "{:.0f}"),
        Cell(margin, "{:.2f}"),
        Cell(Number(stage, "/escapes/random_tokens/escapes"), "{:.0f}")};
    for (const Task task : kTasks)
      row.push_back(
          Cell(Number(stage, fmt::format("/tasks/{}", TaskName(task)).c_str()), "{:.3f}"));
    row.push_back(Cell(Number(stage, "/pairs/accuracy"), "{:.3f}"));
    table.Row(row);
  }

  void Stages() {
    if (!AnyRunHas("polynomial")) return;
    Heading(
        "Trained on with polynomials in place",
        "Every seed's polynomial stage: its perplexity against the run it went on from and "
        "against its own weights with exact functions; widths of the widest intervals, margin "
        "included; inputs outside their interval on held-out text cut into windows at 16 "
        "offsets, and the least margin of any end of an interval there; and on text whose tokens "
        "are drawn at random.");
    std::vector<std::string> heads = {
        "run",     "perplexity",         "against the run",       "against exact",
        "levels",  "divisors' interval", "variances' interval",   "positions",
        "escapes", "least margin",       "escapes, random tokens"};
    for (const Task task : kTasks) heads.push_back(TaskName(task));
    heads.push_back("minimal pairs");
    Table table(heads);
    for (const Json& run : study_.at("runs"))
      if (run.contains("polynomial")) StageRow(run, table);
    out_ += table.Html();
  }

  const Json& study_;
  std::string out_, baseline_;
  std::vector<std::string> order_;
  std::map<std::string, std::vector<const Json*>> runs_;
};

}  // namespace

std::string StudyPage(const nlohmann::ordered_json& study) { return Page(study).Run(); }

}  // namespace polyveil::train
