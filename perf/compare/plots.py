# SPDX-License-Identifier: Apache-2.0
"""SVG pictures of a result: a heat map of ratios, and time and bus bandwidth against size. Pure, no library needed."""

import math
from xml.sax.saxutils import escape

from results import Results, geometric_mean
from tables import group_title, size_text, time_text

INK, FAINT, PAPER = "#1f2430", "#c9ced6", "#ffffff"
# Told apart by colour-blind readers, in the order of the peers; subjects get the first two and thicker lines.
COLOURS = ["#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#cc79a7", "#009e73", "#7f7f7f", "#8c564b", "#bcbd22", "#5d3a9b",
           "#17becf"]


class Picture:
    """Collects SVG elements."""

    def __init__(self, width, height):
        self.width, self.height = width, height
        self.parts = []

    def rect(self, x, y, width, height, fill, stroke="none"):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{fill}" '
                          f'stroke="{stroke}"/>')

    def text(self, x, y, text, size=11, anchor="start", colour=INK, bold=False):
        weight = ' font-weight="bold"' if bold else ""
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>'
                          f'{escape(text)}</text>')

    def line(self, points, colour, width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def dot(self, x, y, colour, note):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{colour}"><title>{escape(note)}</title></circle>')

    def svg(self):
        head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}" '
                f'height="{self.height}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif">')
        return "\n".join([head, f'<rect width="100%" height="100%" fill="{PAPER}"/>'] + self.parts + ["</svg>"]) + "\n"


def caption(picture, result, y):
    """The three lines under each picture: machine, code, command."""
    machine = result["machine"]
    picture.text(20, y, f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}", 10, colour="#555")
    picture.text(20, y + 14, f"{result['date']}, commit {result['commit']}, medians of {result['options']['rounds']} "
                             "interleaved rounds, float32 sum", 10, colour="#555")
    longest = int(picture.width / 6.2)
    command = result["command"]
    picture.text(20, y + 28, command if len(command) <= longest else command[:longest - 4] + " ...", 10, colour="#555")


def heat_colour(ratio):
    """White at 1; blue faster than the best peer, full at 4x; orange slower, full at 1/2."""
    strength = min(1.0, math.log2(ratio) / 2) if ratio >= 1 else max(-1.0, math.log2(ratio))
    full = (0, 92, 170) if strength >= 0 else (213, 94, 0)
    mixed = [round(255 + (channel - 255) * abs(strength)) for channel in full]
    return "#%02x%02x%02x" % tuple(mixed), ("#ffffff" if abs(strength) > 0.6 else INK)


CELL_WIDTH, CELL_HEIGHT, LABELS = 56, 22, 110


def heat_panel(picture, view, subject, group, x, y):
    """Rows: collectives, columns: sizes. Returns the height used."""
    ratios = view.ratios(subject, group)
    mean = geometric_mean(r.value for r in ratios.values())
    picture.text(x, y, f"{subject}: {group_title(group)}; geometric mean {mean:.2f}x", 12, bold=True)
    sizes, collectives = view.sizes(group), view.collectives(group)
    for column, asked in enumerate(sizes):
        picture.text(x + LABELS + (column + 0.5) * CELL_WIDTH, y + 18, size_text(asked), 10, "middle")
    for row, collective in enumerate(collectives):
        top = y + 24 + row * CELL_HEIGHT
        picture.text(x + LABELS - 8, top + 15, collective, 11, "end")
        for column, asked in enumerate(sizes):
            left = x + LABELS + column * CELL_WIDTH
            ratio = ratios.get((collective, asked))
            if ratio is None:
                picture.rect(left, top, CELL_WIDTH - 1, CELL_HEIGHT - 1, "#f0f0f0")
                continue
            fill, ink = heat_colour(ratio.value)
            picture.rect(left, top, CELL_WIDTH - 1, CELL_HEIGHT - 1, fill, FAINT)
            picture.text(left + CELL_WIDTH / 2, top + 15, f"{ratio.value:.2f}", 11, "middle", ink)
    return panel_height(view, group)


def panel_height(view, group):
    return 24 + len(view.collectives(group)) * CELL_HEIGHT + 34


def heat_map(result):
    view = Results(result)
    panels = [(s, g) for g in view.groups() for s in view.subjects() if view.ratios(s, g)]
    columns = max((len(view.sizes(g)) for _, g in panels), default=4)
    height = 60 + sum(panel_height(view, g) for _, g in panels) + 50
    picture = Picture(max(700, LABELS + columns * CELL_WIDTH + 40), height)
    picture.text(20, 28, "Time of the best peer / own time (above 1: faster than every peer)", 15, bold=True)
    y = 60
    for subject, group in panels:
        y += heat_panel(picture, view, subject, group, 20, y)
    caption(picture, result, height - 44)
    return picture.svg()


class LogAxis:
    """A logarithmic scale between two values; ticks at the powers of ten."""

    def __init__(self, low, high, begin, end):
        self.low, self.high = math.log(low), math.log(max(high, low * 1.01))
        self.begin, self.end = begin, end

    def at(self, value):
        return self.begin + (math.log(value) - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self):
        first, last = math.ceil(self.low / math.log(10) - 1e-9), math.floor(self.high / math.log(10) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]


class LinearAxis:
    """From zero to a value; about five round ticks."""

    def __init__(self, high, begin, end):
        self.high, self.begin, self.end = high, begin, end

    def at(self, value):
        return self.begin + value / self.high * (self.end - self.begin)

    def ticks(self):
        decade = 10.0 ** math.floor(math.log10(self.high / 5))
        step = next(decade * nice for nice in (1, 2, 5, 10) if decade * nice >= self.high / 5)
        return [i * step for i in range(int(self.high / step) + 1)]


PANEL_WIDTH, PANEL_HEIGHT = 420, 210
RATES_FROM = 4 << 10  # bytes; below, a bandwidth says nothing


def line_panel(picture, title, series, colours, x, y, unit):
    """series: {name: [(size, value, note)]}. Times on a logarithmic scale, rates on a linear one."""
    points = [p for line in series.values() for p in line]
    picture.text(x + 50, y + 14, f"{title}, {unit}", 12, bold=True)
    if not points:
        picture.text(x + 60, y + 60, "no figures", 11, colour="#777")
        return
    across = LogAxis(min(p[0] for p in points), max(p[0] for p in points), x + 50, x + PANEL_WIDTH - 20)
    least, most, bottom, top = min(p[1] for p in points), max(p[1] for p in points), y + PANEL_HEIGHT - 24, y + 24
    up = LogAxis(least / 1.2, most * 1.2, bottom, top) if unit == "us" else LinearAxis(most * 1.05, bottom, top)
    for tick in up.ticks():
        picture.line([(x + 50, up.at(tick)), (x + PANEL_WIDTH - 20, up.at(tick))], FAINT, 0.6)
        picture.text(x + 45, up.at(tick) + 4, f"{tick:g}", 9, "end")
    for size in sorted({p[0] for p in points}):
        picture.line([(across.at(size), up.begin), (across.at(size), up.begin + 4)], INK, 0.8)
        picture.text(across.at(size), up.begin + 15, size_text(size).replace(" ", "").replace("iB", ""), 9, "middle")
    picture.line([(x + 50, up.end), (x + 50, up.begin), (x + PANEL_WIDTH - 20, up.begin)], INK, 0.8)
    for name, line in series.items():
        colour, width = colours[name]
        picture.line([(across.at(p[0]), up.at(p[1])) for p in line], colour, width)
        for p in line:
            picture.dot(across.at(p[0]), up.at(p[1]), colour, p[2])


def lines(result, group):
    """Time and bus bandwidth against size, a row of panels per collective."""
    view = Results(result)
    subjects = view.names("subject")
    names = [n for n in subjects + view.names("peer") if view.measured(n)]
    colours = {n: (COLOURS[i % len(COLOURS)], 2.6 if n in subjects else 1.3) for i, n in enumerate(names)}
    collectives = view.collectives(group)
    legend = 60 + 16 * math.ceil(len(names) / 4)
    height = legend + len(collectives) * (PANEL_HEIGHT + 16) + 70
    picture = Picture(2 * PANEL_WIDTH + 40, height)
    picture.text(20, 28, f"Collectives on {group_title(group)}", 15, bold=True)
    for i, name in enumerate(names):
        left, top = 20 + (i % 4) * 210, 52 + (i // 4) * 16
        picture.line([(left, top - 4), (left + 24, top - 4)], *colours[name])
        picture.text(left + 30, top, name, 11)
    for row, collective in enumerate(collectives):
        times, rates = {}, {}
        for name in names:
            found = [(a, view.figure(name, group, collective, a)) for a in view.sizes(group)]
            found = [(a, f) for a, f in found if f]
            if not found:
                continue
            times[name] = [(a, f.median, f"{name} {size_text(a)}: {time_text(f.median)} us") for a, f in found]
            if group[0] > 1:
                rates[name] = [(a, r, f"{name} {size_text(a)}: {r:.2f} GB/s")
                               for a, r in ((a, f.bus_gbps(collective, group[0])) for a, f in found)
                               if a >= RATES_FROM]
        top = legend + row * (PANEL_HEIGHT + 16)
        line_panel(picture, collective, times, colours, 10, top, "us")
        line_panel(picture, collective, rates, colours, 10 + PANEL_WIDTH, top, "bus GB/s")
    caption(picture, result, height - 44)
    return picture.svg()
