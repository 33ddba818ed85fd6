// SPDX-License-Identifier: Apache-2.0
// The prover's memory, connections and lanes; the checks of single steps.
#include "exec/sim/sim_lane.h"

#include <fmt/format.h>

#include <algorithm>

#include "algo/draw.h"

namespace tutti {
namespace {

constexpr int kFan = -1;

// Bytes from the start of a buffer to the end of its last block.
uint64_t extent(const Layout& layout, int blocks) {
  if (blocks == 0) return 0;
  if (layout.kind == Layout::Kind::Region) return layout.length;
  if (layout.kind == Layout::Kind::Strided) return layout.stride * (blocks - 1) + layout.length;
  uint64_t end = 0;
  for (int b = 0; b < blocks; ++b) end = std::max(end, layout.offsets[b] + layout.lengths[b]);
  return end;
}

// Offsets of consecutive blocks with a gap of one cell between them.
std::vector<uint64_t> gapped(const std::vector<uint64_t>& lengths, uint64_t gap) {
  std::vector<uint64_t> offsets;
  uint64_t next = gap;
  for (uint64_t length : lengths) {
    offsets.push_back(next);
    next += length + gap;
  }
  return offsets;
}

CollLayout table_layout(const Proof& proof, int me, SimRank& rank) {
  const int n = proof.n;
  const auto fill = [&](std::vector<uint64_t>& lengths, std::vector<uint64_t>& offsets, auto length_of) {
    for (int r = 0; r < n; ++r) lengths.push_back(length_of(r));
    offsets = gapped(lengths, proof.cell_bytes);
  };
  if (proof.coll == Coll::AllToAll) {
    fill(rank.input_lengths, rank.input_offsets, [&](int r) { return proof.lengths[me * n + r]; });
    fill(rank.output_lengths, rank.output_offsets, [&](int r) { return proof.lengths[r * n + me]; });
    return all_to_all_v_layout(n, {rank.input_offsets.data(), rank.input_lengths.data()},
                               {rank.output_offsets.data(), rank.output_lengths.data()});
  }
  fill(rank.input_lengths, rank.input_offsets, [&](int r) { return proof.lengths[r]; });
  const BlockTable table{rank.input_offsets.data(), rank.input_lengths.data()};
  return proof.coll == Coll::AllGather ? all_gather_v_layout(n, me, table) : reduce_scatter_v_layout(n, me, table);
}

// In place, the smaller buffer lies in the larger at the own block.
uint64_t own_block(const Proof& proof, int me, const SimRank& rank) {
  return proof.lengths.empty() ? me * proof.bytes : rank.input_offsets[me];
}

}  // namespace

std::string Expressions::text(uint32_t expression) const {
  if (expression == Value::kUnwritten) return "nothing";
  std::string ranks;
  const int bits = words_ * 64;
  for (int r = 0; r < bits; ++r) {
    if (!contains(expression, r)) continue;
    const int first = r;
    while (r + 1 < bits && contains(expression, r + 1)) ++r;
    ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", first);
    if (r > first) ranks += fmt::format("-{}", r);
  }
  return count(expression) == 1 ? "rank " + ranks : "the sum over ranks {" + ranks + "}";
}

bool SimFifo::has_room() const {
  for (int r = 0; r < static_cast<int>(heads.size()); ++r) {
    if ((!fan() || r != sender) && tail - heads[r] >= ring.size()) return false;
  }
  return true;
}

void SimFifo::push() {
  ++tail;
  if (fan()) heads[sender] = tail;
}

SimJob::SimJob(const Proof& wanted)
    : proof(wanted),
      expressions(proof.n),
      ranks(proof.n),
      fifo_of_(size_t(proof.channels) * proof.n * (proof.n + 1), -1) {
  for (int me = 0; me < proof.n; ++me) {
    SimRank& rank = ranks[me];
    rank.layout = proof.lengths.empty() ? coll_layout(proof.coll, proof.n, me, proof.root, proof.bytes)
                                        : table_layout(proof, me, rank);
    rank.input_cells = extent(rank.layout.input, rank.layout.input_blocks) / proof.cell_bytes;
    rank.output_cells = extent(rank.layout.output, rank.layout.output_blocks) / proof.cell_bytes;
    if (!proof.in_place) {
      rank.output_begin = rank.input_cells;
    } else if (rank.layout.input_blocks != 0 && rank.layout.output_blocks != 0) {
      const uint64_t own = own_block(proof, me, rank) / proof.cell_bytes;
      if (proof.coll == Coll::AllGather || proof.coll == Coll::Gather) rank.input_begin = own;
      if (proof.coll == Coll::ReduceScatter || proof.coll == Coll::Scatter) rank.output_begin = own;
    }
    rank.scratch_begin = std::max(rank.input_begin + rank.input_cells, rank.output_begin + rank.output_cells);
    rank.scratch = Layout::strided(proof.bytes, proof.bytes);
    rank.memory.resize(rank.scratch_begin + (proof.scratch ? proof.n * proof.bytes / proof.cell_bytes : 0));
  }
}

void SimJob::reset() {
  for (int me = 0; me < proof.n; ++me) {
    SimRank& rank = ranks[me];
    std::fill(rank.memory.begin(), rank.memory.end(), Value{});
    for (uint32_t i = 0; i < rank.input_cells; ++i) rank.memory[rank.input_begin + i] = {expressions.leaf(me), i, 0};
    rank.open = false;
    rank.dirty.assign(rank.memory.size(), false);
    rank.sent_bytes = rank.received_bytes = 0;
  }
  host_sent_bytes.assign(proof.hosts != nullptr ? static_cast<size_t>(proof.hosts->hosts) : 0, 0);
  for (SimFifo& fifo : fifos_) {
    fifo.tail = 0;
    std::fill(fifo.heads.begin(), fifo.heads.end(), 0);
  }
  messages = hops = 0;
  step_.clear();
}

SimFifo& SimJob::fifo(int sender, int receiver, int channel) {
  const int n = proof.n;
  int& index = fifo_of_[(size_t(channel) * n + sender) * (n + 1) + (receiver == kFan ? n : receiver)];
  if (index < 0) {
    index = static_cast<int>(fifos_.size());
    const size_t readers = receiver == kFan ? n : 1;
    fifos_.push_back({.sender = sender,
                      .receiver = receiver,
                      .channel = channel,
                      .ring = std::vector<SimMessage>(proof.slots),
                      .heads = std::vector<uint64_t>(readers),
                      .readers = std::vector<int>(readers, -1)});
  }
  return fifos_[index];
}

std::string SimJob::text(Value value) const {
  if (!value.written()) return "nothing";
  return fmt::format("{}'s input byte {}{}", expressions.text(value.expression), value.index * proof.cell_bytes,
                     value.complete ? " (complete)" : "");
}

SimLane::SimLane(SimJob& job, AnySchedule the_schedule, const ScheduleArgs& args)
    : schedule(std::move(the_schedule)),
      job_(job),
      args_(args),
      tiling_{.channel = args.channel,
              .channels = job.proof.channels,
              .blocks = job.proof.blocks,
              .slices = job.proof.slices,
              .slice_bytes = job.proof.slice_bytes},
      rounds_(job.ranks[args.me].layout.rounds(tiling_)),
      had_data_(schedule.steps()) {}

std::string SimLane::where() const {
  job_.note_step(draw_step(schedule.at(cursor.step), true, args_.n));
  return fmt::format("rank {}, channel {}, part {}, round {}, step {}, slice {}", args_.me, args_.channel, args_.part,
                     cursor.round, cursor.step, cursor.slice);
}

SimLane::Place SimLane::place(Buffer buffer) const {
  const SimRank& rank = job_.ranks[args_.me];
  if (buffer == Buffer::Scratch) return {rank.scratch, rank.scratch_begin, job_.proof.scratch ? args_.n : 0};
  const bool input = buffer == Buffer::Input;
  const Layout& layout = input ? rank.layout.input : rank.layout.output;
  const int blocks = input ? rank.layout.input_blocks : rank.layout.output_blocks;
  // A Region has as many blocks as it is cut into.
  const int cut = layout.kind == Layout::Kind::Region && blocks > 0 ? tiling_.blocks : blocks;
  return {layout, input ? rank.input_begin : rank.output_begin, cut};
}

// That all blocks lie in the buffer.
std::string SimLane::check_blocks(const Step& step, Buffer buffer, bool target) const {
  constexpr const char* kNames[] = {"nothing", "input", "output", "scratch memory"};
  const int have = place(buffer).blocks;
  const auto at = [&](int i) { return target ? step.target_at(i, args_.n) : step.source_at(i, args_.n); };
  bool outside = at(0) < 0;
  for (int i = 0; i < step.blocks && !outside; i += step.packed() ? 1 : std::max(step.blocks - 1, 1))
    outside = at(i) >= have;
  if (!outside) return {};
  const std::string which = step.packed() ? fmt::format("blocks around {}", at(0))
                                          : fmt::format("blocks {} to {}", at(0), at(0) + step.blocks - 1);
  return fmt::format("{} {} of the {}, which has {}", target ? "writes" : "reads", which,
                     kNames[static_cast<int>(buffer)], have);
}

// What is wrong with the step by itself, or nothing.
std::string SimLane::check_step(const Step& step) const {
  if (step.blocks < 1) return fmt::format("moves {} blocks", step.blocks);
  for (const Peers* peers : {&step.from, &step.to}) {
    if (!peers->others() && (peers->count < 0 || (peers->list == nullptr && peers->count > Peers::kMaxListed))) {
      return fmt::format("lists {} peers (0 to {} can be listed)", peers->count, Peers::kMaxListed);
    }
    for (int i = 0; i < peers->count; ++i) {
      const int peer = peers->at(i, args_.me);
      if (peer < 0 || peer >= args_.n || peer == args_.me) return fmt::format("names rank {} as a peer", peer);
      if (i > 0 && peer <= peers->at(i - 1, args_.me)) return "lists its peers in no increasing order";
    }
  }
  if (step.to.fan && !step.to.others() && step.access != Access::Remote) return "sends over fan-out to some ranks only";
  if (step.access == Access::Open || step.access == Access::Close) {
    return step.to.none() || !step.from.none() ? "opens or closes to nobody, or receives" : "";
  }
  if (step.access == Access::Enter || step.access == Access::Leave) {
    return step.from.none() || !step.to.none() ? "enters or leaves nobody's buffers, or sends" : "";
  }
  const int sources = step.from.size(args_.n) + (step.src != Buffer::None);
  if (sources == 0) return "has no source";
  if (!step.reduce && sources != 1) return fmt::format("copies from {} sources", sources);
  if (step.last && !step.reduce) return "is marked last but reduces nothing";
  if (step.reduce && !reduces(job_.proof.coll)) return fmt::format("reduces in {}", name(job_.proof.coll));
  if (step.src == Buffer::None && step.dst_block < 0) return "touches no buffer, so that nobody knows its length";
  if (step.dst_block < 0 && step.to.none()) return "delivers to nobody";
  if (step.packed()) {
    const Place where = place(step.src != Buffer::None ? step.src : step.dst);
    if (where.layout.kind != Layout::Kind::Strided || tiling_.channels > 1 || step.access != Access::None ||
        where.layout.length > tiling_.slices * tiling_.slice_bytes)
      return "packs blocks, which needs blocks of one length, one channel and one round";
    if (step.stride == 0) return "packs blocks that are no distance apart";
  }
  if (step.dst != Buffer::Output && step.dst != Buffer::Scratch) return "keeps its result in what is no output";
  if (step.src != Buffer::None) {
    if (std::string wrong = check_blocks(step, step.src, false); !wrong.empty()) return wrong;
  }
  return step.dst_block >= 0 ? check_blocks(step, step.dst, true) : std::string();
}

void SimLane::check_steps() const {
  for (int k = 0; k < schedule.steps() && !job_.failed(); ++k) {
    const std::string wrong = check_step(schedule.at(k));
    if (wrong.empty()) continue;
    job_.fail(fmt::format("rank {}, channel {}, part {}: step {} {}", args_.me, args_.channel, args_.part, k, wrong));
  }
}

int SimLane::ranges(const Step& step, const Cursor& at) const {
  if (!step.packed()) return 1;
  const Layout& layout = place(step.src != Buffer::None ? step.src : step.dst).layout;
  const Piece slice = layout.packed_slice(tiling_, step, at.slice);
  if (slice.bytes == 0) return 1;
  return layout.packed_part(slice.offset + slice.bytes - 1).i - layout.packed_part(slice.offset).i + 1;
}

SimLane::Range SimLane::packed(const Step& step, const Cursor& at, int part, bool target) const {
  const Place where = place(target ? step.dst : step.src);
  const uint64_t cell = job_.proof.cell_bytes;
  const Piece slice = where.layout.packed_slice(tiling_, step, at.slice);
  if (slice.bytes == 0) return {where.begin, 0};
  const uint64_t first = where.layout.packed_part(slice.offset).i;
  const uint64_t begin = part == 0 ? slice.offset : (first + part) * where.layout.length;
  const Layout::PackedPart found = where.layout.packed_part(begin);
  const int block = target ? step.target_at(found.i, args_.n) : step.source_at(found.i, args_.n);
  return {where.begin + where.layout.offset_in(block, found.within) / cell,
          std::min(found.bytes, slice.offset + slice.bytes - begin) / cell};
}

SimLane::Range SimLane::source(const Step& step, const Cursor& at, int part) const {
  if (step.packed()) return packed(step, at, part, false);
  const Place where = place(step.src);
  const Piece piece = where.layout.piece(tiling_, step.src_block, step.blocks, at.round, at.slice);
  return {where.begin + piece.offset / job_.proof.cell_bytes, piece.bytes / job_.proof.cell_bytes};
}

SimLane::Range SimLane::target(const Step& step, const Cursor& at, int part) const {
  if (step.packed()) return packed(step, at, part, true);
  const Place where = place(step.dst);
  const Piece piece = where.layout.piece(tiling_, step.dst_block, step.blocks, at.round, at.slice);
  return {where.begin + piece.offset / job_.proof.cell_bytes, piece.bytes / job_.proof.cell_bytes};
}

uint64_t SimLane::cells(const Step& step, const Cursor& at) const {
  uint64_t all = 0;
  for (int part = 0; part < ranges(step, at); ++part) all += moved(step, at, part).cells;
  return all;
}

SimLane::Range SimLane::remote(int peer, Buffer buffer, int block, const Cursor& at) const {
  const SimRank& rank = job_.ranks[peer];
  const bool input = buffer == Buffer::Input;
  const Piece piece = (input ? rank.layout.input : rank.layout.output).piece(tiling_, block, 1, at.round, at.slice);
  const uint64_t cell = job_.proof.cell_bytes;
  return {(input ? rank.input_begin : rank.output_begin) + piece.offset / cell, piece.bytes / cell};
}

bool SimLane::empty(const Step& step, const Cursor& at) const {
  if (step.meets()) return false;
  return moved(step, at).cells == 0;
}

SimFifo& SimLane::from(const Peers& peers, int i) const {
  const bool fan = peers.fan && job_.proof.fan_out;
  return job_.fifo(peers.at(i, args_.me), fan ? kFan : args_.me, args_.channel);
}

template <class Visit>
void SimLane::each_outgoing(const Peers& peers, Visit visit) const {
  if (peers.fan && job_.proof.fan_out) return visit(job_.fifo(args_.me, kFan, args_.channel));
  for (int i = 0; i < peers.size(args_.n); ++i) visit(job_.fifo(args_.me, peers.at(i, args_.me), args_.channel));
}

bool SimLane::can_receive(const Step& step, const Cursor&) {
  if (step.access == Access::Remote) return true;
  for (int i = 0; i < step.from.size(args_.n); ++i) {
    SimFifo& fifo = from(step.from, i);
    int& part = fifo.readers[fifo.reader(args_.me)];
    if (part < 0) part = args_.part;
    if (part != args_.part) {
      job_.fail(fmt::format("{}: parts {} and {} both receive from rank {}", where(), part, args_.part, fifo.sender));
    }
    if (!fifo.has_slice(args_.me)) return false;
  }
  return true;
}

bool SimLane::can_send(const Step& step, const Cursor&) {
  if (step.access == Access::Remote) return true;
  if (step.access == Access::Open || step.access == Access::Close) {
    bool drained = true;
    each_outgoing(step.to, [&](SimFifo& fifo) { drained = drained && fifo.drained(); });
    return drained;
  }
  bool room = true;
  each_outgoing(step.to, [&](SimFifo& fifo) {
    if (fifo.writer < 0) fifo.writer = args_.part;
    if (fifo.writer != args_.part) {
      job_.fail(
          fmt::format("{}: parts {} and {} both send to rank {}", where(), fifo.writer, args_.part, fifo.receiver));
    }
    room = room && fifo.has_room();
  });
  return room;
}

void SimLane::meet(const Step& step, const Cursor& at) {
  SimRank& rank = job_.ranks[args_.me];
  if (step.access == Access::Open) {
    rank.open = true;
    rank.dirty.assign(rank.memory.size(), false);
    each_outgoing(step.to, [&](SimFifo& fifo) {
      SimMessage& slot = fifo.next_slot();
      slot.cells.clear();
      slot.cursor = at;
      slot.hops = hops_ + 1;
      fifo.push();
      opened_.push_back(&fifo);
      ++job_.messages;
      job_.hops = std::max(job_.hops, slot.hops);
    });
  }
  if (step.access == Access::Close) rank.open = false;
  if (step.access == Access::Close) each_outgoing(step.to, [&](const SimFifo& fifo) { std::erase(opened_, &fifo); });
  for (int i = 0; i < step.from.size(args_.n); ++i) {
    SimFifo& fifo = from(step.from, i);
    const SimMessage& opening = fifo.front(args_.me);
    if (step.access == Access::Enter) {
      if (!opening.cells.empty())
        job_.fail(fmt::format("{}: rank {} sent data where it should open", where(), fifo.sender));
      hops_ = std::max(hops_, opening.hops);
      entered_[fifo.sender] = true;
    } else if (step.access == Access::Leave) {
      if (!entered_[fifo.sender])
        job_.fail(fmt::format("{}: leaves rank {} without having entered", where(), fifo.sender));
      entered_[fifo.sender] = false;
      fifo.pop(args_.me);
    }
  }
}

void SimLane::check_left() {
  if (!opened_.empty()) job_.fail(fmt::format("{}: ends without having closed its buffers", where()));
  const auto inside = std::find(entered_.begin(), entered_.end(), true);
  if (inside == entered_.end()) return;
  job_.fail(fmt::format("{}: ends without having left rank {}", where(), inside - entered_.begin()));
}

// Only buffers of who has opened, and slices of one length.
bool SimLane::check_remote(const Step& step, const Cursor& at) {
  const Range in = moved(step, at);
  const auto check = [&](int peer, const Range& range) {
    if (!entered_[peer]) job_.fail(fmt::format("{}: uses a buffer of rank {} without having entered", where(), peer));
    if (range.cells != in.cells || range.begin + range.cells > job_.ranks[peer].memory.size()) {
      job_.fail(fmt::format("{}: uses {} bytes of rank {} for {}, or goes beyond its buffer", where(),
                            range.cells * job_.proof.cell_bytes, peer, in.cells * job_.proof.cell_bytes));
    }
  };
  for (int i = 0; i < step.from.size(args_.n); ++i) {
    const int peer = step.from.at(i, args_.me);
    check(peer, remote(peer, step.from_buffer, step.from_block, at));
  }
  for (int i = 0; i < step.to.size(args_.n); ++i) {
    const int peer = step.to.at(i, args_.me);
    check(peer, remote(peer, Buffer::Output, step.to_block, at));
  }
  return !job_.failed();
}

// One range of a slice: lengths on both sides agree, it lies inside the buffers.
void SimLane::check_range(const Step& step, const Range& in, const Range& out) {
  const SimRank& rank = job_.ranks[args_.me];
  const uint64_t cell = job_.proof.cell_bytes;
  if (in.cells != out.cells) {
    job_.fail(fmt::format("{}: reads {} bytes and keeps {}", where(), in.cells * cell, out.cells * cell));
  }
  const auto beyond = [&](const Range& range, Buffer buffer) {
    return range.begin + range.cells > (buffer == Buffer::Scratch ? rank.memory.size() : rank.scratch_begin);
  };
  if (beyond(in, step.src != Buffer::None ? step.src : step.dst) || (step.dst_block >= 0 && beyond(out, step.dst)))
    job_.fail(fmt::format("{}: goes beyond the end of the buffer", where()));
  if (in.begin != out.begin && in.begin < out.begin + out.cells && out.begin < in.begin + in.cells) {
    job_.fail(fmt::format("{}: source and destination overlap in part", where()));
  }
}

// The ranges are right, arriving slices are the ones meant here.
bool SimLane::check_ranges(const Step& step, const Cursor& at) {
  const uint64_t cell = job_.proof.cell_bytes;
  for (int part = 0; part < ranges(step, at); ++part) {
    const Range in = moved(step, at, part);
    check_range(step, in, step.dst_block >= 0 ? target(step, at, part) : in);
  }
  if (step.access == Access::Remote) return !job_.failed() && check_remote(step, at);
  const uint64_t wanted = cells(step, at);
  for (int i = 0; i < step.from.size(args_.n) && !job_.failed(); ++i) {
    const SimFifo& fifo = from(step.from, i);
    const SimMessage& got = fifo.front(args_.me);
    if (got.cursor.round == at.round && got.cursor.slice == at.slice && got.cells.size() == wanted) continue;
    job_.fail(
        fmt::format("{}: from rank {} arrived round {}, slice {} of its step {}, {} bytes ({}); expected round {}, "
                    "slice {}, {} bytes",
                    where(), fifo.sender, got.cursor.round, got.cursor.slice, got.cursor.step, got.cells.size() * cell,
                    job_.text(got.cells[0]), at.round, at.slice, wanted * cell));
  }
  return !job_.failed();
}

// All operands at this cell, combined from left to right.
Value SimLane::combine(size_t cell) {
  Value value = operands_[0][cell];
  for (size_t i = 0; i < operands_.size(); ++i) {
    const Value next = operands_[i][cell];
    if (!next.written()) {
      job_.fail(fmt::format("{}: reads output that has not been written", where()));
      return value;
    }
    if (i == 0) continue;
    const uint32_t sum = job_.expressions.combine(value.expression, next.expression);
    if (sum == Expressions::kTwice) {
      job_.fail(
          fmt::format("{}: combines {} with {}: a rank counts twice", where(), job_.text(value), job_.text(next)));
    } else if (value.index != next.index) {
      job_.fail(fmt::format("{}: combines {} with {}: different places", where(), job_.text(value), job_.text(next)));
    } else if (value.complete || next.complete) {
      job_.fail(fmt::format("{}: combines {} with {}: one is complete", where(), job_.text(value), job_.text(next)));
    } else {
      value.expression = sum;
      continue;
    }
    return value;
  }
  return value;
}

// Cells of the result from `from_cell` on.
void SimLane::keep(int owner, const Range& to, size_t from_cell) {
  SimRank& rank = job_.ranks[owner];
  std::copy_n(result_.begin() + static_cast<std::ptrdiff_t>(from_cell), to.cells,
              rank.memory.begin() + static_cast<std::ptrdiff_t>(to.begin));
  if (rank.open) std::fill_n(rank.dirty.begin() + static_cast<std::ptrdiff_t>(to.begin), to.cells, true);
}

void SimLane::apply(const Step& step, const Cursor& at) {
  had_data_[at.step] = true;
  if (job_.failed()) return;
  if (step.meets()) return meet(step, at);
  if (!check_ranges(step, at)) return;
  result_.clear();
  for (int part = 0; part < ranges(step, at); ++part) {
    const size_t first = result_.size();
    const Range in = moved(step, at, part);
    if (!take(step, at, in, first)) return;
    // A copy in place writes nothing.
    if (step.dst_block < 0) continue;
    const Range out = target(step, at, part);
    if (step.src == Buffer::None || step.reduce || out.begin != in.begin) keep(args_.me, out, first);
  }
  if (step.access != Access::Remote) return;
  for (int i = 0; i < step.to.size(args_.n); ++i) {
    const int peer = step.to.at(i, args_.me);
    const Range there = remote(peer, Buffer::Output, step.to_block, at);
    keep(peer, there, 0);
    job_.ranks[args_.me].sent_bytes += there.cells * job_.proof.cell_bytes;
  }
}

// Combines the sources of one range of a slice, which begins at `from_cell` of what arrived, behind the result so far.
bool SimLane::take(const Step& step, const Cursor& at, const Range& in, uint64_t from_cell) {
  SimRank& rank = job_.ranks[args_.me];
  operands_.clear();
  const auto add_local = [&] { operands_.push_back({&rank.memory[in.begin], in.cells}); };
  bool local = step.src != Buffer::None;
  for (int i = 0; i < step.from.size(args_.n); ++i) {
    if (local && step.from.at(i, args_.me) > args_.me) add_local(), local = false;
    rank.received_bytes += in.cells * job_.proof.cell_bytes;
    if (step.access == Access::Remote) {
      const int peer = step.from.at(i, args_.me);
      const Range there = remote(peer, step.from_buffer, step.from_block, at);
      check_input(peer, step.from_buffer, there);
      const auto dirty = job_.ranks[peer].dirty.begin() + static_cast<std::ptrdiff_t>(there.begin);
      if (std::find(dirty, dirty + static_cast<std::ptrdiff_t>(there.cells), true) !=
          dirty + static_cast<std::ptrdiff_t>(there.cells))
        job_.fail(fmt::format("{}: reads what was written to rank {}'s buffer since it opened", where(), peer));
      operands_.push_back({&job_.ranks[peer].memory[there.begin], there.cells});
      continue;
    }
    const SimMessage& message = from(step.from, i).front(args_.me);
    hops_ = std::max(hops_, message.hops);
    operands_.push_back(std::span<const Value>(message.cells).subspan(from_cell, in.cells));
  }
  if (local) add_local();

  if (step.src == Buffer::Input) check_input(args_.me, Buffer::Input, in);
  for (size_t cell = 0; cell < in.cells && !job_.failed(); ++cell) {
    Value& value = result_.emplace_back(combine(cell));
    if (!step.last || job_.failed()) continue;
    if (job_.expressions.count(value.expression) != args_.n) {
      job_.fail(fmt::format("{}: marked last, but has only {}", where(), job_.text(value)));
    }
    if (value.complete) job_.fail(fmt::format("{}: marked last a second time", where()));
    value.complete = 1;
  }
  return !job_.failed();
}

// An input that is read holds what its rank brought.
void SimLane::check_input(int owner, Buffer buffer, const Range& range) {
  if (buffer != Buffer::Input) return;
  const SimRank& rank = job_.ranks[owner];
  for (size_t cell = 0; cell < range.cells && !job_.failed(); ++cell) {
    const Value value = rank.memory[range.begin + cell];
    const auto index = static_cast<uint32_t>(range.begin - rank.input_begin + cell);
    if (value == Value{job_.expressions.leaf(owner), index, 0}) continue;
    job_.fail(fmt::format("{}: the input of rank {} at byte {} has been overwritten with {}", where(), owner,
                          index * job_.proof.cell_bytes, job_.text(value)));
  }
}

void SimLane::post(const Step& step, const Cursor& at) {
  if (job_.failed() || step.access != Access::None) return;
  each_outgoing(step.to, [&](SimFifo& fifo) {
    SimMessage& slot = fifo.next_slot();
    slot.cells = result_;
    slot.cursor = at;
    slot.hops = hops_ + 1;
    fifo.push();
    const uint64_t bytes = result_.size() * job_.proof.cell_bytes;
    job_.ranks[args_.me].sent_bytes += bytes;
    const HostMap* map = job_.proof.hosts;
    if (map != nullptr && !fifo.fan() && map->host_of[args_.me] != map->host_of[fifo.receiver])
      job_.host_sent_bytes[static_cast<size_t>(map->host_of[args_.me])] += bytes;
    ++job_.messages;
    job_.hops = std::max(job_.hops, slot.hops);
  });
  for (int i = 0; i < step.from.size(args_.n); ++i) from(step.from, i).pop(args_.me);
}

std::string SimLane::why_blocked() {
  const Step step = schedule.at(cursor.step);
  for (int i = 0; i < step.from.size(args_.n); ++i) {
    const SimFifo& fifo = from(step.from, i);
    if (!fifo.has_slice(args_.me)) return fmt::format("{} waits for a slice from rank {}", where(), fifo.sender);
  }
  std::string reason;
  each_outgoing(step.to, [&](SimFifo& fifo) {
    if (!reason.empty() || (step.access == Access::None ? fifo.has_room() : fifo.drained())) return;
    reason = fifo.fan() ? fmt::format("{} waits for a free fan-out slot", where())
                        : fmt::format("{} waits for a free slot to rank {}", where(), fifo.receiver);
  });
  return reason;
}

}  // namespace tutti
