# SPDX-License-Identifier: Apache-2.0
"""The Markdown report of a result. Pure."""

from results import Results, geometric_mean, ratio_of

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))
BANDWIDTH_FROM = 256 << 10  # below, a bandwidth says nothing


def size_text(size):
    for scale, unit in UNITS:
        if size >= scale:
            return f"{size / scale:g} {unit}"
    return f"{size} B"


def time_text(us):
    if us < 10:
        return f"{us:.2f}"
    return f"{us:.1f}" if us < 1000 else f"{us:,.0f}"


def ratio_text(ratio):
    return f"{ratio.value:.2f}x ({ratio.low:.2f}..{ratio.high:.2f})"


def table(header, rows, words=1):
    """The first `words` columns hold words, the others numbers."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * words + " ---: |" * (len(header) - words)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows] + [""]


def group_title(group):
    ranks, buffers = group
    return f"{ranks} rank{'s' if ranks > 1 else ''}, {buffers} buffers"


def heading(result):
    machine = result["machine"]
    lines = [
        "# Host-memory collectives compared", "",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, Linux {machine['kernel']}, "
        f"{machine['system']}, {machine['compiler']}.  ",
        f"{result['date']}, commit {result['commit']}, float32 sum, medians of {result['options']['rounds']} interleaved "
        "rounds (least..greatest round).  ",
        f"`{result['command']}`", "",
        "How it is measured and how to read it: [perf/compare/README.md](../compare/README.md).", ""]
    if not any(p["role"] == "subject" and not p["status"] for p in result["peers"]):
        lines += ["**This run has no figures of the library itself.**", ""]
    return lines


def peers_section(view):
    state = lambda p: p["status"] or ("measured" if view.measured(p["name"]) else "no figures, see below")
    rows = [[f"`{p['name']}`", p["title"], p["version"] or "-", state(p)] for p in view.result["peers"]]
    return ["## Who took part", ""] + table(["name", "what", "version", "state"], rows, words=4)


def summary_section(view):
    rows = []
    for group in view.groups():
        for subject in view.subjects():
            ratios = view.ratios(subject, group)
            if not ratios:
                continue
            (collective, asked), worst = min(ratios.items(), key=lambda item: item[1].value)
            values = [r.value for r in ratios.values()]
            rows.append([group_title(group), f"`{subject}`", str(len(values)), f"{geometric_mean(values):.2f}x",
                         str(sum(v >= 1.5 for v in values)), str(sum(v < 0.95 for v in values)),
                         f"{worst.value:.2f}x {collective} {size_text(asked)} (`{worst.best.peer}`)"])
    header = ["group", "of", "cells", "geometric mean", "cells >= 1.5x", "cells < 0.95x", "least"]
    return ["## Against the best peer of each cell", "",
            "Ratio = time of the best peer / own time: above 1 is faster than every peer. Rewritten buffers: the input is "
            "written before and the output read after each call, outside the measured time.", ""] + table(header, rows, words=2)


def ratio_sections(view):
    lines = []
    for group in view.groups():
        for subject in view.subjects():
            ratios = view.ratios(subject, group)
            if not ratios:
                continue
            collectives = view.collectives(group)
            rows = []
            for asked in view.sizes(group):
                cells = [ratios.get((c, asked)) for c in collectives]
                rows.append([size_text(asked)] + [f"{ratio_text(r)} {r.best.peer}" if r else "-" for r in cells])
            lines += [f"### `{subject}`: {group_title(group)}", ""] + table(["size"] + collectives, rows)
    return ["## Ratios, with the peer that was best", ""] + lines if lines else []


def time_cell(figure, best, collective, ranks):
    if figure is None:
        return "-"
    text = f"{time_text(figure.median)} ({time_text(figure.low)}..{time_text(figure.high)})"
    if figure.bytes >= BANDWIDTH_FROM and ranks > 1:
        text += f", {figure.bus_gbps(collective, ranks):.2f} GB/s"
    return f"**{text}**" if figure is best else text


def time_sections(view):
    lines = []
    names = [n for n in view.names("subject") + view.names("peer") if view.measured(n)]
    for group in view.groups():
        lines += [f"### {group_title(group)}", ""]
        for collective in view.collectives(group):
            rows = []
            for asked in view.sizes(group):
                figures = [view.figure(n, group, collective, asked) for n in names]
                best = min((f for f in figures if f), key=lambda f: f.median, default=None)
                if best:
                    rows.append([size_text(asked)] + [time_cell(f, best, collective, group[0]) for f in figures])
            lines += [f"**{collective}**", ""] + table(["size"] + [f"`{n}`" for n in names], rows)
    return ["## Times in us, and bus bandwidth", "", "The best of each row is bold.", ""] + lines


# Floors that are collectives like the library's own.
COLLECTIVE_FLOORS = {"floor_staged": "staged", "floor_mapped": "mapped", "floor_tcp": "over a bare socket"}


def times_floor_text(view, subject, group, collective, asked, floor):
    mine = view.figure(subject, group, collective, asked)
    return f"{time_text(mine.median)} = {1 / ratio_of(mine, floor).value:.2f}x" if mine else "-"


def floor_rows(view, group):
    rows = []
    for floor, how in COLLECTIVE_FLOORS.items():
        for collective in view.collectives(group):
            for asked in view.sizes(group):
                reached = view.figure(floor, group, collective, asked)
                if not reached:
                    continue
                row = [f"{collective} {how} ({reached.variant})", size_text(asked),
                       f"{time_text(reached.median)} ({time_text(reached.low)}..{time_text(reached.high)})"]
                row += [times_floor_text(view, s, group, collective, asked, reached) for s in view.subjects()]
                rows.append(row)
    return rows


def floors_section(view):
    lines = []
    for group in view.groups():
        rows = []
        for (peer, *cell_group, kind, asked), f in sorted(view.figures.items(), key=lambda item: item[0][3:5]):
            if view.roles[peer] != "floor" or tuple(cell_group) != group or peer in COLLECTIVE_FLOORS:
                continue
            value = f"{time_text(f.median)} ({time_text(f.low)}..{time_text(f.high)})"
            if kind.startswith("memcpy"):
                copies = group[0] if kind == "memcpy_all" else 1
                value += f", {copies * 2 * f.bytes / f.median / 1e3:.1f} GB/s read and written"
            row = [kind, size_text(asked), value]
            for subject in view.subjects():
                row.append(times_floor_text(view, subject, group, "all_reduce", asked, f) if kind == "exchange" else "-")
            rows.append(row)
        rows += floor_rows(view, group)
        if rows:
            header = ["floor", "size", "us"] + [f"the call of `{s}`" for s in view.subjects()]
            lines += [f"### {group_title(group)}", ""] + table(header, rows)
    meaning = "x: how many times the floor the call takes: AllReduce, or the collective that the floor is of."
    return ["## Floors of the same run", "", meaning, ""] + lines if lines else []


def missing_section(view):
    lines = []
    unsupported = {}
    for (peer, ranks, buffers, collective, _), note in view.notes.items():
        if view.roles[peer] != "floor":
            unsupported.setdefault((peer, note), set()).add(f"{collective} ({ranks} ranks, {buffers})")
    for (peer, note), where in sorted(unsupported.items()):
        shown = sorted(where)
        more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
        lines.append(f"- `{peer}`: {note}: {', '.join(shown[:6])}{more}")
    for f in view.result["failures"]:
        lines.append(f"- `{f['peer']}` failed, {f['ranks']} ranks, {f['buffers']}, round {f['round']}: {f['reason']}")
    return ["## What has no figure", ""] + (lines or ["Nothing."]) + [""]


def markdown(result, pictures=()):
    view = Results(result)
    lines = heading(result) + [f"![{name}]({name})" for name in pictures] + [""]
    lines += summary_section(view) + peers_section(view) + floors_section(view) + missing_section(view)
    lines += ratio_sections(view) + time_sections(view)
    return "\n".join(lines)
