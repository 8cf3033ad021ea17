#!/usr/bin/env python3
"""The page of a study: study_page.py OUT/study.json [PAGE.html], by default beside it.

`polyveil-train study` writes study.json run by run; the page shows what is there so far. It fetches nothing.
"""
import collections
import json
import math
import pathlib
import statistics
import sys

from svg_chart import Chart, Series, escaped, to_svg

NONE = math.nan
Statistic = collections.namedtuple("Statistic", "mean deviation")
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>
body{font:15px/1.5 system-ui,sans-serif;color:#1b1b1b;background:#fff;max-width:980px;margin:2em auto;padding:0 1em}
h1{font-size:1.6em;margin-bottom:.2em}h2{font-size:1.2em;margin-top:2em;border-bottom:1px solid #ddd}
p.note{color:#555;max-width:70em}table{border-collapse:collapse;font-size:13px;margin:.6em 0}
div.table{overflow-x:auto}th,td{padding:3px 8px;text-align:right;border-bottom:1px solid #e6e6e6}td{white-space:nowrap}th:first-child,td:first-child{text-align:left}
th{border-bottom:2px solid #999}td.bad{color:#b00}.charts{display:flex;flex-wrap:wrap;gap:12px}
svg{width:460px;max-width:100%;height:auto}svg line{stroke:#e3e3e3}svg text{font:11px system-ui,sans-serif;fill:#333}
svg .title{font-size:13px;font-weight:600}svg .tick{fill:#666;font-size:10px}svg .legend{font-size:11px}
</style>"""



def number(value, *path):
    """The number at a path of fields and indices; NaN where there is none."""
    for step in path:
        inside = step in value if isinstance(value, dict) else isinstance(value, list) and step < len(value)
        if not inside:
            return NONE
        value = value[step]
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else NONE


def over(values):
    """Mean and deviation of those that are finite; no deviation of one."""
    finite = [value for value in values if math.isfinite(value)]
    return Statistic(math.fsum(finite) / len(finite) if finite else NONE,
                     statistics.stdev(finite) if len(finite) > 1 else NONE)


def cell(value, form):
    return format(value, form) if math.isfinite(value) else "–"


def percent(value, digits):
    return cell(value, f"+.{digits}f") + ("%" if math.isfinite(value) else "")


def ratio(value):
    """0 stands for a form without a divisor."""
    return cell(value if value > 0 else NONE, ".3g")


def change(value, before):
    return 100 * (value / before - 1)


def table(rows):
    """The first row is the head."""
    lines = ("".join(f"<{tag}>{escaped(text)}</{tag}>" for text in row)
             for tag, row in [("th", rows[0])] + [("td", row) for row in rows[1:]])
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="table"><table>\n{body}</table></div>\n'


def charts(*several):
    return '<div class="charts">\n' + "".join(map(to_svg, several)) + "</div>\n"


def heading(title, note):
    return f'<h2>{title}</h2>\n<p class="note">{note}</p>\n'


def widest(stage, what):
    """Of the intervals of the stage's sites whose name holds `what`: end over beginning."""
    widths = (number(site, "interval", 1) / number(site, "interval", 0)
              for site in stage["escapes"]["sites"] if what in site["site"])
    return max((width for width in widths if math.isfinite(width)), default=NONE)


def least_margin(stage):
    margins = (number(site, "margins", end) for site in stage["escapes"]["sites"] for end in (0, 1))
    return min((margin for margin in margins if math.isfinite(margin)), default=NONE)


def front(clouds):
    """The points that no other beats in both, joined."""
    line = Series("front", thin=True)
    for x, y in sorted(point for cloud in clouds for point in cloud.points):
        if x > 0 and math.isfinite(y) and (not line.points or y < line.points[-1][1]):
            line.points.append((x, y))
    return line


def leave_out_far(chart):
    """What one run far from all others would flatten."""
    heights = (y for series in chart.series for _, y in series.points if math.isfinite(y))
    least = min(heights, default=math.inf)
    for series in chart.series:
        series.points = [(x, y) for x, y in series.points if x <= 1e5 and y <= 1.5 * least]


class Page:
    def __init__(self, study):
        self.study, self.runs = study, {}
        for run in study["runs"]:
            self.runs.setdefault(run["variant"], []).append(run)
        self.baseline = self.runs.get(study.get("baseline", ""), [])
        self.tasks = next((list(run["tasks"]) for run in study["runs"] if "tasks" in run), [])

    def first(self, variant):
        return self.runs[variant][0]

    def group(self, group):
        return [name for name in self.runs if self.first(name)["group"] == group]

    def of(self, variant, *path):
        return over([number(run, *path) for run in self.runs[variant]])

    def against_baseline(self, variant):
        """Seed by seed, where both have the seed: the seeds' own spread drops out."""
        return over([change(number(run, "perplexity"), number(other, "perplexity"))
                     for run in self.runs[variant] for other in self.baseline
                     if run["seed"] == other["seed"]])

    def variant_table(self, names):
        rows = [("variant", "seeds", "diverged", "perplexity", "± sd", "against baseline", "± sd",
                 "divisor's range", "0.1–99.9%", "variances' range", "largest score")]
        for name in names:
            perplexity, against = self.of(name, "perplexity"), self.against_baseline(name)
            diverged = sum("diverged" in run for run in self.runs[name])
            rows.append((name, str(len(self.runs[name])), str(diverged),
                         cell(perplexity.mean, ".3f"), cell(perplexity.deviation, ".3f"),
                         percent(against.mean, 2), cell(against.deviation, ".2f"),
                         ratio(self.of(name, "ranges", "divisor_ratio").mean),
                         ratio(self.of(name, "ranges", "divisor_ratio_trimmed").mean),
                         cell(self.of(name, "ranges", "variance_ratio").mean, ".3g"),
                         cell(self.of(name, "ranges", "largest_score").mean, ".3g")))
        return table(rows)

    def overview(self):
        first = next(iter(self.study["runs"]), {})
        parameters, tokens = (cell(number(first, field), ".0f") for field in ("parameters", "tokens"))
        width, context = (cell(number(self.study["base"], "shape", field), ".0f")
                          for field in ("d_model", "context"))
        note = (f"{parameters} parameters, {tokens} tokens a run, width {width}, context {context}. Held-out "
                "perplexity of stories; ranges are largest over smallest, the widest of all layers and heads, "
                "means over seeds, without any margin.")
        return (f'<p class="note">{note}</p>\n'
                + heading("Twins", "Same data, order, steps and seeds; they differ in the form of attention.")
                + self.variant_table(self.group("twins")))

    def curves(self):
        chart = Chart("Training loss", "step", "nats a token")
        for name in self.group("twins"):
            by_step = collections.defaultdict(list)
            for run in self.runs[name]:
                chart.series.append(Series(name, run["curve"], thin=True))
                for step, nats in run["curve"]:
                    by_step[step].append(nats)
            chart.series.append(Series(name, [(step, over(by_step[step]).mean) for step in sorted(by_step)]))
        return heading("Loss while training",
                       "Pale lines are single seeds, strong ones their means.") + charts(chart)

    def add_heads(self, variant, metric, chart):
        heads, layers = collections.defaultdict(list), collections.defaultdict(list)
        for head in (head for run in self.runs[variant] for head in run.get("attention", [])):
            heads[head["layer"], head["head"]].append(head[metric])
            layers[head["layer"]].append(head[metric])
        chart.x_names = chart.x_names or [str(layer) for layer in sorted(layers)]
        means = [(layer, over(layers[layer]).mean) for layer in sorted(layers)]
        dots = [(layer, over(heads[layer, head]).mean) for layer, head in sorted(heads)]
        chart.series += [Series(variant, means, thin=True), Series(variant, dots, line=False)]

    def attention(self):
        drawn = []
        for metric in ("entropy", "sparsity", "distance", "diagonal", "previous", "induction"):
            drawn.append(Chart(metric, "layer", metric))
            for name in self.group("twins"):
                self.add_heads(name, metric, drawn[-1])
        return heading(
            "What attention does",
            "One dot a layer and head, seeds averaged; lines join the layers' means. Rows of weights are scaled "
            "to sum 1 first. Entropy 1 is uniform; sparsity is the share of keys below a tenth of the uniform "
            "weight; induction is the weight on what followed the last occurrence of the token in repeated "
            "random text.") + charts(*drawn)

    def task_table(self):
        measured = [(task, ("tasks", task)) for task in self.tasks]
        if any("pairs" in run for run in self.study["runs"]):
            measured.append(("minimal pairs", ("pairs", "accuracy")))
        rows = [["variant"] + [head for name, _ in measured for head in (name, "± sd")]]
        chart = Chart("Accuracy", "task", "share right", x_names=self.tasks)
        for name in self.group("twins"):
            found = [self.of(name, *path) for _, path in measured]
            rows.append([name] + [cell(value, ".3f") for statistic in found for value in statistic])
            # Tasks have no order that a line could follow.
            chart.series.append(Series(name, [(i, s.mean) for i, s in enumerate(found[:len(self.tasks)])],
                                       line=False))
        return heading(
            "In-context tasks",
            "Share of predictable positions whose likeliest token is right, on fresh sequences. The best "
            "possible is 1 (n-gram: 0.9). Minimal pairs: the share whose right sentence is the likelier, the "
            "mean of all sets; chance is 0.5.") + table(rows) + charts(chart)

    def averaged(self, variant, field, xs):
        """A list of numbers of every run, averaged over seeds."""
        return Series(variant, [(x, self.of(variant, field, i).mean) for i, x in enumerate(xs)])

    def sensitivity(self):
        position = Chart("By position", "first position of the octave", "nats a token", log_x=True)
        scale = Chart("By score scale", "factor", "nats a token", log_x=True)
        for name in self.group("twins"):
            first = self.first(name)
            if "nats_by_position" not in first:
                continue
            octaves = [4 * 2**i for i in range(len(first["nats_by_position"]))]
            position.series.append(self.averaged(name, "nats_by_position", octaves))
            scale.series.append(self.averaged(name, "nats_by_score_scale", first["score_scales"]))
        return heading(
            "Sensitivity to length and to the scale of scores",
            "Nats a token by the position in the context (octaves), and with every query multiplied by a factor "
            "that training has not seen.") + charts(position, scale)

    def sweeps(self):
        groups = dict.fromkeys(self.first(name)["group"] for name in self.runs)
        return "".join(
            heading(escaped("Sweep: " + group), "One setting varied, the rest as the twins.")
            + self.variant_table(self.group(group))
            for group in groups if group != "twins" and "behind" not in self.first(self.group(group)[0]))

    def points(self, run):
        """Where a run stands: perplexity against the divisor's range, the divisors' interval, levels."""
        out = ([], [], [])
        divisor = number(run, "ranges", "divisor_ratio")
        if divisor > 0:
            out[0].append((divisor, number(run, "perplexity")))
        for conversion in run.get("conversions", []):
            out[2].append((number(conversion, "levels"), number(conversion, "effect", "polynomial_perplexity")))
        stage = run.get("polynomial", {"diverged": ""})
        if "diverged" not in stage:
            out[2].append((number(stage, "levels"), number(stage, "perplexity")))
            out[1].append((widest(stage, "divisor"), number(stage, "perplexity")))
        return out

    def pareto(self):
        drawn = (Chart("Against the divisor's range", "range (largest / smallest)", "perplexity", log_x=True),
                 Chart("Against the divisors' interval", "b / a", "perplexity, polynomial", log_x=True),
                 Chart("Against levels a block", "levels", "perplexity, polynomial"))
        for name, runs in self.runs.items():
            # Twins stand for themselves, a sweep's variants for their group: as many colours as there are.
            group = self.first(name)["group"]
            label = name if group == "twins" else group
            for chart, found in zip(drawn, zip(*map(self.points, runs))):
                if any(found):
                    chart.series.append(Series(label, sum(found, []), line=False))
        drawn = [chart for chart in drawn if chart.series]
        for chart in drawn:
            leave_out_far(chart)
            chart.series.append(front(chart.series))
        return heading(
            "Perplexity against range and against levels",
            "Every run of every variant, a colour for each sweep; the pale line joins the runs that no other "
            "beats in both. Intervals: the widest of a divisor, margin included, of stages that train on through "
            "polynomials. Levels: the longest path of the deepest layer in the decode program, with the "
            "polynomials of each error budget and of those stages. Ranges above 10^5, and perplexities half "
            "again above the least, stand in the tables alone.") + charts(*drawn)

    def conversion_row(self, name, budget):
        def mean(*path):
            return self.of(name, "conversions", budget, *path).mean

        tried = [run["conversions"][budget] for run in self.runs[name] if "conversions" in run]
        kept = [conversion for conversion in tried if "refused" not in conversion]
        exploded = sum(not math.isfinite(number(one, "effect", "polynomial_perplexity")) for one in kept)
        # Run by run, so that a seed without a number drops out on both sides.
        against = over([change(number(run, "conversions", budget, "effect", "polynomial_perplexity"),
                               number(run, "conversions", budget, "effect", "parent_perplexity"))
                        for run in self.runs[name]])
        return (name, cell(mean("budget"), ".3g"), str(len(tried) - len(kept)), str(exploded),
                cell(mean("levels"), ".1f"), cell(mean("effect", "polynomial_perplexity"), ".3f"),
                percent(against.mean, 3), cell(mean("effect", "all_positions", "mean_kl"), ".2e"),
                cell(mean("effect", "all_positions", "worst_kl"), ".2e"),
                cell(mean("effect", "all_positions", "other_argmax"), ".0f"),
                cell(mean("effect", "escapes", "escapes"), ".1f"),
                cell(mean("effect", "positions_with_escapes", "positions"), ".1f"),
                cell(mean("effect", "escapes", "worst_ratio"), ".3f"))

    def conversions(self):
        rows = [("variant", "budget", "refused", "exploded", "levels", "perplexity", "against parent", "mean KL",
                 "worst KL", "another argmax", "escapes", "positions hit", "worst ratio")]
        rows += [self.conversion_row(name, budget) for name in self.runs
                 for budget in range(len(self.first(name).get("conversions", [])))]
        return heading(
            "The polynomial against its parent",
            "Means over the seeds that gave a number; the others are counted: refused where no approximation "
            "fits, exploded where an input so far outside its interval came that the loss is none. KL is from "
            "the parent's distribution, by position; escapes are inputs outside their interval on all held-out "
            "text.") + table(rows)

    def stage_row(self, run):
        stage, name = run["polynomial"], f'{run["variant"]} s{run["seed"]}'
        if "diverged" in stage:
            return (name, "diverged")
        perplexity = number(stage, "perplexity")
        return (name, cell(perplexity, ".3f"), percent(change(perplexity, number(run, "perplexity")), 2),
                percent(change(perplexity, number(stage, "effect", "parent_perplexity")), 2),
                cell(number(stage, "levels"), ".0f"), ratio(widest(stage, "divisor")),
                ratio(widest(stage, "variance")), cell(number(stage, "escapes", "positions"), ".0f"),
                cell(number(stage, "escapes", "escapes"), ".0f"), cell(least_margin(stage), ".2f"),
                cell(number(stage, "escapes", "random_tokens", "escapes"), ".0f"),
                *(cell(number(stage, "tasks", task), ".3f") for task in self.tasks),
                cell(number(stage, "pairs", "accuracy"), ".3f"))

    def stages(self):
        rows = [("run", "perplexity", "against the run", "against exact", "levels", "divisors' interval",
                 "variances' interval", "positions", "escapes", "least margin", "escapes, random tokens",
                 *self.tasks, "minimal pairs")]
        rows += [self.stage_row(run) for run in self.study["runs"] if "polynomial" in run]
        return "" if len(rows) == 1 else heading(
            "Trained on with polynomials in place",
            "Every seed's polynomial stage: its perplexity against the run it went on from and against its own "
            "weights with exact functions; widths of the widest intervals, margin included; inputs outside their "
            "interval on held-out text cut into windows at 16 offsets, and the least margin of any end of an "
            "interval there; and on text whose tokens are drawn at random.") + table(rows)

    def html(self):
        title = escaped(self.study["study"])
        return (f"{HEAD}<title>{title}</title></head><body>\n<h1>{title}</h1>\n" + self.overview()
                + self.curves() + self.attention() + self.task_table() + self.sensitivity() + self.sweeps()
                + self.pareto() + self.conversions() + self.stages() + "</body></html>\n")


def study_page(study):
    return Page(study).html()


if __name__ == "__main__":
    source = pathlib.Path(sys.argv[1])
    target = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else source.with_suffix(".html")
    target.write_text(study_page(json.loads(source.read_text("utf-8"))), "utf-8")
