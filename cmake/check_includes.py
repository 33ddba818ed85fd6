#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the rules of the house that a compiler does not.

  includes   point down: the table in docs/architecture.md says which folder may include which, and is read from there
  getenv     only in src/base/env.cc: the library is configured at one place (perf, tests and examples are programs of
             their own, perf joins jobs by the launcher's variables)
  goto       nowhere
  volatile   nowhere but `asm volatile`: memory shared between ranks is touched through src/base/atomic.h
  licence    every source file opens with its SPDX line

Usage: check_includes.py [root]. Prints path:line: problem, and ends non-zero when there is one.
"""
import pathlib
import re
import sys

SUFFIXES = {".c", ".cc", ".cu", ".cuh", ".h", ".def"}
FOLDERS = ("include", "src", "topology", "transports", "perf", "tools", "examples", "tests")
PROGRAMS = ("perf", "tests", "examples")  # may read the environment
API = "include/tutti"  # written as "tutti/...", the folder whose table name is this


def parse_table(text):
    """{folder: set of folders it may include}, in the table's order, from the rows of docs/architecture.md."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            rows.append((re.findall(r"`([^`]+)`", cells[0]), cells[2]))
    short = {folder.removeprefix("src/"): folder for folders, _ in rows for folder in folders}
    short.update(gpu="src/gpu", verbs="src/verbs")  # named by the table before they exist

    allowed = {}
    for folders, words in rows:
        for folder in folders:  # a row of several lists them in their order: the later may include the earlier
            above = set(allowed)
            if words == "nothing of ours":
                may = set()
            elif words == "everything above":
                may = above | {API}
            elif words.startswith("any layer below `src/comm`"):
                may = {name for name in list(allowed)[: list(allowed).index("src/comm")]} | {API}
            elif words == "`include/tutti` only":
                may = {API}
            else:
                names = [word.strip() for word in words.split(",")]
                unknown = [name for name in names if name not in short]
                if unknown:
                    raise ValueError(f"docs/architecture.md: row {folder}: unknown folder {', '.join(unknown)}")
                may = {short[name] for name in names}
            allowed[folder] = may | {folder}
    return allowed


def strip_comments(text):
    """Comments and literals become blanks; line numbers stay."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group())

    lines = []
    for line in text.splitlines():  # the names in #include lines are literals too, and are wanted
        lines.append("" if line.lstrip().startswith("#include") else line)
    # A digit separator (60'000) is no literal.
    return re.sub(pattern, blank, re.sub(r"(?<=[0-9a-fA-F])'(?=[0-9a-fA-F])", " ", "\n".join(lines)), flags=re.S)


def folder_of(path, allowed):
    """The table's folder that holds `path` (a string relative to the root), or None."""
    parts = path.split("/")
    for depth in (2, 1):
        if "/".join(parts[:depth]) in allowed and len(parts) > depth:
            return "/".join(parts[:depth])
    return None


def target_of(include, allowed):
    """The table's folder of an include name, or None when the name is not of this project."""
    first = include.split("/")[0]
    if "/" not in include:
        return None
    if first == "tutti":
        return API
    for folder in (first, "src/" + first):
        if folder in allowed:
            return folder
    return "src/" + first if first in ("gpu", "verbs") else None


def check_file(path, text, allowed):
    """(line number, problem) of one file; `path` is relative to the root."""
    problems = []
    if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text.splitlines()[:2]):
        problems.append((1, "does not open with its SPDX line"))

    layered = path.startswith(("src/", "topology/", "transports/", "perf/", "tools/"))
    folder = folder_of(path, allowed)
    if layered and folder is None:
        problems.append((1, "its folder has no row in the table of docs/architecture.md"))
    elif layered:
        for number, line in enumerate(text.splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*["<]([^">]+)[">]', line)
            target = match and target_of(match.group(1), allowed)
            if target and target not in allowed[folder]:
                problems.append((number, f"{folder} may not include {target} ({match.group(1)})"))

    may_read_environment = path == "src/base/env.cc" or path.startswith(PROGRAMS)
    for number, line in enumerate(strip_comments(text).splitlines(), 1):
        if re.search(r"\b(secure_)?getenv\s*\(", line) and not may_read_environment:
            problems.append((number, "getenv outside src/base/env.cc; add a row to src/base/env_vars.def, or use "
                                     "environment_variable() for a launcher's variable"))
        if re.search(r"\bgoto\b", line):
            problems.append((number, "goto"))
        if re.search(r"\bvolatile\b", re.sub(r"\b(asm|__asm__)\s+(volatile|__volatile__)\b", "asm", line)):
            problems.append((number, "volatile; use src/base/atomic.h"))
    return problems


def check_tree(root):
    allowed = parse_table((root / "docs/architecture.md").read_text())
    problems, files = [], 0
    for top in FOLDERS:
        for file in sorted((root / top).rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                files += 1
                name = file.relative_to(root).as_posix()
                problems += [f"{name}:{line}: {what}" for line, what in check_file(name, file.read_text(), allowed)]
    return problems, files


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent.parent)
    problems, files = check_tree(root)
    print("\n".join(problems + [f"{files} files, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
