// SPDX-License-Identifier: Apache-2.0
// Runs the lanes of all ranks in several orders and compares what they leave with what the collective promises.
#include "exec/sim/prove.h"

#include <algorithm>
#include <random>
#include <string>

#include "exec/sim/sim_lane.h"

namespace tutti {
namespace {

enum class Order : uint8_t { InTurn, FirstFirst, LastFirst, Random };

class Prover {
 public:
  explicit Prover(const Proof& proof) : proof_(proof), job_(proof) {
    for (int me = 0; me < proof.n; ++me) {
      for (int channel = 0; channel < proof.channels; ++channel) {
        for (int part = 0; part < proof.parts; ++part) add_lane(me, channel, part);
      }
    }
  }

  Result<ProofStats> run() {
    for (SimLane& lane : lanes_) lane.check_steps();
    if (job_.failed()) return refused("");
    std::vector<std::pair<Order, uint64_t>> orders;
    if (proof_.fixed_orders) orders = {{Order::InTurn, 0}, {Order::FirstFirst, 0}, {Order::LastFirst, 0}};
    for (int i = 0; i < proof_.random_orders; ++i) orders.push_back({Order::Random, proof_.seed + i});

    ProofStats stats;
    for (const auto& [order, seed] : orders) {
      run_lanes(order, seed);
      if (!job_.failed()) check_drained();
      for (int me = 0; me < proof_.n && !job_.failed(); ++me) check_result(me);
      if (job_.failed()) return refused(text(order, seed));
      if (&order == &orders.front().first) stats = measured();
    }
    return stats;
  }

  // The last run() ended because nobody could move.
  bool deadlocked() const { return deadlocked_; }

 private:
  void add_lane(int me, int channel, int part) {
    ScheduleArgs args{.me = me,
                      .n = proof_.n,
                      .root = proof_.root,
                      .channel = channel,
                      .part = part,
                      .hosts = proof_.hosts,
                      .channel_map = proof_.channel_map};
    if (proof_.coll == Coll::SendRecv) args.root = wrap(part == 0 ? me + proof_.root : me - proof_.root, proof_.n);
    lanes_.emplace_back(job_, proof_.schedule(args), args);
  }

  static std::string text(Order order, uint64_t seed) {
    switch (order) {
      case Order::InTurn:
        return " (ranks in turn)";
      case Order::FirstFirst:
        return " (first rank first)";
      case Order::LastFirst:
        return " (last rank first)";
      case Order::Random:
        return fmt::format(" (random order, seed {})", seed);
    }
    return {};
  }

  Status refused(const std::string& order) const {
    const std::string step = job_.noted_step().empty() ? "" : fmt::format("; the step is {}", job_.noted_step());
    return error(Code::InternalError, "{} on {} ranks is wrong: {}{}{}", name(proof_.coll), proof_.n, job_.failure(),
                 step, order);
  }

  // True: the lane moved.
  bool step(size_t lane) {
    if (done_[lane]) return false;
    const Advance result = advance(lanes_[lane].schedule, lanes_[lane], lanes_[lane].cursor);
    if (result == Advance::Done) {
      done_[lane] = true, --left_;
      lanes_[lane].check_left();
    }
    return result != Advance::Blocked;
  }

  void run_lanes(Order order, uint64_t seed) {
    job_.reset();
    for (SimLane& lane : lanes_) lane.restart();
    done_.assign(lanes_.size(), false);
    left_ = lanes_.size();
    std::mt19937_64 random(seed);
    while (left_ > 0 && !job_.failed()) {
      if (!run_some(order, random)) return fail_deadlock();
    }
  }

  // A spell of running; false: nobody could move. Every spell that ends with false has asked every lane.
  bool run_some(Order order, std::mt19937_64& random) {
    const size_t count = lanes_.size();
    if (order == Order::Random) {
      bool moved = false;
      for (size_t i = 0; i < count; ++i) {
        const size_t lane = random() % count;
        for (size_t burst = random() % 8 + 1; burst > 0 && step(lane); --burst) moved = true;
      }
      if (moved) return true;
    }
    bool moved = false;
    for (size_t i = 0; i < count && !job_.failed(); ++i) {
      const size_t lane = order == Order::LastFirst ? count - 1 - i : i;
      if (!step(lane)) continue;
      moved = true;
      if (order == Order::InTurn || order == Order::Random) continue;
      while (!job_.failed() && step(lane)) continue;
      return true;  // and start again with the favourite
    }
    return moved;
  }

  void fail_deadlock() {
    deadlocked_ = true;
    std::string waiting;
    int named = 0;
    for (size_t lane = 0; lane < lanes_.size() && named < 4; ++lane) {
      if (done_[lane]) continue;
      waiting += (named++ ? "; " : "") + lanes_[lane].why_blocked();
    }
    job_.fail(fmt::format("deadlock with {} slots, {} lanes wait: {}", proof_.slots, left_, waiting));
  }

  void check_drained() {
    for (const SimFifo& fifo : job_.fifos()) {
      for (int r = 0; r < static_cast<int>(fifo.heads.size()); ++r) {
        if (fifo.heads[r] == fifo.tail) continue;
        const Cursor& lost = fifo.ring[fifo.heads[r] % fifo.ring.size()].cursor;
        return job_.fail(
            fmt::format("rank {} sent rank {} a slice that nobody received: channel {}, round {}, step {}, "
                        "slice {}",
                        fifo.sender, fifo.fan() ? r : fifo.receiver, fifo.channel, lost.round, lost.step, lost.slice));
      }
    }
  }

  // Where cell `i` of block `b` of the output of `me` comes from: a rank (-1: all of them) and a byte of its input.
  struct Origin {
    int rank;
    uint64_t byte;
  };
  Origin origin(int me, int block) const {
    const int n = proof_.n;
    const auto input_offset = [&](int rank, int of) {
      return proof_.lengths.empty() ? of * proof_.bytes : job_.ranks[rank].input_offsets[of];
    };
    switch (proof_.coll) {
      case Coll::AllReduce:
      case Coll::Reduce:
        return {-1, 0};
      case Coll::Broadcast:
        return {proof_.root, 0};
      case Coll::AllGather:
      case Coll::Gather:
        return {block, 0};
      case Coll::ReduceScatter:
        return {-1, input_offset(me, me)};
      case Coll::AllToAll:
        return {block, input_offset(block, me)};
      case Coll::Scatter:
        return {proof_.root, input_offset(proof_.root, me)};
      case Coll::SendRecv:
        return {wrap(me - proof_.root, n), 0};
    }
    return {};
  }

  // Every cell of the output's blocks is what it should be; all other cells are what they were.
  void check_result(int me) {
    const SimRank& rank = job_.ranks[me];
    const uint64_t cell_bytes = proof_.cell_bytes;
    std::vector<Value> expected(rank.memory.size());
    std::copy_n(&rank.memory[0] + rank.scratch_begin, rank.memory.size() - rank.scratch_begin,
                expected.begin() + static_cast<std::ptrdiff_t>(rank.scratch_begin));  // whatever it is
    for (uint32_t i = 0; i < rank.input_cells; ++i) {
      expected[rank.input_begin + i] = {job_.expressions.leaf(me), i, 0};
    }
    const Tiling whole{.slices = 1, .slice_bytes = uint64_t{1} << 40};
    for (int b = 0; b < rank.layout.output_blocks; ++b) {
      const Piece piece = rank.layout.output.piece(whole, b, 1, 0, 0);
      const Origin from = origin(me, b);
      for (uint64_t i = 0; i < piece.bytes / cell_bytes; ++i) {
        const auto index = static_cast<uint32_t>(from.byte / cell_bytes + i);
        Value& value = expected[rank.output_begin + piece.offset / cell_bytes + i];
        value = from.rank >= 0 ? Value{job_.expressions.leaf(from.rank), index, 0} : agreed_sum(index, me, b, i);
      }
    }
    for (size_t i = 0; i < expected.size() && !job_.failed(); ++i) {
      if (rank.memory[i] == expected[i]) continue;
      const bool in_output = i >= rank.output_begin && i < rank.output_begin + rank.output_cells;
      const uint64_t byte = (i - (in_output ? rank.output_begin : rank.input_begin)) * cell_bytes;
      const bool same_sum = reduces(proof_.coll) && rank.memory[i].written() && expected[i].written() &&
                            job_.expressions.count(rank.memory[i].expression) == proof_.n;
      job_.fail(fmt::format("rank {}: at the end {} byte {} holds {}; expected {}{}", me,
                            in_output ? "output" : "input", byte, job_.text(rank.memory[i]), job_.text(expected[i]),
                            same_sum && rank.memory[i].expression != expected[i].expression
                                ? ", combined in the order of the first rank and run"
                                : ""));
    }
  }

  // The complete sum at `index`. Any order of operands will do, but it must be the same on all ranks and in all runs:
  // the first to be asked decides.
  Value agreed_sum(uint32_t index, int me, int block, uint64_t cell) {
    if (sums_.size() <= index) sums_.resize(index + 1, Value::kUnwritten);
    if (sums_[index] == Value::kUnwritten) {
      const SimRank& rank = job_.ranks[me];
      const Piece piece = rank.layout.output.piece({.slices = 1, .slice_bytes = uint64_t{1} << 40}, block, 1, 0, 0);
      const Value found = rank.memory[rank.output_begin + piece.offset / proof_.cell_bytes + cell];
      if (found.written() && job_.expressions.count(found.expression) == proof_.n) {
        sums_[index] = found.expression;
      } else {
        uint32_t sum = job_.expressions.leaf(0);
        for (int r = 1; r < proof_.n; ++r) sum = job_.expressions.combine(sum, job_.expressions.leaf(r));
        sums_[index] = sum;
      }
    }
    return {sums_[index], index, 1};
  }

  ProofStats measured() const {
    ProofStats stats{.hops = job_.hops, .messages = job_.messages};
    for (const SimLane& lane : lanes_) stats.steps_without_data += lane.steps_without_data();
    for (const SimRank& rank : job_.ranks) {
      stats.sent_bytes = std::max(stats.sent_bytes, rank.sent_bytes);
      stats.received_bytes = std::max(stats.received_bytes, rank.received_bytes);
    }
    for (const uint64_t bytes : job_.host_sent_bytes) stats.host_sent_bytes = std::max(stats.host_sent_bytes, bytes);
    return stats;
  }

  const Proof& proof_;
  SimJob job_;
  std::vector<SimLane> lanes_;
  std::vector<bool> done_;
  size_t left_ = 0;
  bool deadlocked_ = false;
  std::vector<uint32_t> sums_;  // by index of input cell
};

Status check(const Proof& proof) {
  const auto divides = [&](uint64_t bytes) { return bytes % proof.cell_bytes == 0; };
  if (proof.n < 1 || proof.root < 0 || proof.root >= proof.n) {
    return invalid_argument("cannot prove for {} ranks with root {}", proof.n, proof.root);
  }
  if (proof.parts < 1 || proof.channels < 1 || proof.blocks < 1 || proof.slices < 1 || proof.slots < 1) {
    return invalid_argument(
        "cannot prove with {} parts, {} channels, {} blocks, {} slices, {} slots: each must be positive", proof.parts,
        proof.channels, proof.blocks, proof.slices, proof.slots);
  }
  if (proof.slice_bytes == 0 || proof.slice_bytes % kTileAlign != 0) {
    return invalid_argument("slices of {} bytes: must be a positive multiple of {}", proof.slice_bytes, kTileAlign);
  }
  if (proof.cell_bytes == 0 || kTileAlign % proof.cell_bytes != 0 || !divides(proof.bytes) ||
      !std::all_of(proof.lengths.begin(), proof.lengths.end(), divides)) {
    return invalid_argument("cells of {} bytes: must divide {} and all lengths", proof.cell_bytes, kTileAlign);
  }
  if (!proof.schedule) return invalid_argument("nothing to prove: no schedule");
  if (proof.lengths.empty()) {
    if (proof.in_place && proof.coll == Coll::SendRecv) return invalid_argument("send_recv has no in-place form");
    return {};
  }
  if (proof.scratch) return invalid_argument("scratch memory holds blocks of one length");
  const bool all_to_all = proof.coll == Coll::AllToAll;
  if (!all_to_all && proof.coll != Coll::AllGather && proof.coll != Coll::ReduceScatter) {
    return invalid_argument("{} has no form with lengths per rank", name(proof.coll));
  }
  const size_t wanted = all_to_all ? size_t(proof.n) * proof.n : proof.n;
  if (proof.lengths.size() != wanted) {
    return invalid_argument("{} lengths for {} on {} ranks: needs {}", proof.lengths.size(), name(proof.coll), proof.n,
                            wanted);
  }
  for (int i = 0; all_to_all && proof.in_place && i < proof.n * proof.n; ++i) {
    if (proof.lengths[i] != proof.lengths[i % proof.n * proof.n + i / proof.n]) {
      return invalid_argument("all_to_all in place needs equal lengths in both directions of a pair");
    }
  }
  return {};
}

}  // namespace

Proof proof_of(const CatalogRow& row, Ranks ranks, int root, int slices) {
  return {.coll = row.coll,
          .n = ranks.n,
          .root = root,
          .parts = row.parts(ranks),
          .hosts = ranks.hosts,
          .channel_map = ranks.channels,
          .schedule = row.make,
          .bytes = kTileAlign * row.blocks(ranks),
          .scratch = (row.needs & kScratch) != 0,
          .blocks = row.blocks(ranks),
          .slices = slices,
          .slots = row.slots(ranks, slices)};
}

Result<ProofStats> prove(const Proof& proof, Verdict* verdict) {
  Verdict unasked;
  Verdict& told = verdict == nullptr ? unasked : *verdict;
  told = Verdict::Senseless;
  TUTTI_TRY(check(proof));
  Prover prover(proof);
  Result<ProofStats> result = prover.run();
  told = result.ok() ? Verdict::Proven : prover.deadlocked() ? Verdict::Deadlock : Verdict::Wrong;
  return result;
}

}  // namespace tutti
