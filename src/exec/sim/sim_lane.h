// SPDX-License-Identifier: Apache-2.0
// SimLane: the lane of the prover. It satisfies the list in exec/run_schedule.h over symbolic memory (SimRank) and
// counted connections (SimFifo); SimJob holds those of all ranks. The checks of single steps are here; the orders in
// which lanes run and the check of the result are in prove.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "algo/catalog.h"
#include "exec/run_schedule.h"
#include "exec/sim/expressions.h"
#include "exec/sim/prove.h"

namespace tutti {

// One slice on its way.
struct SimMessage {
  std::vector<Value> cells;
  Cursor cursor;  // the sender's, for comparison and for counterexamples
  int hops = 0;
};

// A connection: to one rank, or (fan-out) to all others. Invariant: 0 <= tail - head <= slots, for each reader.
struct SimFifo {
  int sender = 0, receiver = 0, channel = 0;  // receiver -1: fan-out
  std::vector<SimMessage> ring;               // `slots` of them, reused
  uint64_t tail = 0;
  std::vector<uint64_t> heads;  // one, or for fan-out one per rank (the sender's own stays at the tail)
  std::vector<int> readers;     // the part that reads, -1: nobody so far; as `heads`
  int writer = -1;              // the part that sends

  bool fan() const { return receiver < 0; }
  int reader(int rank) const { return fan() ? rank : 0; }
  bool has_room() const;
  bool has_slice(int rank) const { return heads[reader(rank)] != tail; }
  SimMessage& next_slot() { return ring[tail % ring.size()]; }
  const SimMessage& front(int rank) const { return ring[heads[reader(rank)] % ring.size()]; }
  void push();
  void pop(int rank) { ++heads[reader(rank)]; }
  bool drained() const {
    return std::all_of(heads.begin(), heads.end(), [this](uint64_t head) { return head == tail; });
  }
};

struct SimRank {
  CollLayout layout;
  Layout scratch;
  std::vector<uint64_t> input_offsets, input_lengths, output_offsets, output_lengths;  // of Table layouts
  uint64_t input_begin = 0, input_cells = 0;  // where the buffers are in `memory`
  uint64_t output_begin = 0, output_cells = 0;
  uint64_t scratch_begin = 0;  // n blocks, up to the end
  std::vector<Value> memory;
  bool open = false;        // peers may use the buffers
  std::vector<bool> dirty;  // cells written since they opened: a peer that reads one depends on who was first
  uint64_t sent_bytes = 0, received_bytes = 0;
};

class SimJob {
 public:
  explicit SimJob(const Proof& proof);

  void reset();  // inputs fresh, outputs unwritten, connections empty
  SimFifo& fifo(int sender, int receiver, int channel);
  const std::deque<SimFifo>& fifos() const { return fifos_; }

  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }
  void fail(std::string text) {
    if (failure_.empty()) failure_ = std::move(text);
  }
  // The step at which a message was last put together, as a picture.
  void note_step(std::string picture) { step_ = std::move(picture); }
  const std::string& noted_step() const { return step_; }
  // "rank 1's input byte 64", "the sum over ranks {0-2} of input byte 64", "nothing".
  std::string text(Value value) const;

  const Proof& proof;
  Expressions expressions;
  std::vector<SimRank> ranks;
  uint64_t messages = 0;
  int hops = 0;
  std::vector<uint64_t> host_sent_bytes;  // by host

 private:
  std::deque<SimFifo> fifos_;  // references stay valid as it grows
  std::vector<int> fifo_of_;   // by channel, sender, receiver (n: fan-out); -1: not used so far
  std::string failure_, step_;
};

class SimLane {
 public:
  SimLane(SimJob& job, AnySchedule schedule, const ScheduleArgs& args);

  // Once before the first run: every step is one that an executor could carry out. Fails the job otherwise.
  void check_steps() const;
  void restart() {
    cursor = {}, hops_ = 0;
    entered_.assign(static_cast<size_t>(args_.n), false);
    opened_.clear();
  }
  // "rank 1, channel 0, part 0, round 0, step 2, slice 0"
  std::string where() const;
  std::string why_blocked();
  // At the end of the schedule: every opening of mine is closed, and I have left everybody.
  void check_left();
  uint64_t steps_without_data() const { return std::count(had_data_.begin(), had_data_.end(), false); }

  uint64_t rounds() const { return rounds_; }
  int slices(const Step& step) const { return step.meets() ? 1 : tiling_.slices * step.blocks; }
  bool empty(const Step& step, const Cursor& at) const;
  bool can_receive(const Step& step, const Cursor& at);
  bool can_send(const Step& step, const Cursor& at);
  void apply(const Step& step, const Cursor& at);
  void post(const Step& step, const Cursor& at);

  AnySchedule schedule;
  Cursor cursor;

 private:
  struct Range {
    uint64_t begin = 0, cells = 0;  // in the rank's memory
  };
  // A slice lies in one range, or, packed, in one for each block that it touches; source and target alike.
  int ranges(const Step& step, const Cursor& at) const;
  Range source(const Step& step, const Cursor& at, int part = 0) const;
  Range target(const Step& step, const Cursor& at, int part = 0) const;
  // What travels: the source, or without one the target.
  Range moved(const Step& step, const Cursor& at, int part = 0) const {
    return step.src != Buffer::None ? source(step, at, part) : target(step, at, part);
  }
  uint64_t cells(const Step& step, const Cursor& at) const;
  // The slice of a Remote step in a buffer of `peer`.
  Range remote(int peer, Buffer buffer, int block, const Cursor& at) const;
  Range packed(const Step& step, const Cursor& at, int part, bool target) const;
  struct Place {
    const Layout& layout;
    uint64_t begin;  // in the rank's memory
    int blocks;
  };
  Place place(Buffer buffer) const;
  std::string check_blocks(const Step& step, Buffer buffer, bool target) const;
  bool check_remote(const Step& step, const Cursor& at);
  void check_input(int owner, Buffer buffer, const Range& range);
  void meet(const Step& step, const Cursor& at);
  SimFifo& from(const Peers& peers, int i) const;
  template <class Visit>
  void each_outgoing(const Peers& peers, Visit visit) const;  // connections, not peers: fan-out is one
  std::string check_step(const Step& step) const;
  bool check_ranges(const Step& step, const Cursor& at);
  void check_range(const Step& step, const Range& in, const Range& out);
  bool take(const Step& step, const Cursor& at, const Range& in, uint64_t from_cell);
  Value combine(size_t cell);
  void keep(int owner, const Range& to, size_t from_cell);

  SimJob& job_;
  ScheduleArgs args_;
  Tiling tiling_;
  uint64_t rounds_;
  int hops_ = 0;                // messages on the longest chain that led here
  std::vector<bool> had_data_;  // by step
  std::vector<bool> entered_;   // by rank: its buffers may be used
  std::vector<const SimFifo*> opened_;
  std::vector<std::span<const Value>> operands_;
  std::vector<Value> result_;
};

}  // namespace tutti
