#include "polyveil/report_page.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/output_file.h"
#include "polyveil/report_style.h"
#include "polyveil/terminal.h"

namespace polyveil::tools {
namespace {

using nlohmann::json;

constexpr mode_t kPageMode = 0600;

std::string Escaped(std::string_view text) {
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

std::string Section(std::string_view title, const std::string& body) {
  return body.empty() ? body : fmt::format("<section>\n<h2>{}</h2>\n{}</section>\n", title, body);
}

// A row of a table: a name, a bar of a share of the widest one, what stands beside it.
std::string BarRow(const std::string& name, double share, const std::string& cells) {
  return fmt::format(
      "<tr><th scope=\"row\">{}</th><td class=\"bar\"><div style=\"width:{:.1f}%\"></div></td>{}"
      "</tr>\n",
      Escaped(name), 100 * std::clamp(share, 0.0, 1.0), cells);
}

std::string Cell(const std::string& text) { return "<td>" + Escaped(text) + "</td>"; }

std::string Words(const std::string& text) {
  return "<td class=\"words\">" + Escaped(text) + "</td>";
}

std::string Table(const std::vector<std::string>& heads, const std::string& rows) {
  std::string head;
  for (const std::string& each : heads) head += "<th scope=\"col\">" + each + "</th>";
  return fmt::format("<div class=\"wide\"><table>\n<tr>{}</tr>\n{}</table></div>\n", head, rows);
}

// Seconds of a step that a plan gives the component of this name; negative: none.
double Planned(const ReportPage& page, const std::string& name) {
  for (size_t i = 0; i < page.planned.size(); ++i)
    if (name == compile::ComponentName(static_cast<compile::Component>(i))) return page.planned[i];
  return -1;
}

std::string Rows(const ReportPage& page, std::vector<runtime::LatencyTable::Row> rows,
                 bool planned) {
  std::ranges::sort(rows, [](const auto& a, const auto& b) { return a.seconds > b.seconds; });
  const double total = std::max(page.latency.total_seconds, 1e-12);
  const double widest = rows.empty() ? 1 : std::max(rows.front().seconds, 1e-12);
  const int steps = std::max(page.latency.steps, 1);
  std::string text;
  for (const auto& row : rows) {
    std::string cells = Cell(FormatSeconds(std::max(0.0, row.seconds))) +
                        Cell(fmt::format("{:.1f}%", 100 * row.seconds / total));
    if (planned) {
      const double plan = Planned(page, row.name);
      cells += Cell(plan < 0 ? "" : FormatSeconds(plan * steps));
    } else {
      cells += Cell(std::to_string(row.count));
    }
    text += BarRow(row.name, row.seconds / widest, cells);
  }
  return text;
}

std::string Times(const ReportPage& page) {
  const bool planned = !page.planned.empty();
  const char* const beside = planned ? "planned" : "count";
  return Section("Where the time went, by component",
                 Table({"component", "", "time", "share", beside},
                       Rows(page, page.latency.components, planned))) +
         Section("By primitive", Table({"primitive", "", "time", "share", "count"},
                                       Rows(page, page.latency.primitives, false)));
}

// A bar from the level that a stage reads to the one that it leaves.
class LevelChart {
 public:
  explicit LevelChart(const std::vector<compile::LevelStage>& stages) : stages_(stages) {
    for (const auto& stage : stages_) top_ = std::max({top_, stage.from, stage.to});
  }

  std::string Draw() const {
    const int width = kLeft + kStep * static_cast<int>(stages_.size()) + 10;
    std::string out = fmt::format(
        "<div class=\"wide\"><svg viewBox=\"0 0 {0} {1}\" width=\"{0}\" height=\"{1}\" "
        "role=\"img\" aria-label=\"levels along the program\">\n",
        width, Y(0) + 20);
    for (int level = 0; level <= top_; level += 5)
      out += fmt::format(
          "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/><text x=\"{}\" y=\"{}\" "
          "text-anchor=\"end\">{}</text>\n",
          kLeft, Y(level), width, Y(level), kLeft - 4, Y(level) + 4, level);
    for (size_t i = 0; i < stages_.size(); ++i) out += Bar(i);
    return out + "</svg></div>\n";
  }

 private:
  static constexpr int kLeft = 30, kStep = 9, kUnit = 8;

  int Y(int level) const { return 10 + kUnit * (top_ - level); }

  std::string Bar(size_t i) const {
    const compile::LevelStage& stage = stages_[i];
    const int x = kLeft + kStep * static_cast<int>(i), high = std::max(stage.from, stage.to),
              low = std::min(stage.from, stage.to);
    std::string out;
    if (stage.layer >= 0 && (i == 0 || stages_[i - 1].layer != stage.layer))
      out = fmt::format("<text x=\"{}\" y=\"{}\">layer {}</text>\n", x, Y(0) + 16, stage.layer);
    return out + fmt::format(
                     "<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"><title>{}{}: "
                     "level {} to {}</title></rect>\n",
                     stage.component == compile::Component::kBootstrap ? "boot" : "stage", x,
                     Y(high), kStep - 2, std::max(2, kUnit * (high - low)),
                     stage.layer >= 0 ? fmt::format("layer {}, ", stage.layer) : "",
                     compile::ComponentName(stage.component), stage.from, stage.to);
  }

  const std::vector<compile::LevelStage>& stages_;
  int top_ = 0;
};

std::string Levels(const ReportPage& page) {
  if (page.levels.empty()) return {};
  const auto bootstraps = std::ranges::count(page.levels, compile::Component::kBootstrap,
                                             &compile::LevelStage::component);
  return Section("Levels along the program",
                 LevelChart(page.levels).Draw() +
                     fmt::format("<p>Operations use levels up; bootstraps (<span class=\"key\">"
                                 "</span>, at {} places) restore them.</p>\n",
                                 bootstraps));
}

std::string Steps(const ReportPage& page) {
  if (page.steps.empty()) return {};
  const bool checked =
      std::ranges::any_of(page.steps, [](const auto& step) { return !step.verdict.empty(); });
  double longest = 1e-12;
  for (const auto& step : page.steps) longest = std::max(longest, step.seconds);
  std::string rows;
  for (const auto& step : page.steps)
    rows += BarRow(step.name, step.seconds / longest,
                   Cell(FormatSeconds(step.seconds)) + (checked ? Words(step.verdict) : ""));
  std::vector<std::string> heads = {"step", "", "time"};
  if (checked) heads.emplace_back("precision, against float64");
  return Section(checked ? "Steps and their precision" : "Steps", Table(heads, rows));
}

std::string Memory(const ReportPage& page) {
  u64 largest = 1;
  for (const auto& [name, bytes] : page.memory) largest = std::max(largest, u64{bytes});
  std::string rows;
  for (const auto& [name, bytes] : page.memory)
    rows +=
        BarRow(name, static_cast<double>(bytes) / static_cast<double>(largest), Cell(Bytes(bytes)));
  if (rows.empty()) return {};
  return Section("Memory of the server at the end", Table({"what", "", "bytes"}, rows));
}

std::string FactList(const ReportPage::Facts& facts) {
  std::string list;
  for (const auto& [name, value] : facts)
    if (!value.empty()) list += fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, Escaped(value));
  return Section("The run", "<dl>\n" + list + "</dl>\n");
}

// What the report says of a token that was checked.
std::string VerdictOf(const json& token) {
  if (!token.contains("within_noise")) return {};
  std::string text = token["within_noise"] == true ? "within the noise" : "beyond the noise";
  text += token["argmax_agrees"] == true ? ", the same next token" : ", another next token";
  text += fmt::format("; noise allows {:.2e}", token["logits_allowed"].get<double>());
  if (token.contains("logits_error") && token["logits_error"].is_number())
    text += fmt::format("; error {:.2e}, flooded by {:.2e}", token["logits_error"].get<double>(),
                        token["flooding_sigma"].get<double>());
  return text;
}

void AddSteps(const json& tokens, const std::string& of, ReportPage& page) {
  for (const json& token : tokens)
    page.steps.push_back(
        {fmt::format("{}{} {}", of, token["generated"] == true ? "new token" : "token",
                     token["position"].get<int>() + 1),
         token["seconds"].get<double>(), VerdictOf(token)});
}

std::string Verdict(const json& report) {
  if (!report.contains("within_noise")) return {};
  return report["within_noise"] == true ? "within the noise of the float64 polynomial model"
                                        : "beyond the noise of the float64 polynomial model";
}

}  // namespace

std::string ToHtml(const ReportPage& page) {
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>{0}: a run on ciphertexts</title>\n"
      "<style>\n{1}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{2}</body>\n</html>\n",
      Escaped(page.title), kReportStyle,
      FactList(page.facts) + Times(page) + Levels(page) + Steps(page) + Memory(page));
}

ReportPage PageOfRun(const RunReport& run, const json& report) {
  const serve::ModelInfo& info = run.info;
  ReportPage page;
  page.title = info.name;
  const int steps = std::max(run.latency.steps, 1);
  page.facts = {
      {"parameters", info.security},
      {"program", fmt::format("{} bootstraps, {} rotations, {} products a step",
                              info.estimate.bootstraps_per_token, info.estimate.rotations_per_token,
                              info.estimate.products_per_token)},
      {"time", fmt::format("{} for {} steps, {} each", FormatSeconds(run.tokens_seconds), steps,
                           FormatSeconds(run.tokens_seconds / steps))},
      {"texts", run.texts.empty() ? "" : std::to_string(run.texts.size())},
      {"new tokens", run.generated > 0 ? std::to_string(run.generated) : ""},
      {"keys",
       fmt::format("{} sent in {}", Bytes(run.key_bytes_up), FormatSeconds(run.keys_seconds))},
      {"sent, received", fmt::format("{}, {}", Bytes(run.bytes_up), Bytes(run.bytes_down))},
      {"peak memory", fmt::format("client {}, server {}", Bytes(run.client_peak_rss_bytes),
                                  Bytes(run.server_peak_rss_bytes))},
      {"precision", Verdict(report)},
      {"machine of the client",
       fmt::format("{}, {} threads, {}", run.cpu, run.threads, run.backend)},
      {"server", fmt::format("{} threads, {}, {}", info.threads, info.backend, info.version)}};
  page.latency = run.latency;
  // A prompt read at once is no step of this plan.
  if (info.prompts.empty() || info.encoder) page.planned = info.estimate.component_seconds;
  page.levels = info.estimate.levels;
  page.memory = run.server_memory;
  if (report.contains("tokens")) AddSteps(report["tokens"], "", page);
  if (run.texts.empty()) return page;
  for (size_t i = 0; i < run.texts.size(); ++i)
    AddSteps(report["texts"][i]["tokens"], fmt::format("text {}, ", i + 1), page);
  return page;
}

void AddReportPage(Options& app, std::string& path) {
  AddOutputFile(app, "--report", path,
                "write what the run has cost as a page to this file (HTML): times, levels, bytes, "
                "memory and verdicts of --check, no text");
}

Status WriteReportPage(const std::string& path, const ReportPage& page) {
  return path.empty() ? Status() : WriteFile(path, ToHtml(page), kPageMode);
}

}  // namespace polyveil::tools
