#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`tutti doctor --json` on this machine: parses, names every check, and its exit status says whether anything is broken."""
import json
import subprocess
import sys

tool = sys.argv[1]
ran = subprocess.run([tool, "doctor", "--json"], stdout=subprocess.PIPE, timeout=60)
report = json.loads(ran.stdout)
listed = subprocess.run([tool, "doctor", "--list"], stdout=subprocess.PIPE, text=True, timeout=60).stdout.splitlines()

assert report["version"] == 1
found = {finding["check"] for finding in report["findings"]}
for line in listed:
    assert any(line.startswith(check) for check in found), f"no finding of: {line}"
order = ["good", "note", "slow", "broken"]
for finding in report["findings"]:
    assert finding["what"] and finding["seen"], finding
    assert bool(finding["remedy"]) == (finding["severity"] != "good"), finding
worst = max((finding["severity"] for finding in report["findings"]), key=order.index)
assert report["worst"] == worst, (report["worst"], worst)
assert ran.returncode == (1 if worst == "broken" else 0), ran.returncode
