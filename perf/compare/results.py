# SPDX-License-Identifier: Apache-2.0
"""The measured figures and what follows from them: medians over rounds, spreads, best peer, ratios. Pure.

A result is a plain dictionary, the content of the JSON file:

  schema, date, commit, command, machine, options
  peers     [{name, title, role, version, status}]      status "" or why there are no figures
  cells     [{peer, ranks, buffers, collective, asked, bytes, variant, rounds_us, min_us, wrong, note}]
            rounds_us: one figure per round in which the cell was measured, as {round: microseconds}
  failures  [{peer, ranks, buffers, round, reason}]
"""

import math
import statistics
from dataclasses import dataclass

SCHEMA = 1
COLLECTIVES = ["all_reduce", "all_gather", "reduce_scatter", "broadcast", "alltoall", "reduce", "gather", "scatter",
               "sendrecv"]


def bus_factor(collective, ranks):
    """Bus bandwidth = bytes / time * factor: what the slowest link must carry, whatever the number of ranks."""
    if collective == "all_reduce":
        return 2 * (ranks - 1) / ranks
    if collective in ("broadcast", "reduce", "sendrecv"):
        return 1.0
    return (ranks - 1) / ranks


@dataclass(frozen=True)
class Figure:
    """One cell of one peer. Times in microseconds."""
    peer: str
    bytes: int
    median: float
    low: float
    high: float
    rounds: dict  # round -> time
    variant: str = ""

    def bus_gbps(self, collective, ranks):
        return self.bytes / self.median / 1e3 * bus_factor(collective, ranks)


@dataclass(frozen=True)
class Ratio:
    """How many times faster the subject is: the median of the rounds, and their extremes."""
    value: float
    low: float
    high: float
    best: Figure  # what it is compared with
    subject: Figure


def figure_of(cell):
    times = {int(r): t for r, t in cell["rounds_us"].items()}
    return Figure(cell["peer"], cell["bytes"], statistics.median(times.values()), min(times.values()),
                  max(times.values()), times, cell.get("variant", ""))


def ratio_of(subject, best):
    """A round's ratio is of figures taken within seconds; a machine that changes from round to round does not show in it."""
    common = subject.rounds.keys() & best.rounds.keys()
    each = [best.rounds[r] / subject.rounds[r] for r in common] or [best.median / subject.median]
    return Ratio(statistics.median(each), min(each), max(each), best, subject)


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else float("nan")


class Results:
    """Questions to a result."""

    def __init__(self, result):
        self.result = result
        self.roles = {p["name"]: p["role"] for p in result["peers"]}
        self.figures = {}
        self.notes = {}
        for cell in result["cells"]:
            key = (cell["peer"], cell["ranks"], cell["buffers"], cell["collective"], cell["asked"])
            if cell.get("wrong"):
                self.notes[key] = f"{cell['wrong']} wrong elements"
            elif not cell["rounds_us"]:
                self.notes[key] = cell.get("note", "")
            else:
                figure = figure_of(cell)
                known = self.figures.get(key)
                if known is None or figure.median < known.median:  # several variants: the best one counts
                    self.figures[key] = figure
        for key in self.notes.keys() & self.figures.keys():
            if "wrong" in self.notes[key]:
                del self.figures[key]

    def names(self, role):
        return [p["name"] for p in self.result["peers"] if p["role"] == role]

    def measured(self, name):
        return any(key[0] == name for key in self.figures)

    def subjects(self):
        """The library's own rows; a result without them is read from its first peer's side."""
        ours = [n for n in self.names("subject") if self.measured(n)]
        return ours or [n for n in self.names("peer") if self.measured(n)][:1]

    def groups(self):
        """(ranks, buffers) with at least one comparison, smallest first."""
        found = {(c["ranks"], c["buffers"]) for c in self.result["cells"] if self.roles.get(c["peer"]) != "floor"}
        return sorted(found, key=lambda g: (g[0], g[1] != "rewritten"))

    def collectives(self, group):
        found = {key[3] for key in self.figures if key[1:3] == group}
        return [c for c in COLLECTIVES if c in found]

    def sizes(self, group):
        return sorted({key[4] for key in self.figures if key[1:3] == group and key[3] in COLLECTIVES})

    def figure(self, peer, group, collective, asked):
        return self.figures.get((peer, *group, collective, asked))

    def ratio(self, subject, group, collective, asked):
        """To the peer that leaves the least ratio; None if either side has no figure."""
        mine = self.figure(subject, group, collective, asked)
        theirs = [self.figure(n, group, collective, asked) for n in self.names("peer") if n != subject]
        return min((ratio_of(mine, f) for f in theirs if mine and f), key=lambda r: r.value, default=None)

    def ratios(self, subject, group):
        """{(collective, asked): Ratio}, where both sides have a figure."""
        found = {}
        for collective in self.collectives(group):
            for asked in self.sizes(group):
                ratio = self.ratio(subject, group, collective, asked)
                if ratio:
                    found[collective, asked] = ratio
        return found


def add_lines(result, lines, peer, ranks, buffers, round_number):
    """Puts the JSON lines of one driver run into the result."""
    index = {(c["peer"], c["ranks"], c["buffers"], c["collective"], c["asked"], c["variant"]): c
             for c in result["cells"]}
    for line in lines:
        if "version" in line:
            for known in result["peers"]:
                if known["name"] == peer:
                    known["version"] = line["version"]
            continue
        key = (peer, ranks, buffers, line["collective"], line["asked"], line.get("variant", ""))
        cell = index.get(key)
        if cell is None:
            names = ("peer", "ranks", "buffers", "collective", "asked", "variant")
            cell = dict(zip(names, key)) | {"bytes": line["bytes"], "rounds_us": {}, "wrong": 0, "note": ""}
            result["cells"].append(cell)
            index[key] = cell
        if "unsupported" in line:
            cell["note"] = line["unsupported"]
            continue
        cell["rounds_us"][str(round_number)] = line["median_us"]
        cell["min_us"] = min(line["min_us"], cell.get("min_us", line["min_us"]))
        cell["wrong"] += line["wrong"]
