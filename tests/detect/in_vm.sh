#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Detection in a virtual machine of two NUMA nodes with four RDMA devices below two PCIe switches.
#
#   in_vm.sh RUNNER TESTS TOOL
#
# RUNNER is called as `RUNNER --topology 2numa-4nic --cpus 4 --timeout S -- COMMAND...`; it runs COMMAND in such a machine
# with this file system and passes on its output and status. Empty: skipped (status 77). TESTS is the test binary, TOOL
# the `tutti` tool, whose report on the machine is printed.
set -euo pipefail
runner=$1 tests=$2 tool=$3
if [ -z "$runner" ]; then
  echo "skipped: no runner for virtual machines is named; configure with -D TUTTI_VM_RUNNER=PATH"
  exit 77
fi
if [ ! -x "$runner" ]; then
  echo "skipped: TUTTI_VM_RUNNER=$runner is not there or cannot be executed"
  exit 77
fi
# shellcheck disable=SC2016 # expanded in the machine
exec "$runner" --topology 2numa-4nic --cpus 4 --timeout 280 -- bash -c '
  DETECT_LIVE_MACHINE=2numa-4nic "$0" --gtest_filter="LiveMachine.*" || exit 1
  "$1" topo --gpu-class 0x0380 --format tree || exit 1
  "$1" topo --gpu-class 0x0380 --format matrix || exit 1
  "$1" doctor && exit 0
  echo "doctor: status $?"
' "$tests" "$tool"
