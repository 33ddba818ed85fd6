#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""NCCL_COMM_ID: ranks that exchange no id meet at an address. Usage: address_test.py PROGRAM, which is nccl_collectives."""
import os
import socket
import subprocess
import sys
import unittest

PROGRAM = sys.argv.pop(1)


def free_port():
    """A port that nobody has, with room for the neighbours that the rendezvous may take; below the ephemeral range, so
    that it is not given to an unrelated connection meanwhile."""
    for port in range(21000 + os.getpid() % 8000, 32000, 7):
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError("no port is free")


def run(**environment):
    return subprocess.run([PROGRAM, "3"], capture_output=True, text=True, timeout=100, env={**os.environ, **environment})


class Address(unittest.TestCase):
    def test_ranks_meet_and_work(self):
        done = run(NCCL_COMM_ID=f"127.0.0.1:{free_port()}", TUTTI_JOB_SECRET="a test's")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_without_a_secret_a_warning_says_so(self):
        done = run(NCCL_COMM_ID=f"127.0.0.1:{free_port()}")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("is not authenticated: set TUTTI_JOB_SECRET", done.stderr)

    def test_what_is_no_address_is_named(self):
        for address in ("nowhere", "127.0.0.1:", "127.0.0.1:99999", ":5000", "::1:5000"):
            done = run(NCCL_COMM_ID=address)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(f"the address '{address}' does not parse: expected host:port", done.stderr)


if __name__ == "__main__":
    unittest.main()
