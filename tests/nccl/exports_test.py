#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""libnccl.so.2 exports what src/nccl/functions.def promises and what real clients need, and refuses what it says.

  exports   the functions of functions.def, their twins with p in front, those of tutti.h, and nothing else
  clients   each list of tests/nccl/clients is among them
  loading   soname, needs libc's family only, is never unloaded (not under a sanitizer: needs)
  refusals  every function with state `no` that returns a code returns ncclInvalidUsage and leaves a text
"""
import argparse
import ctypes
import pathlib
import re
import subprocess
import sys

NEEDED = re.compile(r"libc\.so\.6|libm\.so\.6|libdl\.so\.2|libpthread\.so\.0|ld-linux[\w-]*\.so\.\d+")
INVALID_USAGE = 5
VOID = {"ncclResetDebugInit", "ncclParamDumpAll"}


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--functions", required=True)
    parser.add_argument("--tutti-exports", required=True)
    parser.add_argument("--clients", required=True)
    parser.add_argument("--sanitized", action="store_true")
    options = parser.parse_args()
    problems = []

    rows = re.findall(r"^NCCL_FUNCTION\((\w+), (nccl|device), (yes|partly|no), ", pathlib.Path(options.functions).read_text(),
                      re.M)
    names = {name for name, _, _ in rows}
    if sum(header == "nccl" for _, header, _ in rows) != 64:
        problems.append("functions.def does not list the 64 functions of NCCL 2.30's nccl.h")
    want = names | {"p" + name for name in names} | set(pathlib.Path(options.tutti_exports).read_text().split())
    have = set()
    for line in output("nm", "--dynamic", "--defined-only", options.library).splitlines():
        have.add(line.split()[-1].split("@")[0])
    problems += [f"{name} is not exported" for name in sorted(want - have)]
    problems += [f"{name} is exported and not promised" for name in sorted(have - want)]

    lists = sorted(pathlib.Path(options.clients).glob("*.txt"))
    needs = 0
    for file in lists:
        symbols = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
        needs += len(symbols)
        problems += [f"{file.stem} needs {name}" for name in symbols if name not in have]
    if len(lists) < 4 or needs < 50:
        problems.append(f"only {len(lists)} lists with {needs} symbols in {options.clients}")

    dynamic = output("readelf", "--wide", "--dynamic", options.library)
    if re.findall(r"\(SONAME\).*\[(.*)\]", dynamic) != ["libnccl.so.2"]:
        problems.append("the soname is not libnccl.so.2")
    if "NODELETE" not in dynamic:
        problems.append("the library can be unloaded")
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
        if not options.sanitized and not NEEDED.fullmatch(name):
            problems.append(f"needs {name} at load")

    if not options.sanitized:
        library = ctypes.CDLL(options.library)
        library.ncclGetLastError.restype = ctypes.c_char_p
        refused = [name for name, _, state in rows if state == "no" and name not in VOID]
        nothing = [None] * 11  # no refusal reads its arguments
        for name in refused + ["p" + name for name in refused]:
            code = getattr(library, name)(*nothing)
            text = library.ncclGetLastError(None).decode()
            if code != INVALID_USAGE or not text.startswith(name.removeprefix("p") + ": not available"):
                problems.append(f"{name}: returned {code}, text {text!r}")

    print("\n".join(problems + [f"{len(have)} exports, {len(lists)} clients, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
