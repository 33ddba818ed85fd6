#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The parts of in_vm.sh, inside the machine: parts.sh PROGRAMS PART
set -euo pipefail
programs=$1 part=$2
root=$(cd "$(dirname "$0")/../.." && pwd)
# Patience with what hangs: a sanitizer on emulated processors is slow. A death is told within a second, but how much of
# that second these processors get is the machine's matter: a quiet one may be asked for it.
patience=120 told_within_ms=${RDMA_VM_TOLD_MS:-10000}
[ -z "${RDMA_VM_SANITIZED:-}" ] || patience=300
export TUTTI_JOB_SECRET=in-vm TUTTI_INIT_TIMEOUT=${patience}s TUTTI_TIMEOUT=${patience}s
port=29500

# on_nodes N COMMAND: a rank on each of N nodes, each with its own device. Their output; the worst status.
on_nodes() {
  local nodes=$1 rank status=0 ranks=()
  shift
  port=$((port + 1))
  for ((rank = 0; rank < nodes; ++rank)); do
    RANK=$rank WORLD_SIZE=$nodes MASTER_ADDR=10.78.0.1 MASTER_PORT=$port TUTTI_RDMA_HCA="=rxe$rank" \
      on-node "$rank" "$@" &
    ranks+=($!)
  done
  for rank in "${ranks[@]}"; do wait "$rank" || status=$?; done
  return "$status"
}

fail() {
  echo "FAILED: $*"
  exit 1
}

transports() {
  RDMA_TEST_LIBRARY=libibverbs.so.1 RDMA_TEST_HCA=rxe0,rxe1 \
    "$programs/tests/transports_test" --gtest_filter='*rdma_threads*:*rdma_processes*'
}

# Ordinary memory, which passes through slots, and memory of the library, which devices read where it lies.
perf() {
  local nodes program memory
  for nodes in 2 4; do
    for program in all_reduce_perf alltoall_perf sendrecv_perf; do
      for memory in 0 2; do
        echo "== $program on $nodes nodes, --local_register $memory"
        TUTTI_DEBUG=info TUTTI_DEBUG_SUBSYS=transport on_nodes "$nodes" \
          "$programs/$program" -b 8 -e 1M -f 16 -n 3 -w 1 -c 1 --local_register "$memory" \
          >/tmp/perf.out 2>&1 || { cat /tmp/perf.out; fail "$program on $nodes nodes"; }
        grep -E '^ +[0-9]+ ' /tmp/perf.out
        [ "$(grep -c "rdma to $((nodes - 1)) rank(s)" /tmp/perf.out)" = "$nodes" ] || { cat /tmp/perf.out; fail "not all over rdma"; }
        [ "$(grep -c 'Ethernet RoCE v2, GID [0-9]* is ::ffff:' /tmp/perf.out)" = "$nodes" ] ||
          { cat /tmp/perf.out; fail "not by addresses of RoCE v2 that are of IPv4"; }
        grep -q 'Out of bounds values : 0 OK' /tmp/perf.out || { cat /tmp/perf.out; fail "wrong values"; }
        [ "$memory" = 0 ] || grep -q 'where they lie' /tmp/perf.out || { cat /tmp/perf.out; fail "nothing was sent from where it lay"; }
        sed -n 's/.* RDMA from /from /p' /tmp/perf.out | grep 'written to where they stay' || true
      done
    done
  done
}

collectives() {
  TUTTI_RDMA_HCA=rxe0,rxe1 "$programs/tests/conformance" --rdma libibverbs.so.1 --cases 10 \
    --stall $((2 * patience)) --shard "${RDMA_VM_SHARD:-0/4}"
}

# ended_badly JOB WHY: the job has to fail, but not by what a sanitizer finds on its way out.
ended_badly() {
  ! wait "$1" || fail "$2"
  ! grep -qE 'Sanitizer|runtime error: ' /tmp/fault.out || { cat /tmp/fault.out; fail "a sanitizer's report"; }
}

# Long enough for what happens to it meanwhile.
busy() { on_nodes 2 "$programs/sendrecv_perf" -b 64K -e 64K -n "$1" -w 0 -c 1; }

# until_up COUNT JOB: so many ways are up, as the job's log says.
until_up() {
  until [ "$(grep -c 'is up' /tmp/fault.out)" -ge "$1" ]; do
    kill -0 "$2" 2>/dev/null || { cat /tmp/fault.out; fail "the job ended before its ways were up"; }
    sleep 0.1
  done
}

faults() {
  export TUTTI_RDMA_TIMEOUT=14 TUTTI_RDMA_RETRY_COUNT=6 TUTTI_DEBUG=info TUTTI_DEBUG_SUBSYS=transport
  echo "== the only cable is pulled"
  : >/tmp/fault.out
  busy 100000 >/tmp/fault.out 2>&1 &
  local job=$!
  until_up 1 "$job"
  ip link set port0 down
  ended_badly "$job" "the ranks did not notice"
  ip link set port0 up
  grep -E 'can no longer be reached over RDMA: rxe[01] port 1 to rxe[01] port 1: ' /tmp/fault.out | head -4 ||
    { cat /tmp/fault.out; fail "no error that names device, port and peer"; }

  echo "== packets are lost and late"
  tc qdisc add dev port0 root netem loss 1% delay 50ms
  TUTTI_RDMA_TIMEOUT=16 busy 20 >/tmp/fault.out 2>&1 || { cat /tmp/fault.out; fail "the ranks did not bear it"; }
  tc -s qdisc show dev port0 | grep -E 'dropped [1-9]' || fail "nothing was lost"
  tc qdisc del dev port0 root
  grep -q 'Out of bounds values : 0 OK' /tmp/fault.out || { cat /tmp/fault.out; fail "wrong values"; }

  echo "== one of two cables is pulled"
  until grep -q ACTIVE /sys/class/infiniband/rxe0/ports/1/state; do sleep 0.1; done
  : >/tmp/fault.out
  two_devices 300 >/tmp/fault.out 2>&1 &
  job=$!
  until_up 4 "$job"
  ip link set port0 down
  wait "$job" || { cat /tmp/fault.out; fail "the ranks did not go on over the other port"; }
  ip link set port0 up
  grep 'goes on without' /tmp/fault.out || { cat /tmp/fault.out; fail "the port was not in use"; }
  grep -q 'Out of bounds values : 0 OK' /tmp/fault.out || { cat /tmp/fault.out; fail "wrong values"; }

  unset TUTTI_RDMA_TIMEOUT TUTTI_RDMA_RETRY_COUNT
  local round victim killed took
  for round in 1 2 3; do
    echo "== a rank is killed"
    : >/tmp/fault.out
    busy 100000 >/tmp/fault.out 2>&1 &
    job=$!
    until_up 1 "$job"
    victim=$(pgrep -f -n "$programs/sendrecv_perf")
    killed=$(date +%s%N)
    kill -9 "$victim"
    until grep -E 'rank [01] .*(its process|has died|is lost|was killed|ended)' /tmp/fault.out; do
      kill -0 "$job" 2>/dev/null || { cat /tmp/fault.out; fail "no error that names the rank"; }
      sleep 0.02
    done
    took=$((($(date +%s%N) - killed) / 1000000))
    echo "told after $took ms"
    ended_badly "$job" "the other rank did not notice"
    [ "$took" -le "$told_within_ms" ] || fail "a dead peer is to be told within $told_within_ms ms"
  done
}

# What hosts may suffer that only a kernel with netem can do to them, over TCP: other kernels skip it.
hosts() {
  TUTTI_TRANSPORTS=^rdma "$root/tools/hosts" run 2 -- "$programs/tests/hosts_test" --gtest_filter='HostFaults.*' | tee /tmp/hosts.out
  ! grep -q SKIPPED /tmp/hosts.out || fail "a test was skipped"
}

# Both ranks use rxe0 and rxe1, so that each has two ways to the other; slices land in memory of the library.
two_devices() {
  local rank status=0 ranks=()
  port=$((port + 1))
  for rank in 0 1; do
    RANK=$rank WORLD_SIZE=2 MASTER_ADDR=10.78.0.1 MASTER_PORT=$port TUTTI_RDMA_HCA="rxe0,rxe1" \
      on-node "$rank" "$programs/sendrecv_perf" -b 64K -e 64K -n "$1" -w 0 -c 1 --local_register 2 &
    ranks+=($!)
  done
  for rank in "${ranks[@]}"; do wait "$rank" || status=$?; done
  return "$status"
}

# MiB/s of a program's last line, all directions together: what it moves, `times` its size, by its time.
rate() {
  local times=$1 program=$2
  on_nodes 2 "$programs/$program" -b 16M -e 16M -n 3 -w 1 -c 0 --local_register "${RDMA_VM_MEMORY:-0}" \
    >/tmp/rate.out 2>&1 || { cat /tmp/rate.out >&2; fail "$program" >&2; }
  awk -v times="$times" '/^ +[0-9]+ /{ rate = times * $1 / $6 * 1e6 / 1048576 }
    END { if (rate == 0) exit 1; printf "%.1f\n", rate }' /tmp/rate.out || fail "no figure of $program" >&2
}

# MiB/s that ib_write_bw measures between the same two devices.
device_rate() {
  local size=1048576 server
  ib_write_bw -d rxe0 -x 1 -u 20 -s $size -n 60 "$@" >/tmp/device.server 2>&1 &
  server=$!
  until ss -ltn | grep -q ':18515 '; do
    kill -0 "$server" 2>/dev/null || { cat /tmp/device.server >&2; fail "ib_write_bw did not start" >&2; }
    sleep 0.1
  done
  ib_write_bw -d rxe1 -x 1 -u 20 -s $size -n 60 "$@" 127.0.0.1 >/tmp/device.out 2>&1 ||
    { cat /tmp/device.server /tmp/device.out >&2; fail "ib_write_bw" >&2; }
  wait "$server" || true
  awk -v size=$size '$1 == size { print $4; ++found } END { exit found != 1 }' /tmp/device.out ||
    fail "no figure of ib_write_bw" >&2
}

# median NAME: the median, the least and the most of what it has measured.
median() {
  sort -n "/tmp/rate.$1" | awk -v name="$1" '{ all[NR] = $1 } END {
    printf "%-16s %6.1f MiB/s (%.1f to %.1f, %d rounds)\n", name, all[int((NR + 1) / 2)], all[1], all[NR], NR }'
}

# ratio NAME DEVICE: the median of the rounds' ratios, since the machine is not the same in all rounds.
ratio() {
  paste "/tmp/rate.$1" "/tmp/rate.$2" | awk '{ print 100 * $1 / $2 }' | sort -n | awk -v name="$1" -v device="$2" '
    { all[NR] = $1 } END {
      printf "%s: %.0f %% of %s (%.0f to %.0f)\n", name, all[int((NR + 1) / 2)], device, all[1], all[NR] }'
}

bandwidth() {
  command -v ib_write_bw >/dev/null || fail "ib_write_bw is not installed (package perftest)"
  # An emulated processor may say that it has a fast `rep movsb` and then move a byte at a time, six times slower than
  # by registers; the C library believes it for long copies. So it is told not to, for all programs alike.
  export GLIBC_TUNABLES=${GLIBC_TUNABLES:-glibc.cpu.x86_rep_movsb_threshold=1073741824}
  local round name
  for ((round = 0; round < ${RDMA_VM_ROUNDS:-5}; ++round)); do
    device_rate >>/tmp/rate.one-way
    rate 1 broadcast_perf >>/tmp/rate.broadcast
    device_rate -b >>/tmp/rate.both-ways
    rate 2 sendrecv_perf >>/tmp/rate.sendrecv
    rate 2 all_reduce_perf >>/tmp/rate.all_reduce
  done
  for name in one-way broadcast both-ways sendrecv all_reduce; do
    echo "$name:" $(cat "/tmp/rate.$name")
    median "$name"
  done
  ratio broadcast one-way
  ratio sendrecv both-ways
  ratio all_reduce both-ways
}

echo "== the machine is up: $part"
"$part"
