#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tutti run, mpirun, srun's and torchrun's environments start ranks that find each other; and how `tutti run` ends.

Usage: launch_test.py FOLDER_OF_PROGRAMS. With HOSTS (tools/hosts) the same ssh that otherwise stays here goes to them.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

BIN = Path(sys.argv.pop(1)).resolve()
TUTTI = str(BIN / "tutti")
LAUNCHED = str(BIN / "launched")
PERF = [str(BIN / "all_reduce_perf"), "-b", "8", "-e", "8", "-n", "3", "-w", "1"]
HOSTS = os.environ.get("HOSTS", "").split()
LAUNCHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "PMI", "OMPI_", "SLURM_", "TUTTI_")
PATIENCE = 60

# What stands for ssh: notes its command line, and runs the command in the namespace of that name, or here.
FAKE_SSH = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do [ "$1" = -o ] && shift; shift; done
host=$1; shift
echo "$host $*" >> "$FAKE_SSH_LOG"
if [ -e "/run/netns/$host" ]; then exec ip netns exec "$host" sh -c "$*"; fi
exec sh -c "$*"
"""


def clean_environment(**more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHERS)}
    return kept | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"} | more


def run(command, **environment):
    return subprocess.run(command, env=clean_environment(**environment), stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=PATIENCE)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive(mark):
    """Processes with this word on their command line, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != os.getpid() and mark in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            pass
    return found


class Case(unittest.TestCase):
    def assert_measured(self, done, ranks):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn("Out of bounds values : 0 OK", done.stdout)
        self.assertEqual(len(re.findall(r"^#\s+Rank\s+\d+ ", done.stdout, re.M)), ranks, done.stdout)

    def assert_added(self, done, ranks):
        """What examples/launched.c says when all have found each other; torchrun puts words of its own before it."""
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        said = sorted(line[line.find("rank "):] for line in done.stdout.splitlines() if " of " in line)
        self.assertEqual(said, [f"rank {rank} of {ranks}: sum {ranks * (ranks + 1) // 2}" for rank in range(ranks)])

    def assert_gone(self, mark):
        until = time.monotonic() + PATIENCE
        while alive(mark):
            self.assertLess(time.monotonic(), until, f"left behind: {alive(mark)}")
            time.sleep(0.02)


class Run(Case):
    def test_ranks_of_this_host_find_each_other(self):
        self.assert_measured(run([TUTTI, "run", "-n", "3", "--", *PERF]), 3)

    def test_the_status_is_that_of_the_first_rank_that_fails_and_the_others_end(self):
        mark = f"tutti-mark-{os.getpid()}-fail"
        script = f": {mark}; if [ $RANK = 1 ]; then exit 7; fi; sleep 600"
        done = run([TUTTI, "run", "-n", "3", "--", "sh", "-c", script])
        self.assertEqual(done.returncode, 7, done.stderr)
        self.assertIn("rank 1 ended with status 7", done.stderr)
        self.assert_gone(mark)

    def test_a_rank_that_a_signal_ends_is_told_apart(self):
        done = run([TUTTI, "run", "-n", "2", "--", "sh", "-c", "[ $RANK = 0 ] && kill -KILL $$; sleep 600"])
        self.assertEqual(done.returncode, 128 + signal.SIGKILL)
        self.assertIn("rank 0 was ended by signal 9", done.stderr)

    def test_what_cannot_be_started_is_named(self):
        done = run([TUTTI, "run", "-n", "2", "--", "/nonexistent/program"])
        self.assertEqual(done.returncode, 127)
        self.assertIn("could not be started: '/nonexistent/program'", done.stderr)

    def test_lines_are_prefixed_whole_also_the_last_one_without_an_end(self):
        done = run([TUTTI, "run", "-n", "2", "--prefix", "--", "sh", "-c", "echo out; echo err >&2; printf end"])
        self.assertEqual(done.returncode, 0)
        self.assertEqual(sorted(done.stdout.splitlines()), ["[0] end", "[0] out", "[1] end", "[1] out"])
        self.assertEqual(sorted(done.stderr.splitlines()), ["[0] err", "[1] err"])

    def signalled(self, number, *options):
        process = subprocess.Popen([TUTTI, "run", "-n", "2", *options, "--", "sh", "-c",
                                    "trap 'echo told; exit 0' USR1 TERM; echo ready; while :; do sleep 0.05; done"],
                                   env=clean_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(number)
        rest, _ = process.communicate(timeout=PATIENCE)
        return process.returncode, rest.splitlines()

    def test_signals_are_forwarded(self):
        self.assertEqual(self.signalled(signal.SIGUSR1), (0, ["told", "told"]))

    def test_being_told_to_end_is_the_status(self):
        self.assertEqual(self.signalled(signal.SIGTERM), (128 + signal.SIGTERM, ["told", "told"]))

    def test_ranks_that_do_not_listen_are_ended_after_the_grace(self):
        process = subprocess.Popen([TUTTI, "run", "-n", "2", "--grace", "0.2", "--", "sh", "-c",
                                    "trap '' TERM; echo ready; while :; do sleep 0.05; done"],
                                   env=clean_environment(), stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            self.assertEqual(process.stdout.readline(), "ready\n")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM)

    def test_bad_lists_of_hosts_are_refused(self):
        for hosts, word in (("a:3,b:3", "do not fit"), ("a:x", "expected host"), ("a,,b", "comma list")):
            done = run([TUTTI, "run", "-n", "4", "--hosts", hosts, "--", "true"])
            self.assertEqual(done.returncode, 2)
            self.assertIn(word, done.stderr)


class Ssh(Case):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "ssh").write_text(FAKE_SSH)
        (self.folder / "ssh").chmod(0o755)
        self.environment = {"PATH": f"{self.folder}:{os.environ['PATH']}", "FAKE_SSH_LOG": str(self.folder / "log")}
        self.hosts = HOSTS or ["one", "two"]
        self.master = ["--master", "10.83.0.1" if HOSTS else "127.0.0.1"]

    def options(self, *more):
        return ["--hosts", ",".join(self.hosts[:2]), *self.master, *more]

    def test_ranks_of_other_hosts_find_each_other_and_the_secret_is_on_no_command_line(self):
        done = run([TUTTI, "run", "-n", "4", *self.options(), "--", *PERF], TUTTI_JOB_SECRET="very-secret",
                   **self.environment)
        self.assert_measured(done, 4)
        log = (self.folder / "log").read_text()
        self.assertEqual(sorted(re.findall(r"^(\S+) cd ", log, re.M)), sorted(self.hosts[:2] * 2))
        self.assertNotIn("very-secret", log)
        self.assertNotIn("not authenticated", done.stderr)

    def test_words_and_variables_arrive_as_they_are(self):
        word = "it's; $HOME \"quoted\" *"
        done = run([TUTTI, "run", "-n", "2", *self.options("-x", "MINE", "--prefix"), "--", "sh", "-c",
                    'echo "$1 $MINE $RANK/$WORLD_SIZE $LOCAL_RANK/$LOCAL_WORLD_SIZE $(pwd)"', "sh", word],
                   MINE="a'b", **self.environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        here = os.getcwd()
        self.assertEqual(sorted(done.stdout.splitlines()),
                         [f"[{r}] {word} a'b {r}/2 0/1 {here}" for r in range(2)])

    def test_a_status_comes_back(self):
        done = run([TUTTI, "run", "-n", "2", *self.options(), "--", "sh", "-c", "[ $RANK = 1 ] && exit 9; sleep 600"],
                   **self.environment)
        self.assertEqual(done.returncode, 9, done.stderr)
        self.assertIn(f"rank 1 on {self.hosts[1]} ended with status 9", done.stderr)

    def start_long(self):
        mark = f"tutti-mark-{os.getpid()}-{self.id().rsplit('.', 1)[1]}"
        process = subprocess.Popen([TUTTI, "run", "-n", "2", *self.options(), "--", "sh", "-c",
                                    f": {mark}; trap 'echo told; exit 0' USR1 TERM; echo ready; while :; do sleep 0.05; done"],
                                   env=clean_environment(**self.environment), stdout=subprocess.PIPE, text=True)
        for _ in range(2):
            self.assertEqual(process.stdout.readline(), "ready\n")
        return mark, process

    def test_signals_are_forwarded(self):
        mark, process = self.start_long()
        process.send_signal(signal.SIGUSR1)
        rest, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, rest.splitlines()), (0, ["told", "told"]))
        self.assert_gone(mark)

    def test_an_interrupt_reaches_ranks_that_a_shell_started(self):
        mark, process = self.start_long()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, rest.splitlines()), (128 + signal.SIGINT, ["told", "told"]))
        self.assert_gone(mark)

    def test_nothing_stays_behind_when_the_launcher_is_killed(self):
        mark, process = self.start_long()
        process.kill()
        process.communicate(timeout=PATIENCE)
        self.assert_gone(mark)


class Environments(Case):
    def each(self, ranks, environment_of):
        processes = [subprocess.Popen(PERF, env=clean_environment(**environment_of(rank)), stdin=subprocess.DEVNULL,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(ranks)]
        outputs = [process.communicate(timeout=PATIENCE) for process in processes]
        self.assertEqual([process.returncode for process in processes], [0] * ranks, outputs)
        return outputs

    def test_torchrun(self):
        port = free_port()
        outputs = self.each(3, lambda rank: {"RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_RANK": str(rank),
                                             "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                                             "TUTTI_JOB_SECRET": "x"})
        self.assertIn("Out of bounds values : 0 OK", outputs[0][0])

    def test_srun_without_a_plugin(self):
        job = str(os.getpid())
        outputs = self.each(3, lambda rank: {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "0", "SLURM_PROCID": str(rank),
                                             "SLURM_STEP_NUM_TASKS": "3", "SLURM_LOCALID": str(rank),
                                             "SLURM_STEP_NODELIST": "localhost"})
        self.assertIn("Out of bounds values : 0 OK", outputs[0][0])
        self.assertIn("not authenticated", outputs[0][1])

    def test_a_step_within_torchrun_counts_as_torchruns(self):
        port = free_port()
        self.each(2, lambda rank: {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
                                   "MASTER_PORT": str(port), "TUTTI_JOB_SECRET": "x", "SLURM_STEP_ID": "0",
                                   "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"})

    def test_open_mpi(self):
        if not shutil.which("mpirun.openmpi"):
            self.skipTest("Open MPI's mpirun is not installed (openmpi-bin)")
        for ranks in (2, 4):
            start = ["mpirun.openmpi", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
            done = run([*start, *PERF])
            self.assert_measured(done, ranks)
            self.assertNotIn("not authenticated", done.stderr)
            self.assert_added(run([*start, LAUNCHED]), ranks)

    def test_open_mpi_without_pmix_says_what_to_install(self):
        if not shutil.which("mpirun.openmpi"):
            self.skipTest("Open MPI's mpirun is not installed (openmpi-bin)")
        done = run(["mpirun.openmpi", "-np", "1", *PERF], TUTTI_PMIX_LIBRARY="/nonexistent.so")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("install it (libpmix2)", done.stdout + done.stderr)

    def test_mpich(self):
        if not shutil.which("mpirun.mpich"):
            self.skipTest("MPICH's mpirun is not installed (mpich)")
        for ranks in (2, 4):
            start = ["mpirun.mpich", "-np", str(ranks)]
            done = run([*start, *PERF])
            self.assert_measured(done, ranks)
            self.assertNotIn("not authenticated", done.stderr)
            self.assert_added(run([*start, LAUNCHED]), ranks)

    def test_the_real_torchrun(self):
        if not shutil.which("torchrun"):
            self.skipTest("torchrun is not installed (PyTorch; Debian: python3-torch)")
        with tempfile.TemporaryDirectory() as logs:
            ranks = ",".join(f"{rank}:1" for rank in range(3))  # a map: PyTorch 1.13 fails on less with Python 3.11
            done = run(["torchrun", "--no_python", "--nproc_per_node", "3", "--master_port", str(free_port()),
                        "--log_dir", logs, "--redirects", ranks, "--tee", ranks, LAUNCHED], TUTTI_JOB_SECRET="x")
        self.assert_added(done, 3)


@unittest.skipIf(HOSTS, "its node is this host")
@unittest.skipUnless(os.geteuid() == 0, "Slurm's daemons are started by root")
@unittest.skipUnless(all(map(shutil.which, ("slurmctld", "slurmd", "srun", "munged", "mungekey"))),
                     "Slurm is not installed (slurmctld, slurmd, slurm-client, munge)")
class Slurm(Case):
    """A cluster of one node, started for these tests: what srun itself says to its ranks, by each of its plugins."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        at = Path(cls.folder.name)
        cls.conf, socket_path, node = str(at / "slurm.conf"), at / "munge.socket", socket.gethostname().split(".")[0]
        subprocess.run(["mungekey", "--create", "--keyfile", at / "munge.key"], check=True)
        Path(cls.conf).write_text(f"""
ClusterName=of_one
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={socket_path}
CredType=cred/munge
StateSaveLocation={at / "state"}
SlurmdSpoolDir={at / "spool"}
SlurmctldPidFile={at / "slurmctld.pid"}
SlurmdPidFile={at / "slurmd.pid"}
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
NodeName={node} NodeAddr=127.0.0.1 Port={free_port()} CPUs={os.cpu_count()} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP OverSubscribe=YES
""")
        (at / "state").mkdir()
        (at / "spool").mkdir()
        files = [f"--{what}-file={at}/munge.{what}" for what in ("key", "pid", "log", "seed")]
        cls.start(["munged", "--foreground", "--force", f"--socket={socket_path}", *files], at / "munged.out")
        cls.until("munged", ["munge", f"--socket={socket_path}", "--no-input"], at / "munged.out")
        cls.start(["slurmctld", "-D", "-i", "-f", cls.conf], at / "slurmctld.out")
        cls.start(["slurmd", "-D", "-f", cls.conf], at / "slurmd.out")
        cls.until("slurmctld and slurmd", ["srun", "true"], at / "slurmctld.out")

    @classmethod
    def start(cls, command, log):
        with open(log, "w") as out:
            daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=clean_environment())
        cls.addClassCleanup(daemon.wait)
        cls.addClassCleanup(daemon.terminate)

    @classmethod
    def until(cls, what, command, log):
        give_up = time.monotonic() + PATIENCE
        while run(command, SLURM_CONF=cls.conf).returncode != 0:
            if time.monotonic() > give_up:
                raise AssertionError(f"{what} did not start: {Path(log).read_text()}")
            time.sleep(0.05)

    def srun(self, plugin, command, **environment):
        return run(["srun", "--overcommit", "-n", "4", f"--mpi={plugin}", *command], SLURM_CONF=self.conf, **environment)

    def plugins(self):
        """Those that srun has; `none` always."""
        listed = run(["srun", "--mpi=list"], SLURM_CONF=self.conf)
        words = (listed.stdout + listed.stderr).split()
        self.assertIn("none", words)
        return [plugin for plugin in ("pmix", "pmi2", "none") if plugin in words]

    def test_ranks_find_each_other_by_each_plugin(self):
        for plugin in self.plugins():
            with self.subTest(plugin):
                self.assert_measured(self.srun(plugin, PERF, TUTTI_JOB_SECRET="x"), 4)
                self.assert_added(self.srun(plugin, [LAUNCHED], TUTTI_JOB_SECRET="x"), 4)

    def test_stores_of_plugins_carry_the_secret(self):
        for plugin in self.plugins():
            with self.subTest(plugin):
                done = self.srun(plugin, PERF)
                self.assert_measured(done, 4)
                # Without a store there is no secret, and a warning.
                self.assertEqual("not authenticated" in done.stderr, plugin == "none", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
