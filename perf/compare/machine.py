# SPDX-License-Identifier: Apache-2.0
"""What a reader must know about the machine and the code to judge a figure."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path


def first_match(path, pattern, default="?"):
    try:
        found = re.search(pattern, Path(path).read_text(), re.MULTILINE)
    except OSError:
        return default
    return found.group(1).strip() if found else default


def output_of(argv, folder="."):
    try:
        return subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def describe(source_folder):
    memory_kib = int(first_match("/proc/meminfo", r"^MemTotal:\s+(\d+)", "0"))
    return {
        "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$", platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 2**20),
        "kernel": platform.release(),
        "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)', platform.system()),
        "huge_pages": first_match("/sys/kernel/mm/transparent_hugepage/enabled", r"\[(\w+)\]"),
        "compiler": output_of(["c++", "--version"]).split("\n")[0],
        "load_before": os.getloadavg()[0],
    }


def commit(source_folder):
    name = output_of(["git", "rev-parse", "--short=12", "HEAD"], source_folder) or "unknown"
    return name + (" + uncommitted changes" if output_of(["git", "status", "--porcelain", "-uno"], source_folder) else "")


def now():
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def short_name(description):
    """For file names: cores and CPU, e.g. 2core-intel-xeon."""
    cpu = re.sub(r"\((R|TM)\)|\b(CPU|Processor)\b|@.*", " ", description["cpu"], flags=re.IGNORECASE)
    words = re.findall(r"[a-z0-9]+", cpu.lower())[:4]
    return "-".join([f"{description['cores']}core"] + words)
