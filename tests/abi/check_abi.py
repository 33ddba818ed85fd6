#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The ABI guard: reads the built library with readelf and nm and compares it with what was promised.

  exports   exactly the functions of the public header, which are exactly the lines of exports.txt
  soname    as given
  needed    libc's family only: everything else is linked statically and hidden (not under a sanitizer)
  unload    never (-z nodelete), and no object of ours registers a destructor to run at exit
"""
import argparse
import re
import subprocess
import sys

NEEDED = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0"}
LOADER = re.compile(r"ld-linux[\w-]*\.so\.\d+")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def declared(header):
    text = re.sub(r"/\*.*?\*/", "", open(header).read(), flags=re.S)
    return set(re.findall(r"^TUTTI_API\b[^;]*?\b(tutti\w+)\s*\(", text, flags=re.M))


def exported(library):
    names = set()
    for line in output("readelf", "--wide", "--dyn-syms", library).splitlines():
        fields = line.split()
        if len(fields) == 8 and fields[4] in ("GLOBAL", "WEAK", "UNIQUE") and fields[6] != "UND":
            if fields[3] != "OBJECT" or fields[6] != "ABS":  # the version's own name
                names.add(fields[7].split("@")[0])
    return names


def difference(what, have, want, where):
    problems = [f"{what}: {name} is missing" for name in sorted(want - have)]
    return problems + [f"{what}: {name} is not in {where}" for name in sorted(have - want)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True)
    parser.add_argument("--header", required=True)
    parser.add_argument("--exports", required=True)
    parser.add_argument("--soname", required=True)
    parser.add_argument("--sanitized", action="store_true")
    parser.add_argument("objects", nargs="*")
    options = parser.parse_args()

    listed = set(open(options.exports).read().split())
    problems = difference("header", declared(options.header), listed, "exports.txt")
    problems += difference("library", exported(options.library), listed, "exports.txt")

    dynamic = output("readelf", "--wide", "--dynamic", options.library)
    soname = re.findall(r"\(SONAME\).*\[(.*)\]", dynamic)
    if soname != [options.soname]:
        problems.append(f"soname: {soname}, expected {options.soname}")
    if "NODELETE" not in dynamic:
        problems.append("flags: the library can be unloaded; link it with -z nodelete")
    for name in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
        if not options.sanitized and name not in NEEDED and not LOADER.fullmatch(name):
            problems.append(f"needed: {name}; link it statically or load it on demand")

    # A destructor of a static object is registered with __cxa_atexit (or atexit) in the object that holds it.
    for name in options.objects:
        for line in output("nm", "--undefined-only", name).splitlines():
            if line.split()[-1] in ("__cxa_atexit", "atexit", "on_exit"):
                problems.append(f"static destructor: {name} uses {line.split()[-1]}; let the object live for ever "
                                "(a reference to `new`), or make it trivially destructible")

    for problem in problems:
        print(problem)
    print(f"{len(listed)} functions, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
