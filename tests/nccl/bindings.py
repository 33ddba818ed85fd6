# SPDX-License-Identifier: Apache-2.0
"""NCCL's interface in ctypes, as a Python client binds it: by names and types, with no header at hand."""
import ctypes

SUCCESS, INVALID_ARGUMENT, INVALID_USAGE, IN_PROGRESS = 0, 4, 5, 7
INT32, INT64, FLOAT32, FLOAT64 = 2, 4, 7, 8
SUM, PROD, MAX, MIN, AVG = range(5)


class UniqueId(ctypes.Structure):
    _fields_ = [("internal", ctypes.c_byte * 128)]


class Config(ctypes.Structure):
    """ncclConfig_t of NCCL 2.27."""
    _fields_ = [("size", ctypes.c_size_t), ("magic", ctypes.c_uint), ("version", ctypes.c_uint), ("blocking", ctypes.c_int),
                ("cga", ctypes.c_int), ("min_ctas", ctypes.c_int), ("max_ctas", ctypes.c_int), ("net", ctypes.c_char_p),
                ("split_share", ctypes.c_int), ("traffic_class", ctypes.c_int), ("name", ctypes.c_char_p),
                ("collnet", ctypes.c_int), ("cta_policy", ctypes.c_int), ("shrink_share", ctypes.c_int),
                ("nvls_ctas", ctypes.c_int)]

    def __init__(self, **fields):
        undefined = -(2**31)
        super().__init__(ctypes.sizeof(Config), 0xCAFEBEEF, 22707, undefined, undefined, undefined, undefined, None,
                         undefined, undefined, None, undefined, undefined, undefined, undefined)
        for name, value in fields.items():
            setattr(self, name, value)


class Error(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")
        self.code = code


class Nccl:
    """The library at `path`; calls are attributes without the prefix, and raise Error."""

    def __init__(self, path, mode=ctypes.DEFAULT_MODE):
        self.library = ctypes.CDLL(path, mode=mode)
        self.library.ncclGetErrorString.restype = ctypes.c_char_p
        self.library.ncclGetLastError.restype = ctypes.c_char_p
        p, i, z = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
        buffers = [p, p, z, i]
        for name, types in {
                "GetVersion": [p], "GetUniqueId": [p], "CommInitRank": [p, i, UniqueId, i],
                "CommInitRankConfig": [p, i, UniqueId, i, p], "CommInitAll": [p, i, p], "CommSplit": [p, i, i, p, p],
                "CommShrink": [p, p, i, p, p, i], "CommGrow": [p, i, p, i, p, p], "CommGetUniqueId": [p, p],
                "CommDestroy": [p], "CommAbort": [p], "CommFinalize": [p], "CommGetAsyncError": [p, p],
                "CommCount": [p, p], "CommUserRank": [p, p], "CommCuDevice": [p, p],
                "AllReduce": buffers + [i, p, p], "Reduce": buffers + [i, i, p, p],
                "ReduceScatter": buffers + [i, p, p], "Broadcast": buffers + [i, p, p], "AllGather": buffers + [p, p],
                "AlltoAll": buffers + [p, p], "Gather": buffers + [i, p, p], "Scatter": buffers + [i, p, p],
                "Send": [p, z, i, i, p, p], "Recv": [p, z, i, i, p, p], "RedOpCreatePreMulSum": [p, p, i, i, p],
                "RedOpDestroy": [i, p], "GroupStart": [], "GroupEnd": [],
        }.items():
            function = getattr(self.library, "nccl" + name)
            function.argtypes = types
            setattr(self, name, self._raising(function))

    def _raising(self, function):
        def call(*arguments):
            code = function(*arguments)
            if code not in (SUCCESS, IN_PROGRESS):
                raise Error(code, self.last_error())
            return code
        return call

    def last_error(self, comm=None):
        return self.library.ncclGetLastError(comm).decode()

    def version(self):
        value = ctypes.c_int()
        self.GetVersion(ctypes.byref(value))
        return value.value

    def unique_id(self):
        value = UniqueId()
        self.GetUniqueId(ctypes.byref(value))
        return value

    def init_all(self, n, devices=None):
        comms = (ctypes.c_void_p * n)()
        self.CommInitAll(comms, n, (ctypes.c_int * n)(*devices) if devices else None)
        return list(comms)

    def init_rank(self, n, unique_id, rank, config=None):
        comm = ctypes.c_void_p()
        code = self.CommInitRankConfig(ctypes.byref(comm), n, unique_id, rank,
                                       ctypes.byref(config) if config is not None else None)
        return comm, code

    def number(self, call, comm):
        value = ctypes.c_int()
        call(comm, ctypes.byref(value))
        return value.value

    def group(self):
        return Group(self)


class Group:
    def __init__(self, nccl):
        self.nccl = nccl

    def __enter__(self):
        self.nccl.GroupStart()

    def __exit__(self, kind, value, trace):
        self.nccl.GroupEnd()
        return False


def array(values, kind=ctypes.c_int64):
    return (kind * len(values))(*values)
