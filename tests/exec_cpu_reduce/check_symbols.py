#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Fails when an object of the reductions defines a symbol outside its target's namespace.

An inline function of a shared header, compiled with -mavx512f and emitted as a weak symbol, may be the copy that the
linker keeps for the whole program, which then dies on machines without AVX-512. Names of the sanitizers are allowed.
"""
import argparse
import pathlib
import subprocess
import sys

TARGETS = ("baseline", "avx2", "avx512")
ALLOWED = ("__asan", "__odr_asan", "__tsan", "__ubsan", "asan.", "tsan.", "DW.ref.")


def foreign_symbols(nm, path, target):
    listing = subprocess.run([nm, "-C", "--defined-only", path], check=True, capture_output=True, text=True).stdout
    for line in listing.splitlines():
        _, kind, name = line.split(maxsplit=2)
        if kind.islower() and kind not in "vwu":  # local to the object
            continue
        if name.startswith(f"tutti::reduce_{target}::") or name.startswith(ALLOWED):
            continue
        yield f"{kind} {name}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nm", default="nm")
    parser.add_argument("objects", nargs="+")
    arguments = parser.parse_args()
    # With cmake -G Ninja the list may arrive as one argument separated by semicolons.
    objects = [path for argument in arguments.objects for path in argument.split(";")]
    checked, failed = 0, False
    for path in map(pathlib.Path, objects):
        target = path.name.split(".")[0]
        if path.parent.name != "reduce" or target not in TARGETS:
            continue
        checked += 1
        for symbol in foreign_symbols(arguments.nm, str(path), target):
            print(f"{path}: {symbol} is visible outside tutti::reduce_{target}")
            failed = True
    if checked == 0:
        print("no object of the reductions among the arguments")
    return 1 if failed or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
