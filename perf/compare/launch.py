# SPDX-License-Identifier: Apache-2.0
"""Runs a driver: asks for cells and reads their lines, gives up when it stalls, leaves nothing of it behind."""

import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path


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


class Driver:
    """A driver that measures what it is asked for, cell by cell, and sleeps in between.

    Whatever goes wrong ends the driver and is told by `failure`; asking it again then gives nothing.
    """

    def __init__(self, argv, environment, stall_seconds):
        self.failure = ""  # "" as long as all is well
        self.answered = 0  # requests
        self.greeting = []  # the lines before the first request
        self.stall_seconds = stall_seconds
        self.errors = tempfile.TemporaryFile("w+")
        self.process = self.reader = None
        self.arrived = queue.Queue()
        try:
            self.process = subprocess.Popen(argv, env=os.environ | environment, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True)
        except OSError as error:
            self.failure = str(error)
            self.errors.close()
            return
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self.greeting = self._lines(lambda line: "version" in line)

    def ask(self, request):
        """The JSON lines of this request; those that came, if the driver failed meanwhile."""
        if self.failure:
            return []
        try:
            self.process.stdin.write(request + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: why is told below
        lines = self._lines(lambda line: "over" in line)
        self.answered += not self.failure
        return [line for line in lines if "over" not in line]

    def end(self):
        """Lets the driver end by itself, then ends what is left of it. May be called again."""
        if self.process is None:
            return
        if not self.failure:
            self.process.stdin.close()
            try:
                self.process.wait(timeout=self.stall_seconds)
                self._judge_exit()
            except subprocess.TimeoutExpired:
                self.failure = f"did not end within {self.stall_seconds:.0f} s of its last cell"
        self._clean_up()

    def _read(self):
        for text in self.process.stdout:
            self.arrived.put(text)
        self.arrived.put(None)

    def _lines(self, is_last):
        lines = []
        try:
            while (text := self.arrived.get(timeout=self.stall_seconds)) is not None:
                if not text.startswith("{"):
                    continue
                lines.append(json.loads(text))
                if is_last(lines[-1]):
                    return lines
            self.process.wait(timeout=self.stall_seconds)
            self._judge_exit()
            self.failure = self.failure or "ended before it was told to"
        except (queue.Empty, subprocess.TimeoutExpired):
            self.failure = f"nothing came for {self.stall_seconds:.0f} s; ended"
        except ValueError as error:
            self.failure = f"unreadable line: {error}"
        self._clean_up()
        return lines

    def _judge_exit(self):
        if self.process.returncode == 0:
            return
        self.errors.seek(0)
        said = [line.strip() for line in self.errors.read().splitlines() if line.strip(" -*")]
        self.failure = f"exit status {self.process.returncode}" + (f": {said[0][:200]}" if said else "")

    def _clean_up(self):
        process, self.process = self.process, None
        end_session(process)
        self.reader.join()  # all writers of the pipe have ended
        for stream in (process.stdin, process.stdout, self.errors):
            try:
                stream.close()
            except BrokenPipeError:
                pass  # a request that was not read any more
