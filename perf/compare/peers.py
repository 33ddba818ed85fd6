# SPDX-License-Identifier: Apache-2.0
"""Who takes part in the comparison, and how each one is started.

A row per peer; a new way of running a library is a new row. Called by `run`. Not here: starting processes (launch.py).
"""

from dataclasses import dataclass, field
from pathlib import Path

OPEN_MPI = ["mpirun.openmpi", "--oversubscribe", "--bind-to", "none", "-np", "{ranks}"]
# What Open MPI chooses by itself on one host, said aloud so that a network card in the machine changes nothing.
SHARED_MEMORY = ["--mca", "pml", "ob1", "--mca", "btl", "self,vader"]
OVER_UCX = ["--mca", "pml", "ucx", "--mca", "opal_common_ucx_tls", "any", "--mca", "opal_common_ucx_devices", "any",
            "-x", "UCX_TLS=self,posix,cma"]
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
# glibc returns large temporary buffers to the system after every call unless told not to; MPI libraries use such buffers.
KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "2147483648", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_MMAP_MAX_": "0"}

# Between hosts: mpirun runs on the first one, a wrapper takes each rank to its own. The ranks look alike to the launcher,
# so that shared memory has to be ruled out by name.
ON_HOST = [str(Path(__file__).resolve().parent / "on-host"), "{hosts}", "{ranks}"]
OPEN_MPI_TCP = ["ip", "netns", "exec", "{first_host}"] + OPEN_MPI + [
    "--mca", "pml", "ob1", "--mca", "btl", "self,tcp", "--mca", "btl_tcp_if_include", "eth0", "--mca",
    "oob_tcp_if_include", "eth0"]
OPEN_MPI_THERE = {"PMIX_MCA_ptl_base_if_include": "eth0"}


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    driver: str  # CMake target and file name
    launcher: list = field(default_factory=list)  # before the driver; "{ranks}", "{hosts}" and "{first_host}" are replaced
    arguments: list = field(default_factory=list)  # after the driver; likewise
    environment: dict = field(default_factory=dict)
    package: str = ""  # what to install when the driver cannot be built
    role: str = "peer"  # "peer", "subject" (this library) or "floor"
    by_default: bool = True
    only_ranks: tuple = ()  # empty: any number
    only_collectives: tuple = ()
    core_per_rank: bool = False  # does not take part with more ranks than cores
    once_per_round: bool = False  # does not depend on --buffers
    between_hosts: bool = False  # takes part with --between-hosts, and only then


OURS = ["--ranks", "{ranks}"]
OVER_HOSTS = ["--hosts", "{hosts}"]

PEERS = [
    Peer("tutti", "Tutti, ordinary buffers", "driver_tutti", arguments=OURS, role="subject"),
    Peer("tutti_windows", "Tutti, window buffers", "driver_tutti", arguments=OURS + ["--windows"], role="subject"),
    Peer("openmpi", "Open MPI, defaults (shared memory, single copy)", "driver_openmpi", OPEN_MPI + SHARED_MEMORY,
         environment=AS_ROOT, package="openmpi-bin libopenmpi-dev"),
    Peer("openmpi_ucx", "Open MPI over UCX", "driver_openmpi", OPEN_MPI + OVER_UCX, environment=AS_ROOT,
         package="openmpi-bin libopenmpi-dev"),
    Peer("openmpi_copy", "Open MPI, shared memory, copy in and out", "driver_openmpi",
         OPEN_MPI + SHARED_MEMORY + ["--mca", "btl_vader_single_copy_mechanism", "none"], environment=AS_ROOT,
         package="openmpi-bin libopenmpi-dev"),
    Peer("openmpi_malloc", "Open MPI, defaults, malloc told to keep memory", "driver_openmpi", OPEN_MPI + SHARED_MEMORY,
         environment=AS_ROOT | KEEP_MEMORY, package="openmpi-bin libopenmpi-dev", by_default=False),
    Peer("openmpi_segmented", "Open MPI, AllReduce as a segmented ring of 256 KiB", "driver_openmpi",
         OPEN_MPI + SHARED_MEMORY + ["--mca", "coll_tuned_use_dynamic_rules", "1", "--mca",
                                     "coll_tuned_allreduce_algorithm", "5", "--mca",
                                     "coll_tuned_allreduce_algorithm_segmentsize", "262144"],
         environment=AS_ROOT, package="openmpi-bin libopenmpi-dev", by_default=False, only_collectives=("all_reduce",)),
    # It polls without yielding: with more ranks than cores each call takes slices of the kernel's scheduler.
    Peer("mpich", "MPICH (not with more ranks than cores: it does not yield)", "driver_mpich",
         ["mpirun.mpich", "-bind-to", "none", "-np", "{ranks}"], package="mpich libmpich-dev", core_per_rank=True),
    Peer("gloo", "Gloo, TCP over loopback", "driver_gloo", arguments=OURS, package="libgloo-dev"),
    Peer("ucc", "UCC over UCX", "driver_ucc", arguments=OURS, environment={"UCX_TLS": "self,posix,cma"},
         package="(not in Debian 12: build UCC elsewhere and set UCC_PREFIX)"),
    Peer("ucc_malloc", "UCC over UCX, malloc told to keep memory", "driver_ucc", arguments=OURS,
         environment={"UCX_TLS": "self,posix,cma"} | KEEP_MEMORY,
         package="(not in Debian 12: build UCC elsewhere and set UCC_PREFIX)", by_default=False),
    Peer("floor_lines", "cache line exchange", "driver_floor", arguments=OURS + ["--kind", "lines"], role="floor",
         only_ranks=(2, 4, 8), only_collectives=("all_reduce",), once_per_round=True),
    Peer("floor_memcpy", "memcpy", "driver_floor", arguments=OURS + ["--kind", "memcpy"], role="floor", only_ranks=(2,),
         only_collectives=("all_reduce",), once_per_round=True),
    Peer("floor_staged", "AllReduce staged through shared slots", "driver_floor", arguments=OURS + ["--kind", "staged"],
         role="floor", only_ranks=(2,), only_collectives=("all_reduce",)),
    Peer("floor_mapped", "AllReduce of mapped buffers", "driver_floor", arguments=OURS + ["--kind", "mapped"],
         role="floor", only_ranks=(2,), only_collectives=("all_reduce",)),
    Peer("tutti_tcp", "Tutti, TCP", "driver_tutti", arguments=OURS + OVER_HOSTS, role="subject", between_hosts=True),
    Peer("openmpi_tcp", "Open MPI, TCP", "driver_openmpi", OPEN_MPI_TCP + ON_HOST, environment=AS_ROOT | OPEN_MPI_THERE,
         package="openmpi-bin libopenmpi-dev", between_hosts=True),
    Peer("openmpi_tcp2", "Open MPI, TCP, two sockets a pair", "driver_openmpi",
         OPEN_MPI_TCP + ["--mca", "btl_tcp_links", "2"] + ON_HOST, environment=AS_ROOT | OPEN_MPI_THERE,
         package="openmpi-bin libopenmpi-dev", between_hosts=True),
    Peer("mpich_tcp", "MPICH, TCP by UCX", "driver_mpich", ["mpirun.mpich", "-bind-to", "none", "-np", "{ranks}"] + ON_HOST,
         environment={"UCX_TLS": "self,tcp", "UCX_NET_DEVICES": "eth0"}, package="mpich libmpich-dev", between_hosts=True),
    Peer("gloo_tcp", "Gloo, TCP", "driver_gloo", arguments=OURS + OVER_HOSTS, package="libgloo-dev", between_hosts=True),
    Peer("floor_tcp", "one bare socket, spinning", "driver_floor", arguments=OURS + OVER_HOSTS + ["--kind", "tcp"],
         role="floor", only_ranks=(2,), only_collectives=("all_reduce", "all_gather", "broadcast"), between_hosts=True),
]


def by_name(name):
    for peer in PEERS:
        if peer.name == name:
            return peer
    raise KeyError(name)


def select(names, between_hosts=False):
    """`names`: comma separated names, `default`, `all`, `floors`, with `-name` taking one out again."""
    able = [p for p in PEERS if p.between_hosts == between_hosts]
    chosen = []
    for word in names.split(","):
        if word == "default":
            chosen += [p for p in able if p.by_default]
        elif word == "all":
            chosen += able
        elif word == "floors":
            chosen += [p for p in able if p.role == "floor"]
        elif word.startswith("-"):
            chosen = [p for p in chosen if p is not by_name(word[1:])]
        elif word:
            if by_name(word) not in able:
                raise KeyError(f"{word} {'without' if between_hosts else 'but with'} --between-hosts")
            chosen.append(by_name(word))
    return [p for p in PEERS if p in chosen]  # table order, each once


def command(peer, binary, ranks, options, hosts=()):
    words = {"{ranks}": str(ranks), "{hosts}": ",".join(hosts), "{first_host}": hosts[0] if hosts else ""}
    fill = lambda line: [words.get(word, word) for word in line]
    return fill(peer.launcher) + [str(binary)] + fill(peer.arguments) + options
