#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Python program written against NCCL's interface alone: one thread drives all ranks of a process, as with several
GPUs. Every collective, values checked. Usage: one_process_test.py LIBRARY"""
import ctypes
import sys
import threading
import unittest

import bindings as b

nccl = None
RANKS = 4
COUNT = 257


def value(rank, i):
    return (rank + 1) * (i % 11) + rank


class OneProcess(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.comms = nccl.init_all(RANKS, devices=list(range(RANKS)))

    @classmethod
    def tearDownClass(cls):
        for comm in cls.comms:
            nccl.CommDestroy(comm)

    def buffers(self, blocks=1):
        send = [b.array([value(r, i) for i in range(COUNT * blocks)]) for r in range(RANKS)]
        return send, [b.array([-1] * COUNT * RANKS) for _ in range(RANKS)]

    def each_rank(self, call):
        with nccl.group():
            for rank, comm in enumerate(self.comms):
                call(rank, comm)

    def test_ranks_know_themselves(self):
        for rank, comm in enumerate(self.comms):
            self.assertEqual((nccl.number(nccl.CommCount, comm), nccl.number(nccl.CommUserRank, comm)), (RANKS, rank))
            self.assertEqual(nccl.number(nccl.CommCuDevice, comm), -1)

    def test_all_reduce(self):
        for op, combine in ((b.SUM, sum), (b.MAX, max), (b.MIN, min), (b.AVG, lambda x: sum(x) // RANKS)):
            send, recv = self.buffers()
            self.each_rank(lambda r, c: nccl.AllReduce(send[r], recv[r], COUNT, b.INT64, op, c, None))
            want = [combine([value(r, i) for r in range(RANKS)]) for i in range(COUNT)]
            for rank in range(RANKS):
                self.assertEqual(list(recv[rank][:COUNT]), want)

    def test_reduce_and_broadcast(self):
        send, recv = self.buffers()
        self.each_rank(lambda r, c: nccl.Reduce(send[r], recv[r], COUNT, b.INT64, b.SUM, 2, c, None))
        want = [sum(value(r, i) for r in range(RANKS)) for i in range(COUNT)]
        self.assertEqual(list(recv[2][:COUNT]), want)
        self.assertEqual(set(recv[0]), {-1})
        self.each_rank(lambda r, c: nccl.Broadcast(recv[r], recv[r], COUNT, b.INT64, 2, c, None))
        for rank in range(RANKS):
            self.assertEqual(list(recv[rank][:COUNT]), want)

    def test_gather_and_scatter_in_all_forms(self):
        send, recv = self.buffers()
        self.each_rank(lambda r, c: nccl.AllGather(send[r], recv[r], COUNT, b.INT64, c, None))
        everything = [value(r, i) for r in range(RANKS) for i in range(COUNT)]
        for rank in range(RANKS):
            self.assertEqual(list(recv[rank]), everything)
        gathered = [b.array([-1] * COUNT * RANKS) for _ in range(RANKS)]
        self.each_rank(lambda r, c: nccl.Gather(send[r], gathered[r], COUNT, b.INT64, 1, c, None))
        self.assertEqual(list(gathered[1]), everything)
        self.each_rank(lambda r, c: nccl.Scatter(gathered[r], recv[r], COUNT, b.INT64, 1, c, None))
        for rank in range(RANKS):
            self.assertEqual(list(recv[rank][:COUNT]), [value(rank, i) for i in range(COUNT)])

    def test_reduce_scatter_and_all_to_all(self):
        send, recv = self.buffers(blocks=RANKS)
        self.each_rank(lambda r, c: nccl.ReduceScatter(send[r], recv[r], COUNT, b.INT64, b.SUM, c, None))
        for rank in range(RANKS):
            want = [sum(value(r, rank * COUNT + i) for r in range(RANKS)) for i in range(COUNT)]
            self.assertEqual(list(recv[rank][:COUNT]), want)
        self.each_rank(lambda r, c: nccl.AlltoAll(send[r], recv[r], COUNT, b.INT64, c, None))
        for rank in range(RANKS):
            want = [value(r, rank * COUNT + i) for r in range(RANKS) for i in range(COUNT)]
            self.assertEqual(list(recv[rank]), want)

    def test_send_and_receive_around_the_ring(self):
        send, recv = self.buffers()

        def both(rank, comm):
            nccl.Send(send[rank], COUNT, b.INT64, (rank + 1) % RANKS, comm, None)
            nccl.Recv(recv[rank], COUNT, b.INT64, (rank - 1) % RANKS, comm, None)

        self.each_rank(both)
        for rank in range(RANKS):
            self.assertEqual(list(recv[rank][:COUNT]), [value((rank - 1) % RANKS, i) for i in range(COUNT)])

    def test_an_operator_of_the_users(self):
        ops = []
        for rank, comm in enumerate(self.comms):
            op = ctypes.c_int()
            factor = ctypes.c_double(rank + 0.5)
            nccl.RedOpCreatePreMulSum(ctypes.byref(op), ctypes.byref(factor), b.FLOAT64, 1, comm)
            ops.append(op)
        send = [b.array([2.0] * COUNT, ctypes.c_double) for _ in range(RANKS)]
        recv = [b.array([0.0] * COUNT, ctypes.c_double) for _ in range(RANKS)]
        self.each_rank(lambda r, c: nccl.AllReduce(send[r], recv[r], COUNT, b.FLOAT64, ops[r].value, c, None))
        want = sum(2.0 * (r + 0.5) for r in range(RANKS))
        for rank in range(RANKS):
            self.assertEqual(set(recv[rank]), {want})
        for rank, comm in enumerate(self.comms):
            nccl.RedOpDestroy(ops[rank], comm)

    def test_a_tutti_stream_takes_the_work(self):
        library = nccl.library
        streams = []
        for _ in range(RANKS):
            stream = ctypes.c_void_p()
            self.assertEqual(library.tuttiStreamCreate(ctypes.byref(stream)), 0)
            streams.append(stream)
        send, recv = self.buffers()
        for rank, comm in enumerate(self.comms):  # no group: each call is queued and returns
            nccl.AllReduce(send[rank], recv[rank], COUNT, b.INT64, b.SUM, comm, streams[rank])
        want = [sum(value(r, i) for r in range(RANKS)) for i in range(COUNT)]
        for rank in range(RANKS):
            self.assertEqual(library.tuttiStreamSynchronize(streams[rank]), 0)
            self.assertEqual(list(recv[rank][:COUNT]), want)
            self.assertEqual(library.tuttiStreamDestroy(streams[rank]), 0)

    def test_a_stream_of_somebody_else_is_told_apart(self):
        send, recv = self.buffers()
        for handle in (3, 0xDEAD0000, ctypes.addressof(send[0])):
            with self.assertRaises(b.Error) as caught:
                nccl.AllReduce(send[0], recv[0], COUNT, b.INT64, b.SUM, self.comms[0], handle)
            self.assertEqual(caught.exception.code, b.INVALID_ARGUMENT)
            self.assertIn("stream", str(caught.exception))

    def test_abort_frees_a_thread_that_waits_for_others(self):
        comms = nccl.init_all(2)
        x = b.array([1])
        outcome = []

        def wait():
            try:
                nccl.AllReduce(x, x, 1, b.INT64, b.SUM, comms[0], None)  # the other rank never calls
            except b.Error as error:
                outcome.append(error.code)

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        nccl.CommAbort(comms[0])  # during the call, or before it: neither hangs
        thread.join(timeout=60)
        self.assertFalse(thread.is_alive())
        self.assertIn(outcome, ([b.INVALID_USAGE], [b.INVALID_ARGUMENT]))
        nccl.CommAbort(comms[1])

    def test_configurations_that_are_none_are_refused(self):
        unique_id = nccl.unique_id()
        for config, word in ((b.Config(magic=1), "NCCL_CONFIG_INITIALIZER"), (b.Config(blocking=7), "blocking"),
                             (b.Config(min_ctas=0), "minCTAs"), (b.Config(min_ctas=8, max_ctas=2), "maxCTAs"),
                             (b.Config(net=b"Carrier pigeon"), "netName")):
            with self.assertRaises(b.Error) as caught:
                nccl.init_rank(1, unique_id, 0, config)
            self.assertIn(word, str(caught.exception))

    def test_a_network_named_in_the_configuration_is_the_one_between_hosts(self):
        comm, _ = nccl.init_rank(1, nccl.unique_id(), 0, b.Config(net=b"socket"))
        self.assertEqual(nccl.number(nccl.CommCount, comm), 1)
        nccl.CommDestroy(comm)

    def test_a_configuration_of_an_older_header_counts_as_far_as_it_goes(self):
        # 2.14 ended behind `blocking`, in the middle of a word: what follows is not looked at.
        comm, _ = nccl.init_rank(1, nccl.unique_id(), 0, b.Config(size=24, version=21400, cga=-77, min_ctas=-77))
        self.assertEqual(nccl.number(nccl.CommCount, comm), 1)
        nccl.CommDestroy(comm)


if __name__ == "__main__":
    nccl = b.Nccl(sys.argv.pop(1))
    unittest.main()
