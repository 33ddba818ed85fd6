# SPDX-License-Identifier: Apache-2.0
"""tools/gpu-check on the fake CUDA driver, with tiny sizes: what it runs, what it writes, and its exit status.
Usage: gpu_check_test.py GPU_CHECK BUILD FAKE_CUDA LIBNCCL"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

GPU_CHECK = BUILD = FAKE_CUDA = NCCL = ""
SMALL = ["--ranks", "2", "--sizes", "8:512:64", "--iterations", "2", "--collectives", "all_reduce,all_gather"]
TESTS = ["--conformance-ranks", "2", "--cases", "1", "--seeds", "1"]


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = pathlib.Path(self.folder.name)

    def check(self, *arguments, **environment):
        environment = {"TUTTI_CUDA_LIBRARY": FAKE_CUDA, "FAKE_CUDA_DEVICES": "1", **environment}
        ran = subprocess.run([sys.executable, GPU_CHECK, "--build", BUILD, "--out", str(self.out), *arguments],
                             capture_output=True, text=True, env={**os.environ, **environment})
        reports = sorted(self.out.glob("*.json"))
        return ran, json.loads(reports[-1].read_text()) if reports else None

    def sanitizer(self, script):
        path = self.out / "compute-sanitizer"
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        return str(path)

    def test_everything_in_small(self):
        seen = self.out / "seen"
        # Takes options with a value up to the program, as the real one is called, and runs that.
        sanitizer = self.sanitizer(f'echo "$@" >> {seen}; while [[ $1 == --* ]]; do shift 2; done; exec "$@"')
        ran, report = self.check(*SMALL, *TESTS, "--sanitizer", sanitizer, "--nccl", NCCL, FAKE_CUDA_DEVICES="2")
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertEqual({step["status"] for step in report["steps"]}, {"passed"})
        names = [step["name"] for step in report["steps"]]
        self.assertIn("conformance, 2 rank(s), seed 1", names)
        self.assertIn("windows, 2 rank(s)", names)
        self.assertEqual([line.split()[1] for line in seen.read_text().splitlines()], ["memcheck", "racecheck"])
        # The runs of both libraries alternate.
        self.assertEqual(names.index("nccl: all_reduce, 2 ranks, stream"), names.index("tutti: all_reduce, 2 ranks, stream") + 1)
        self.assertEqual(report["machine"]["gpu"], "Fake GPU")
        cells = {(c["library"], c["collective"], c["mode"], c["bytes"]) for c in report["cells"]}
        self.assertEqual(len(cells), 2 * 2 * 2 * 2)
        for cell in report["cells"]:
            self.assertEqual(cell["wrong"], 0)
            self.assertAlmostEqual(cell["ratio"], cell["us"] / cell["floor_us"])
        self.assertEqual({(f["from"], f["to"]) for f in report["floors"]}, {(0, 0), (0, 1)})
        text = next(self.out.glob("*.md")).read_text()
        self.assertIn("### 2 ranks, graph", text)
        self.assertIn("| conformance, 2 rank(s), seed 1 | passed |", text)

    def test_wrong_values_fail_and_the_rest_still_runs(self):
        ran, report = self.check(*SMALL, "--only", "bench", FAKE_CUDA_IDLE_KERNELS="1")
        self.assertEqual(ran.returncode, 1, ran.stdout + ran.stderr)
        results = {step["name"]: step["status"] for step in report["steps"]}
        self.assertEqual(results["tutti: all_reduce, 2 ranks, stream"], "failed")
        self.assertEqual(results["tutti: all_gather, 2 ranks, graph"], "failed")
        self.assertEqual(results["floor: copies of a device, stream"], "passed")

    def test_without_a_sanitizer_not_all_was_run(self):
        ran, report = self.check(*TESTS, "--only", "sanitizer", "--sanitizer", str(self.out / "nowhere"))
        self.assertEqual(ran.returncode, 3, ran.stdout + ran.stderr)
        self.assertEqual([step["status"] for step in report["steps"]], ["not run", "not run"])

    def test_what_a_sanitizer_finds_fails(self):
        ran, report = self.check(*TESTS, "--only", "sanitizer", "--sanitizer", self.sanitizer("echo Error: race; exit 99"))
        self.assertEqual(ran.returncode, 1)
        self.assertEqual([step["status"] for step in report["steps"]], ["failed", "failed"])
        self.assertIn("race", report["steps"][0]["note"])

    def test_what_does_not_fit_is_listed(self):
        ran, report = self.check(*SMALL, *TESTS, "--budget", "1", "--only", "tests", "--only", "bench")
        self.assertEqual(ran.returncode, 3, ran.stdout + ran.stderr)
        self.assertEqual({step["status"] for step in report["steps"]}, {"not run"})
        self.assertIn("tutti: all_gather, 2 ranks, graph", [step["name"] for step in report["steps"]])

    def test_a_step_without_an_end_is_ended(self):
        ran, report = self.check(*TESTS, "--only", "sanitizer", "--budget", "12", "--sanitizer", self.sanitizer("sleep 1000"))
        self.assertIn(ran.returncode, (1, 3))
        self.assertRegex(report["steps"][0]["note"], "no end|cut by the budget")

    def test_an_earlier_report_is_kept(self):
        for _ in range(2):
            self.check("--only", "sanitizer", "--sanitizer", self.sanitizer("exit 0"))
        self.assertEqual(len(list(self.out.glob("*.json"))), 2)
        self.assertEqual(len(list(self.out.glob("*.md"))), 2)

    def test_without_a_gpu(self):
        for environment in ({"FAKE_CUDA_DEVICES": "0"}, {"TUTTI_CUDA_LIBRARY": "/nonexistent/libcuda.so"}):
            ran, report = self.check(**environment)
            self.assertEqual((ran.returncode, report), (2, None))
            self.assertIn("no GPU can be used", ran.stderr)

    def test_without_a_build(self):
        ran, _ = self.check("--build", str(self.out))
        self.assertEqual(ran.returncode, 2)
        self.assertIn("build it", ran.stderr)


if __name__ == "__main__":
    NCCL, FAKE_CUDA, BUILD, GPU_CHECK = (sys.argv.pop() for _ in range(4))
    unittest.main()
