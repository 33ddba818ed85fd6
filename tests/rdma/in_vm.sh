#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The RDMA transport over a kernel's software devices (RoCE v2), in a virtual machine of several nodes.
#
#   in_vm.sh RUNNER PROGRAMS PART
#
# RUNNER is called as `RUNNER --nics N --nodes N --timeout S -- COMMAND...`; it runs COMMAND in a machine with the RDMA
# devices rxe0, rxe1, ... and with `on-node I COMMAND`, which runs a command on node I (host name, network 10.78.0.(I+1),
# /dev/shm and boot id of its own), and passes on its output and status. Empty: skipped (status 77). PROGRAMS is the
# build's folder of programs; they may be built with sanitizers: the machine then gets more memory and time. PART:
#
#   transports   the conformance suite of transports, over the real libibverbs
#   perf         all_reduce_perf, alltoall_perf, sendrecv_perf on 2 and on 4 nodes, each with its own device: nobody says
#                that rdma is to be used, and all values are checked
#   collectives  the conformance suite of collectives, rdma forced: 10 cases of every fourth world (RDMA_VM_SHARD: others)
#   faults       a cable is pulled: the other port goes on, or an error names device, port and peer; packets are lost and
#                late; a killed rank
#   hosts        faults between hosts over TCP (tests/hosts), with a kernel that can lose and delay packets
#   bandwidth    ib_write_bw (perftest), and what the library makes of the same two devices
set -euo pipefail
runner=$1 programs=$2 part=$3
here=$(cd "$(dirname "$0")" && pwd)
if [ -z "$runner" ]; then
  echo "skipped: no runner for virtual machines is named; configure with -D TUTTI_VM_RUNNER=PATH"
  exit 77
fi
if [ ! -x "$runner" ]; then
  echo "skipped: TUTTI_VM_RUNNER=$runner is not there or cannot be executed"
  exit 77
fi
memory=3072 timeout=1170
if grep -qaE '__(asan|tsan)_init' "$programs/sendrecv_perf"; then
  export RDMA_VM_SANITIZED=1
  memory=8192 timeout=3570
fi
# A busy host may give emulated processors too little time to start a kernel: what has not begun is begun again.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
for ((attempt = 1; ; ++attempt)); do
  status=0
  "$runner" --nics 4 --nodes 4 --memory "${RDMA_VM_MIB:-$memory}" --timeout "${RDMA_VM_TIMEOUT:-$timeout}" -- \
    bash "$here/parts.sh" "$programs" "$part" | tee "$said" || status=$?
  if [ $status = 0 ] || [ $attempt = 3 ] || grep -q '^== the machine is up' "$said"; then exit $status; fi
  echo "the machine did not start (status $status): again"
done
