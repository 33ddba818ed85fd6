#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A program of NCCL's interface with ranks on GPUs, on the fake CUDA driver (two devices): which device a rank is on,
streams, memory, and what is refused. Values of all collectives: tests/perf. Usage: gpus_test.py LIBRARY FAKE_CUDA"""
import ctypes
import os
import sys
import threading
import unittest

import bindings as b

nccl = cuda = None
COUNT = 100


class Gpu:
    """One device, with its primary context, as the CUDA runtime has it."""

    def __init__(self, ordinal):
        self.context = ctypes.c_void_p()
        done(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(self.context), ordinal))

    def __enter__(self):
        done(cuda.cuCtxPushCurrent_v2(self.context))

    def __exit__(self, *_):
        done(cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p())))

    def memory(self, values):
        at = ctypes.c_uint64()
        with self:
            done(cuda.cuMemAlloc_v2(ctypes.byref(at), ctypes.c_size_t(8 * len(values))))
        there(at.value, len(values))[:] = values
        return at.value

    def stream(self):
        made = ctypes.c_void_p()
        with self:
            done(cuda.cuStreamCreateWithPriority(ctypes.byref(made), 1, 0))
        return made.value

    def synchronize(self, stream):
        with self:
            done(cuda.cuStreamSynchronize(ctypes.c_void_p(stream)))


def done(code):
    if code != 0:
        raise AssertionError(f"the driver says {code}")


def there(at, count):
    """The fake's memory is the host's."""
    return (ctypes.c_int64 * count).from_address(at)


class OnGpus(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.gpus = [Gpu(0), Gpu(1)]

    def all_reduce(self, comms, places, streams):
        """On every rank, in a group: the sum of rank + 1."""
        send = [self.gpus[place].memory([rank + 1] * COUNT) for rank, place in enumerate(places)]
        recv = [self.gpus[place].memory([-1] * COUNT) for place in places]
        with nccl.group():
            for rank, comm in enumerate(comms):
                nccl.AllReduce(send[rank], recv[rank], COUNT, b.INT64, b.SUM, comm, streams[rank])
        for rank, place in enumerate(places):
            self.gpus[place].synchronize(streams[rank])
        want = len(comms) * (len(comms) + 1) // 2
        for at in recv:
            self.assertEqual(list(there(at, COUNT)), [want] * COUNT)

    def end(self, comms):
        for comm in comms:
            nccl.CommDestroy(comm)

    def test_one_call_makes_a_rank_on_each_device(self):
        comms = nccl.init_all(2)
        self.assertEqual([nccl.number(nccl.CommCuDevice, comm) for comm in comms], [0, 1])
        self.all_reduce(comms, [0, 1], [gpu.stream() for gpu in self.gpus])
        self.end(comms)

    def test_several_ranks_may_have_one_device(self):
        comms = nccl.init_all(3, devices=[1, 1, 0])
        self.assertEqual([nccl.number(nccl.CommCuDevice, comm) for comm in comms], [1, 1, 0])
        self.all_reduce(comms, [1, 1, 0], [self.gpus[place].stream() for place in (1, 1, 0)])
        self.end(comms)

    def test_a_rank_is_on_the_device_that_is_current(self):
        unique_id = nccl.unique_id()
        comms = [None, None]
        with nccl.group():
            for rank in (0, 1):
                with self.gpus[1 - rank]:
                    comms[rank] = ctypes.c_void_p()
                    nccl.CommInitRank(ctypes.byref(comms[rank]), 2, unique_id, rank)
        self.assertEqual([nccl.number(nccl.CommCuDevice, comm) for comm in comms], [1, 0])
        self.all_reduce(comms, [1, 0], [self.gpus[1].stream(), self.gpus[0].stream()])
        self.end(comms)

    def test_without_a_current_device_it_is_the_first_with_a_configuration_too(self):
        comm, _ = nccl.init_rank(1, nccl.unique_id(), 0, b.Config(name=b"first"))
        self.assertEqual(nccl.number(nccl.CommCuDevice, comm), 0)
        self.end([comm])

    def test_ranks_that_are_threads(self):
        unique_id = nccl.unique_id()
        devices, errors = [None, None], []

        def rank_of(rank):
            try:
                with self.gpus[rank]:
                    comm, _ = nccl.init_rank(2, unique_id, rank)
                    devices[rank] = nccl.number(nccl.CommCuDevice, comm)
                    send, recv = self.gpus[rank].memory([rank + 1] * COUNT), self.gpus[rank].memory([0] * COUNT)
                    stream = self.gpus[rank].stream()
                    nccl.AllReduce(send, recv, COUNT, b.INT64, b.SUM, comm, stream)
                    self.gpus[rank].synchronize(stream)
                    if list(there(recv, COUNT)) != [3] * COUNT:
                        errors.append(f"rank {rank}: wrong sum")
                    nccl.CommDestroy(comm)
            except Exception as error:  # told by the main thread
                errors.append(str(error))

        threads = [threading.Thread(target=rank_of, args=(rank,), daemon=True) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=120)
        self.assertEqual((devices, errors), ([0, 1], []))

    def test_a_communicator_that_does_not_block(self):
        unique_id, comms = nccl.unique_id(), [None, None]
        for rank in (0, 1):
            with self.gpus[rank]:
                comms[rank], code = nccl.init_rank(2, unique_id, rank, b.Config(blocking=0))
            self.assertEqual(code, b.IN_PROGRESS)
        for comm in comms:
            self.await_comm(comm)
        self.assertEqual([nccl.number(nccl.CommCuDevice, comm) for comm in comms], [0, 1])
        streams = [gpu.stream() for gpu in self.gpus]
        self.all_reduce(comms, [0, 1], streams)  # a group of all: on its streams when it returns
        at = [gpu.memory([rank + 1] * COUNT) for rank, gpu in enumerate(self.gpus)]
        codes = [nccl.AllReduce(at[rank], at[rank], COUNT, b.INT64, b.SUM, comms[rank], streams[rank]) for rank in (0, 1)]
        self.assertEqual(codes, [b.IN_PROGRESS, b.SUCCESS])
        for rank in (0, 1):
            self.await_comm(comms[rank])
            self.gpus[rank].synchronize(streams[rank])
            self.assertEqual(list(there(at[rank], COUNT)), [3] * COUNT)
        for comm in comms:
            self.assertEqual(nccl.CommFinalize(comm), b.IN_PROGRESS)
        for comm in comms:
            self.await_comm(comm)
        self.end(comms)

    def await_comm(self, comm):
        """Until nothing of it is under way; ctest ends a test that waits for ever."""
        while nccl.number(nccl.CommGetAsyncError, comm) == b.IN_PROGRESS:
            os.sched_yield()
        self.assertEqual(nccl.number(nccl.CommGetAsyncError, comm), b.SUCCESS)

    def test_default_streams_are_those_of_cuda(self):
        comms = nccl.init_all(2)
        for stream in (None, 1, 2):
            with self.subTest(stream=stream):
                self.all_reduce(comms, [0, 1], [stream, stream])
        self.end(comms)

    def test_a_child_keeps_its_parents_device(self):
        parents = nccl.init_all(2)
        children = [ctypes.c_void_p(), ctypes.c_void_p()]
        config = b.Config(name=b"child")
        with nccl.group():
            for rank in (0, 1):
                nccl.CommSplit(parents[rank], 0, -rank, ctypes.byref(children[rank]), ctypes.byref(config))
        self.assertEqual([nccl.number(nccl.CommCuDevice, child) for child in children], [0, 1])
        self.end(children + parents)

    def test_memory_is_of_the_current_device(self):
        for ordinal, gpu in enumerate(self.gpus):
            at = ctypes.c_void_p()
            device = ctypes.c_int(-1)
            with gpu:
                done(nccl.library.ncclMemAlloc(ctypes.byref(at), ctypes.c_size_t(1 << 20)))
                kDeviceOrdinal = 9
                done(cuda.cuPointerGetAttribute(ctypes.byref(device), kDeviceOrdinal, ctypes.c_uint64(at.value)))
            self.assertEqual(device.value, ordinal)
            self.assertEqual(nccl.library.ncclMemFree(at), b.SUCCESS)
            self.assertEqual(nccl.library.ncclMemFree(at), b.INVALID_ARGUMENT)

    def test_memory_is_ordinary_where_the_device_cannot_map_it(self):
        at, kind = ctypes.c_void_p(), ctypes.c_int(-1)
        os.environ["FAKE_CUDA_VMM"] = "0"
        try:
            with self.gpus[1]:
                done(nccl.library.ncclMemAlloc(ctypes.byref(at), ctypes.c_size_t(100)))
                kLegacyIpc = 10
                done(cuda.cuPointerGetAttribute(ctypes.byref(kind), kLegacyIpc, ctypes.c_uint64(at.value)))
        finally:
            del os.environ["FAKE_CUDA_VMM"]
        self.assertEqual(kind.value, 1)
        self.assertEqual(nccl.library.ncclMemFree(at), b.SUCCESS)

    def test_host_memory_is_refused(self):
        comm, _ = nccl.init_rank(1, nccl.unique_id(), 0)
        x = b.array([1])
        with self.assertRaises(b.Error) as caught:
            nccl.AllReduce(x, x, 1, b.INT64, b.SUM, comm, None)
        self.assertIn("pageable host memory", str(caught.exception))
        self.end([comm])

    def test_a_device_that_is_not_there_is_refused(self):
        with self.assertRaises(b.Error) as caught:
            nccl.init_all(1, devices=[7])
        self.assertIn("there is no such device", str(caught.exception))

    def test_growing_is_refused(self):
        comm, _ = nccl.init_rank(1, nccl.unique_id(), 0)
        grown = ctypes.c_void_p()
        with self.assertRaises(b.Error) as caught:
            nccl.CommGrow(comm, 2, ctypes.byref(nccl.unique_id()), -1, ctypes.byref(grown), None)
        self.assertEqual(caught.exception.code, b.INVALID_USAGE)
        self.assertIn("ranks on GPUs", str(caught.exception))
        self.end([comm])


class WithoutADriver(unittest.TestCase):
    """The rest of the process has one already: another process."""

    def test_the_text_names_what_to_do(self):
        if os.fork() == 0:
            os.execve(sys.executable, [sys.executable, "-B", __file__, nccl_path, "/nonexistent/libcuda.so", "none"],
                      {**os.environ, "TUTTI_CUDA_LIBRARY": "/nonexistent/libcuda.so"})
        _, status = os.wait()
        self.assertEqual(os.waitstatus_to_exitcode(status), 0)


def without_a_driver():
    try:
        nccl.init_all(1)
    except b.Error as error:
        return 0 if "TUTTI_NCCL_CPU=1" in str(error) or "TUTTI_CUDA_LIBRARY" in str(error) else 1
    return 2


if __name__ == "__main__":
    nccl_path, fake = sys.argv[1:3]
    nccl = b.Nccl(nccl_path)
    if sys.argv[3:] == ["none"]:
        sys.exit(without_a_driver())
    del sys.argv[1:3]
    cuda = ctypes.CDLL(fake)
    done(cuda.cuInit(0))
    unittest.main()
