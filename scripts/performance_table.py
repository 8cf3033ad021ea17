#!/usr/bin/env python3
"""Turns `polyveil bench engine --json` into the Markdown tables of docs/performance.md.

  polyveil bench engine --json engine.json
  scripts/performance_table.py engine.json [--generate run.json] > tables.md
  scripts/performance_table.py engine.json --update docs/performance.md   # between its markers
"""
import argparse
import json
import pathlib
import sys

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def seconds(value):
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if value * factor < 1000:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s"


def size(value):
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def is_size(row):
    return "seconds" not in row


def show(row, value):
    return size(value) if is_size(row) else seconds(value)


def table(header, lines):
    return "\n".join(["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
                     + ["| " + " | ".join(line) + " |" for line in lines]) + "\n"


def machine(report):
    load = report["load_average"]
    lines = [f"* {report['cpu']}, {report['cpus']} CPUs, backend {report['backend']}, "
             f"commit {report['commit']}{', quick run' if report['quick'] else ''}; load average "
             f"{load['before']:.1f} before, {load['after']:.1f} after"]
    lines += [f"* {text}" for text in report["parameters"]]
    lines += [f"* ceilings, {c['threads']} thread(s): {c['butterflies_per_second'] / 1e9:.2f} G butterflies/s, "
              f"{c['products_per_second'] / 1e9:.2f} G multiply-accumulates/s (both on registers), "
              f"{c['read_bytes_per_second'] / 1e9:.1f} GB/s read from memory" for c in report["ceilings"]]
    lines.append(f"* peak memory of the run: {size(report['peak_rss_bytes'])}")
    return "\n".join(lines) + "\n"


def main_table(report):
    lines = []
    for row in report["rows"]:
        if "target" not in row:
            continue
        value = row["bytes"] if is_size(row) else row["seconds"]
        best = row.get("best_public")
        fraction = row.get("roofline_fraction", 0)
        lines.append([row["name"], str(row["threads"]), f"**{show(row, value)}**",
                      seconds(row["cpu_seconds"]) if not is_size(row) else "",
                      f"{100 * fraction:.0f}%" if fraction else "", show(row, row["target"]),
                      show(row, row["target_at_clock"]),
                      "met" if row["target_met"] else "at clock" if value <= row["target_at_clock"] else "**missed**",
                      f"{show(row, best)} ({best / value:.1f}x)" if best else "-"])
    return table(["N = 2^16", "threads", "median", "CPU", "of the roof", "target", "at this clock", "",
                  "best public library"], lines)


def bootstrap_table(report):
    lines = []
    for row in report["rows"]:
        d = row.get("details", {})
        if "worst_bits" not in d:
            continue
        steps = " / ".join(seconds(d[k + "_seconds"]) for k in ("stc", "mod_raise", "trace", "cts", "eval_mod"))
        lines.append([row["name"], row["parameters"], str(row["threads"]), seconds(row["seconds"]), steps,
                      f"{d['worst_bits']:.1f} ({d['predicted_worst_bits']:.1f})", f"{d['usable_levels']:.0f}",
                      f"{d['key_count']:.0f}: {size(d['key_bytes'])}", size(d["plaintext_bytes"]),
                      f"{d['key_bytes'] / row['seconds'] / 1e9:.1f} GB/s"])
    return table(["bootstrap", "parameters", "threads", "median", "StC / ModRaise / trace / CtS / EvalMod",
                  "worst slot, bits (predicted)", "usable levels", "keys", "diagonals",
                  "key bytes per second"], lines)


def scaling_table(report):
    lines = [[row["name"], seconds(row["seconds"]), f"{row['scaling']:.2f}",
              f"{row['bytes_per_second'] / 1e9:.1f} GB/s"] for row in report["rows"] if "scaling" in row]
    return table(["operation", "2 threads", "speed-up", "bytes touched per second"], lines)


def demo_table(run):
    fields = [(k, v) for k, v in sorted(run.items()) if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return table(["demo (`polyveil generate --json`)", ""], [[k, f"{v:.6g}"] for k, v in fields])


def render(report, run):
    parts = [machine(report), main_table(report), bootstrap_table(report), scaling_table(report)]
    if run is not None:
        parts.append(demo_table(run))
    return "\n".join(parts)


def update(path, text):
    old = path.read_text()
    if old.count(BEGIN) != 1 or old.count(END) != 1:
        sys.exit(f"{path}: needs one '{BEGIN}' and one '{END}'")
    head, rest = old.split(BEGIN)
    path.write_text(f"{head}{BEGIN}\n{text}{END}{rest.split(END)[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=pathlib.Path)
    parser.add_argument("--generate", type=pathlib.Path, help="JSON of a run of `polyveil generate`")
    parser.add_argument("--update", type=pathlib.Path, help="rewrite the tables of this file")
    arguments = parser.parse_args()
    report = json.loads(arguments.engine.read_text())
    if report.get("format") != "polyveil-bench-engine/1":
        sys.exit(f"{arguments.engine}: format is {report.get('format')!r}, expected 'polyveil-bench-engine/1'")
    run = json.loads(arguments.generate.read_text()) if arguments.generate else None
    text = render(report, run)
    if arguments.update:
        update(arguments.update, text)
    else:
        print(text, end="")


main()
