#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""README.md against the tree: its C program equals examples/hello.c, its folders and commands exist."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
readme = (root / "README.md").read_text()
problems = []

programs = re.findall(r"^```c\n(.*?)^```", readme, flags=re.S | re.M)
if programs != [(root / "examples/hello.c").read_text()]:
    problems.append("README.md: its C program differs from examples/hello.c")
for name in set(re.findall(r"`((?:src|include|transports|topology|tests|perf|tools|examples|docs|cmake)/[\w./-]*)`", readme)):
    if not (root / name).exists():
        problems.append(f"README.md: {name} does not exist")
for folder in re.findall(r"^\| `([\w/]+)/?` \|", readme, flags=re.M):
    if not (root / folder).is_dir():
        problems.append(f"README.md: folder {folder} does not exist")

print("\n".join(problems) or "README.md agrees with the tree")
sys.exit(1 if problems else 0)
