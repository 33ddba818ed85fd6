#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our nccl.h against NCCL's own: the probe says the same with both, and every function of theirs has our type.

NCCL's header is that of this machine (--reference, found by CMake); the version asked of ours is that of the header
found. Ends with 77 (skipped) where there is none, or none of a version that ours can be.
"""
import argparse
import pathlib
import re
import subprocess
import sys

SKIPPED = 77


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def prototypes(text):
    """{name: parameter and return types} of the functions in preprocessed text."""
    text = re.sub(r"__attribute__\s*\(\((?:[^()]|\([^()]*\))*\)\)", " ", text)
    found = {}
    pattern = r"\b((?:const\s+char\s*\*|void|ncclResult_t))\s*(nccl\w+|pnccl\w+)\s*\(([^()]*)\)\s*;"
    for result, name, arguments in re.findall(pattern, text):
        types = []
        for argument in arguments.split(","):
            words = re.sub(r"\s+", " ", argument.strip())
            words = re.sub(r"\s*\*\s*", "*", words)
            named = re.fullmatch(r"(.*[*\s])\w+", words)  # the parameter's name is not part of the type
            types.append((named.group(1) if named and words != "void" else words).strip())
        found[name] = (re.sub(r"\s", "", result), [one for one in types if one not in ("", "void")])
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--compiler", required=True)
    parser.add_argument("--ours", required=True, help="folder of our nccl.h")
    parser.add_argument("--reference", default="", help="folder of NCCL's")
    parser.add_argument("--cuda", default="", help="folder of cuda_runtime.h")
    parser.add_argument("--work", required=True)
    options = parser.parse_args()

    header = pathlib.Path(options.reference or "/nowhere") / "nccl.h"
    if not header.is_file() or not options.cuda:
        print("skipped: no NCCL header with CUDA's on this machine")
        return SKIPPED
    minor = int(re.search(r"#define NCCL_MINOR (\d+)", header.read_text()).group(1))
    if not 27 <= minor <= 30:
        print(f"skipped: {header} is of 2.{minor}; ours can be 2.27 to 2.30")
        return SKIPPED

    probe = pathlib.Path(__file__).with_name("layout_probe.c")
    work = pathlib.Path(options.work)
    work.mkdir(parents=True, exist_ok=True)
    said, declared = [], []
    for name, folder in (("ours", options.ours), ("theirs", options.reference)):
        flags = ["-std=gnu11", f"-DTUTTI_NCCL_MINOR={minor}", "-I", folder, "-isystem", options.cuda]
        run(options.compiler, *flags, probe, "-o", work / name)
        said.append(run(work / name).splitlines())
        declared.append(prototypes(run(options.compiler, *flags, "-E", "-P", "-include", "nccl.h", "-xc", "/dev/null")))

    problems = [f"ours {a!r}, theirs {b!r}" for a, b in zip(*said) if a != b]
    if len(said[0]) != len(said[1]):
        problems.append(f"{len(said[0])} lines with ours, {len(said[1])} with theirs")
    ours, theirs = declared
    if len(theirs) < 60:
        problems.append(f"only {len(theirs)} prototypes found in {header}: the reader is broken")
    for name, kind in sorted(theirs.items()):
        if ours.get(name) != kind:
            problems.append(f"{name}: ours {ours.get(name)}, theirs {kind}")
    print("\n".join(problems + [f"2.{minor}: {len(said[0])} facts, {len(theirs)} prototypes, {len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
