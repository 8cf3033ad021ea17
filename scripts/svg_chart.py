"""Charts as inline SVG: lines and points on linear or logarithmic axes. Enough for a report, no more."""
import dataclasses
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 300, 62, 108, 30, 44
# Okabe and Ito's palette without yellow: told apart by every kind of eye.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#8c6d1f", "#555555", "#e69f00")
UNNAMED = "#222222"  # series that stand in no legend


def escaped(text):
    """For HTML and SVG."""
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, entity)
    return text


@dataclasses.dataclass
class Series:
    name: str  # the same name, the same colour; a legend entry each
    points: list = dataclasses.field(default_factory=list)
    line: bool = True
    thin: bool = False  # one of many: pale, without a legend entry


@dataclasses.dataclass
class Chart:
    title: str
    x_label: str
    y_label: str
    log_x: bool = False
    log_y: bool = False
    x_names: list = dataclasses.field(default_factory=list)  # categories instead of numbers: x = 0, 1, ...
    series: list = dataclasses.field(default_factory=list)


class Axis:
    """Its range grows with what it includes; points it cannot show are left out."""

    def __init__(self, log):
        self.lo, self.hi, self.log = math.inf, -math.inf, log

    def shows(self, x):
        return math.isfinite(x) and (not self.log or x > 0)

    def scaled(self, x):
        return math.log10(x) if self.log else x

    def include(self, x):
        self.lo, self.hi = min(self.lo, self.scaled(x)), max(self.hi, self.scaled(x))

    def widen(self, share):
        if not self.lo <= self.hi:
            self.lo, self.hi = 0, 1
        room = share * (self.hi - self.lo) if self.hi > self.lo else max(0.5, 0.1 * abs(self.lo))
        self.lo, self.hi = self.lo - room, self.hi + room

    def position(self, x, begin, end):
        return begin + (self.scaled(x) - self.lo) / (self.hi - self.lo) * (end - begin)

    def ticks(self):
        """Round numbers inside the axis, four or so of them; powers of ten where decades are shown."""
        if self.log and self.hi - self.lo > 1:
            step = max(1, math.ceil((self.hi - self.lo) / 5))
            return [10.0**t for t in range(math.ceil(self.lo), math.floor(self.hi) + 1, step)]
        start, stop = (10**self.lo, 10**self.hi) if self.log else (self.lo, self.hi)
        rough = (stop - start) / 4
        unit = 10 ** math.floor(math.log10(rough))
        step = unit * (1 if rough / unit < 1.5 else 2 if rough / unit < 3.5 else 5)
        first = math.ceil(start / step)
        count = math.floor(stop / step + 1e-9) - first + 1
        return [(first + i) * step for i in range(count)]


class _Drawing:
    def __init__(self, chart):
        self.chart, self.out = chart, []
        self.x, self.y = Axis(chart.log_x), Axis(chart.log_y)
        self.names = list(dict.fromkeys(series.name for series in chart.series if not series.thin))
        for series in chart.series:
            for x, y in self.shown(series):
                self.x.include(x)
                self.y.include(y)
        if chart.x_names:
            self.x.lo, self.x.hi = 0, len(chart.x_names) - 1
        self.x.widen(0.12 if chart.x_names else 0.03)
        self.y.widen(0.06)

    def shown(self, series):
        return [(x, y) for x, y in series.points if self.x.shows(x) and self.y.shows(y)]

    def at(self, x, y):
        return self.x.position(x, LEFT, WIDTH - RIGHT), self.y.position(y, HEIGHT - BOTTOM, TOP)

    def text(self, x, y, anchor, style, text):
        self.out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{style}">'
                        f'{escaped(text)}</text>')

    def axes(self):
        for tick in self.y.ticks():
            y = self.y.position(tick, HEIGHT - BOTTOM, TOP)
            self.out.append(f'<line x1="{LEFT:.1f}" y1="{y:.1f}" x2="{WIDTH - RIGHT:.1f}" y2="{y:.1f}"/>')
            self.text(LEFT - 6, y + 4, "end", "tick", f"{tick:.4g}")
        ticks = enumerate(self.chart.x_names) if self.chart.x_names else (
            (tick, f"{tick:.4g}") for tick in self.x.ticks())
        for tick, name in ticks:
            x = self.x.position(tick, LEFT, WIDTH - RIGHT)
            self.text(x, HEIGHT - BOTTOM + 16, "middle", "tick", name)
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", "label", self.chart.x_label)
        self.out.append(f'<text transform="translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)" '
                        f'text-anchor="middle" class="label">{escaped(self.chart.y_label)}</text>')

    def draw(self, series):
        shade = colour(self.names, series.name)
        points = [self.at(x, y) for x, y in self.shown(series)]
        if series.line:
            path = "".join(f"{'L' if i else 'M'}{x:.1f} {y:.1f}" for i, (x, y) in enumerate(points))
            self.out.append(f'<path d="{path}" fill="none" stroke="{shade}" '
                            f'stroke-width="{1 if series.thin else 2}" opacity="{0.35 if series.thin else 1}"/>')
        if not series.line or (len(series.points) <= 12 and not series.thin):
            self.out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{shade}"/>' for x, y in points]

    def legend(self):
        """Beside the plot, where it hides nothing."""
        x = WIDTH - RIGHT + 8
        for i, name in enumerate(self.names):
            y = TOP + 8 + 14 * i
            self.out.append(f'<rect x="{x:.1f}" y="{y - 8:.1f}" width="9" height="9" '
                            f'fill="{colour(self.names, name)}"/>')
            self.text(x + 13, y, "start", "legend", name)

    def run(self):
        self.out = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(self.chart.title)}">']
        self.text(LEFT, 18, "start", "title", self.chart.title)
        self.axes()
        for series in self.chart.series:
            self.draw(series)
        self.legend()
        return "".join(self.out) + "</svg>\n"


def to_svg(chart):
    return _Drawing(chart).run()


def colour(names, name):
    """One colour a name, in the order of names (eight of them, then again); nearly black outside them."""
    return COLOURS[names.index(name) % len(COLOURS)] if name in names else UNNAMED
