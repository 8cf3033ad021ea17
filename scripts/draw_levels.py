#!/usr/bin/env python3
"""Draws the levels of one layer's program as SVG, from `polyveil plan --dump` on stdin.

Usage: polyveil plan --dump | scripts/draw_levels.py LAYER > docs/pictures/levels.svg
"""
import re
import sys

# The values on the longest path, in order, and what a reader should call them.
SHOWN = [
    ("attention / norm squares", "squares"),
    ("attention / qkv products", "Q, K, V matrices"),
    ("attention / kv masked", "mask"),
    ("attention / inverse root", "1 / root: degree 3"),
    ("attention / query scaled", "Q / norm"),
    ("attention / score products", "scores"),
    ("attention / scores^4", "power 4"),
    ("attention / value products", "times values"),
    ("attention / value sums masked", "mask"),
    ("attention / divisor inverse", "1 / divisor: degree 3"),
    ("attention / head outputs", "divided"),
    ("attention / projection products", "projection"),
    ("attention / residual / bootstrap", "bootstrap"),
    ("feed-forward / hidden products", "two matrices"),
    ("feed-forward / hidden masked", "mask"),
    ("feed-forward / gated product", "their product"),
    ("feed-forward / down products", "down"),
    ("feed-forward / output", "times 1 / variance"),
    ("feed-forward / residual / bootstrap", "bootstrap"),
]
STEP, UNIT, LEFT, TOP = 38, 17, 56, 50


def main():
    layer = int(sys.argv[1])
    levels = {}
    for line in sys.stdin:
        match = re.match(r"level +(\d+) .*\blayer (\d+) / (.*)$", line)
        if match and int(match[2]) == layer:
            levels[match[3].strip()] = int(match[1])
    points = [(levels[name], label) for name, label in SHOWN if name in levels]
    top = max(level for level, _ in points) + 1
    width, height = LEFT + STEP * len(points) + 130, TOP + UNIT * top + 60
    x = lambda i: LEFT + 20 + STEP * i
    y = lambda level: TOP + UNIT * (top - level)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
           f'<text x="16" y="26" font-size="14" font-weight="bold">Levels of layer {layer} of the embedded model\'s program</text>']
    for level in range(0, top + 1, 2):
        out.append(f'<line x1="{LEFT}" y1="{y(level)}" x2="{width - 16}" y2="{y(level)}" stroke="#e4e4e4"/>'
                   f'<text x="{LEFT - 8}" y="{y(level) + 4}" text-anchor="end">{level}</text>')
    for i, (level, label) in enumerate(points):
        boot = label == "bootstrap"
        colour = "#bb3322" if boot else "#2266aa"
        if i:
            dash = ' stroke-dasharray="5,4"' if boot else ""
            out.append(f'<line x1="{x(i - 1)}" y1="{y(points[i - 1][0])}" x2="{x(i)}" y2="{y(level)}" '
                       f'stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<circle cx="{x(i)}" cy="{y(level)}" r="3.5" fill="{colour}"/>'
                   f'<text x="{x(i) + 6}" y="{y(level) - 6}" fill="{colour if boot else "#111"}">{label}</text>')
    out.append(f'<text x="16" y="{height - 16}" font-size="12">A product costs a level, a polynomial of degree d costs '
               'log2(d + 1). At the bottom only a bootstrap helps: about a second.</text></svg>')
    print("\n".join(out))


main()
