# SPDX-License-Identifier: Apache-2.0
"""Runs one driver: reads its lines as they come, gives up when it stalls, leaves nothing of it behind."""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Run:
    lines: list = field(default_factory=list)  # the JSON lines of the driver
    failure: str = ""  # "" when it ended well
    seconds: float = 0.0


def processes_of_session(session):
    """Launchers put their ranks into process groups of their own, but not into other sessions."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        if int(fields[3]) == session:
            yield int(entry.name)


def end_session(process, patience=3.0):
    """Asks the driver's own session to end, then ends it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pid in list(processes_of_session(process.pid)):
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            process.poll()
            if not list(processes_of_session(process.pid)):
                return
            time.sleep(0.05)


def run_driver(argv, environment, stall_seconds, on_line=lambda line: None):
    begin = time.monotonic()
    run = Run()
    with tempfile.TemporaryFile("w+") as errors:
        try:
            process = subprocess.Popen(argv, env=os.environ | environment, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        except OSError as error:
            run.failure = str(error)
            return run
        arrived = queue.Queue()

        def read():
            for text in process.stdout:
                arrived.put(text)
            arrived.put(None)

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            while (text := arrived.get(timeout=stall_seconds)) is not None:
                if text.startswith("{"):
                    run.lines.append(json.loads(text))
                    on_line(run.lines[-1])
            process.wait(timeout=stall_seconds)
        except (queue.Empty, subprocess.TimeoutExpired):
            run.failure = f"nothing came for {stall_seconds:.0f} s; ended"
        except ValueError as error:
            run.failure = f"unreadable line: {error}"
        finally:
            end_session(process)
            reader.join()  # all writers of the pipe have ended
            process.stdout.close()
        run.seconds = time.monotonic() - begin
        if not run.failure and process.returncode != 0:
            errors.seek(0)
            said = [line.strip() for line in errors.read().splitlines() if line.strip(" -*")]
            run.failure = f"exit status {process.returncode}" + (f": {said[0][:200]}" if said else "")
    return run
