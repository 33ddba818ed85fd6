// SPDX-License-Identifier: Apache-2.0
// Schedule: the steps of one rank in one lane, as a pure function. All families (ring.h, tree.h, ...) share the
// arguments and the helpers here; catalog.h lists what exists.
//
// A schedule is a struct with
//
//     int  steps() const      how many steps one round has (0: this lane has nothing to do)
//     Step at(int k) const    the step at position k, 0 <= k < steps()
//
// Rules every schedule keeps (the prover, exec/sim, checks them):
//   * Input is read before the same bytes of Output are written, so the call may be in place.
//   * Per directed pair of ranks and channel, only one part sends and only one receives, in the same order of slices.
//   * A reducing step that completes the reduction over all ranks has `last`; what it produces is only copied
//   afterwards.
//   * n == 1 is one local step.
#pragma once

#include <concepts>

#include "algo/channel_map.h"
#include "algo/hosts.h"
#include "algo/step.h"
#include "base/host_device.h"

namespace tutti {

struct UserSchedule;

// What a schedule is made from. `root` is the peer for SendRecv. `channel` picks among equivalent shapes (which of the
// two trees); `part` picks the lane where a schedule consists of several per channel. `hosts` and `user` are there for
// the schedules whose row needs them (catalog.h), `channel_map` for those that run on rings and trees of a topology
// (null: there are none); they outlive the schedule.
struct ScheduleArgs {
  int me = 0, n = 1;
  int root = 0;
  int channel = 0;
  int part = 0;
  const HostMap* hosts = nullptr;
  const UserSchedule* user = nullptr;
  const ChannelMap* channel_map = nullptr;
};

template <class S>
concept Schedule = requires(const S& schedule) {
  { schedule.steps() } -> std::convertible_to<int>;
  { schedule.at(0) } -> std::convertible_to<Step>;
};

// The only step of a communicator of one: the input becomes the output. With `reduce` it is the complete reduction.
TUTTI_HD constexpr Step local_step(bool reduce) {
  return {.src = Buffer::Input, .reduce = reduce, .last = reduce, .src_block = 0, .dst_block = 0};
}

// a mod n for a >= -n.
TUTTI_HD constexpr int wrap(int a, int n) { return (a + n) % n; }

TUTTI_HD constexpr int floor_log2(int n) {
  int log = 0;
  while (n >>= 1) ++log;
  return log;
}
TUTTI_HD constexpr int ceil_log2(int n) { return n <= 1 ? 0 : floor_log2(n - 1) + 1; }

}  // namespace tutti
