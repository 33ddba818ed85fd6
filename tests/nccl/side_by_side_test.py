#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How libnccl.so.2 gets into a process, and who else is there.

  link time     a linked program finds it by its soname
  LD_PRELOAD    it comes before another libnccl.so.2
  side by side  it and another (a fake; NCCL's own too, where there is one) in one process, in either order, local or
                global: each answers for itself
  libtutti.so   its streams are not those of libnccl.so.2, which says so
"""
import argparse
import ctypes
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import unittest

import bindings

options = None
FAKE_VERSION = 21805
OUR_VERSION = 22707


def real_nccl():
    """NCCL's own library as PyPI's packages bring it, or as NVIDIA's installers do; None where there is none."""
    spec = importlib.util.find_spec("nvidia") if importlib.util.find_spec("nvidia") else None
    folders = [pathlib.Path(place) / "nccl/lib" for place in (spec.submodule_search_locations if spec else [])]
    folders += [pathlib.Path(one) for one in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64",
                                              "/usr/local/lib", "/usr/local/cuda/lib64")]
    if options.real:
        folders.insert(0, pathlib.Path(options.real))
    for folder in folders:
        if (folder / "libnccl.so.2").exists():
            return str(folder / "libnccl.so.2")
    return None


def run_python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          cwd=pathlib.Path(__file__).parent, env={**os.environ, **environment})


def reported(**environment):
    done = subprocess.run([options.program], capture_output=True, text=True, check=True, timeout=60,
                          env={**os.environ, **environment})
    return int(done.stdout)


# Loads the two in the order given, with the modes given, then asks both and lets ours work.
SIDE_BY_SIDE = """
import ctypes, bindings as b
ours, other = {ours!r}, {other!r}
loaded = {{path: ctypes.CDLL(path, mode=mode) for path, mode in {order}}}
version = ctypes.c_int()
assert loaded[other].ncclGetVersion(ctypes.byref(version)) == 0
print(version.value)
nccl = b.Nccl(ours)
print(nccl.version())
comms = nccl.init_all(2)
x = [b.array([1, 2]), b.array([10, 20])]
with nccl.group():
    for rank, comm in enumerate(comms):
        nccl.AllReduce(x[rank], x[rank], 2, b.INT64, b.SUM, comm, None)
print(list(x[0]), list(x[1]), nccl.number(nccl.CommCount, comms[1]))
for comm in comms:
    nccl.CommDestroy(comm)
"""


class SideBySide(unittest.TestCase):
    def test_a_linked_program_gets_the_library_that_it_was_linked_with(self):
        self.assertEqual(reported(), OUR_VERSION)
        self.assertEqual(reported(TUTTI_NCCL_VERSION="2.30.7"), 23007)

    def test_preloading_comes_before_another_library_of_the_name(self):
        other = str(pathlib.Path(options.fake).parent)
        self.assertEqual(reported(LD_LIBRARY_PATH=other), FAKE_VERSION)
        self.assertEqual(reported(LD_LIBRARY_PATH=other, LD_PRELOAD=options.library), OUR_VERSION)

    def check(self, other, version):
        local, everywhere = ctypes.RTLD_LOCAL, ctypes.RTLD_GLOBAL
        for order in ([(options.library, local), (other, local)], [(other, everywhere), (options.library, local)],
                      [(options.library, everywhere), (other, everywhere)], [(other, everywhere), (options.library, everywhere)]):
            done = run_python(SIDE_BY_SIDE.format(ours=options.library, other=other, order=order))
            self.assertEqual(done.returncode, 0, f"{order}: {done.stderr}")
            lines = done.stdout.splitlines()
            self.assertEqual(lines[1:], [str(OUR_VERSION), "[11, 22] [11, 22] 2"], order)
            if version is not None:
                self.assertEqual(lines[0], str(version), order)
            self.assertNotEqual(lines[0], str(OUR_VERSION), order)

    def test_a_fake_beside_ours(self):
        self.check(options.fake, FAKE_VERSION)

    def test_ncclS_own_beside_ours(self):
        path = real_nccl()
        if path is None:
            self.skipTest("NCCL itself is not on this machine (PyPI: nvidia-nccl-cu12)")
        # It may need CUDA's run time, which may be missing: then there is nothing to live beside.
        if run_python(f"import ctypes; ctypes.CDLL({path!r})").returncode != 0:
            self.skipTest(f"{path} does not load here")
        self.check(path, None)

    def test_a_stream_of_libtutti_is_not_one_of_libnccl(self):
        done = run_python(f"""
import ctypes, bindings as b
tutti = ctypes.CDLL({options.tutti!r}, mode=ctypes.RTLD_GLOBAL)
nccl = b.Nccl({options.library!r})
comm, = nccl.init_all(1)
x = b.array([5])
def reduce(library):
    stream = ctypes.c_void_p()
    assert library.tuttiStreamCreate(ctypes.byref(stream)) == 0
    nccl.AllReduce(x, x, 1, b.INT64, b.SUM, comm, stream)
    assert library.tuttiStreamSynchronize(stream) == 0
reduce(nccl.library)
try:
    reduce(tutti)
except b.Error as error:
    print(error)
""")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"^4: .*stream is not one made by tuttiStreamCreate")

    def test_variables_of_nccl_are_told_to_the_log(self):
        code = f"import bindings as b; n = b.Nccl({options.library!r}); n.init_all(2)"
        done = run_python(code, NCCL_DEBUG="INFO", NCCL_NVLS_ENABLE="1", NCCL_COLLNET_ENABLE="0", NCCL_SHM_DISABLE="1",
                          NCCL_NO_SUCH_THING="7", NCCL_ALGO="NVLS,Ring", NCCL_IB_HCA="mlx5_0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stderr, r"INFO init NCCL version 2\.27\.7 \(Tutti ")
        self.assertRegex(done.stderr, r"WARN init NCCL_NVLS_ENABLE=1 has no effect")
        self.assertRegex(done.stderr, r"WARN init NCCL_NO_SUCH_THING is set")
        self.assertRegex(done.stderr, r"WARN init NCCL_ALGO=NVLS,Ring: there is no NVLS here")
        self.assertRegex(done.stderr, r"INFO init NCCL_IB_HCA=mlx5_0 sets TUTTI_RDMA_HCA=mlx5_0")
        self.assertRegex(done.stderr, r"INFO init NCCL_SHM_DISABLE=1 sets TUTTI_TRANSPORTS=\^shm")
        self.assertNotIn("NCCL_COLLNET_ENABLE", done.stderr)
        self.assertEqual(len(re.findall("NCCL_NVLS_ENABLE", done.stderr)), 1)

    def test_the_debug_file_of_nccl_takes_the_log(self):
        file = pathlib.Path(options.work) / "log.%h.%p"
        pathlib.Path(options.work).mkdir(parents=True, exist_ok=True)
        for old in file.parent.glob("log.*"):
            old.unlink()
        done = run_python(f"import bindings as b; b.Nccl({options.library!r}).init_all(1)", NCCL_DEBUG="info",
                          NCCL_DEBUG_FILE=str(file))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        written = list(file.parent.glob("log.*"))
        self.assertEqual(len(written), 1)
        self.assertIn("NCCL version", written[0].read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", required=True)
    parser.add_argument("--tutti", required=True)
    parser.add_argument("--fake", required=True)
    parser.add_argument("--program", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--real", default=os.environ.get("REAL_NCCL_DIR", ""), help="folder of NCCL's libnccl.so.2")
    options, rest = parser.parse_known_args()
    for name in ("library", "tutti", "fake", "program"):
        setattr(options, name, str(pathlib.Path(getattr(options, name)).resolve()))
    unittest.main(argv=[sys.argv[0], *rest])
