// SPDX-License-Identifier: Apache-2.0
#include "group/batch.h"

#include <algorithm>

#include "comm/carry.h"

namespace tutti {

namespace {

// Calls whose first posts may be on their way while one of them waits. More would only fill the slots.
constexpr size_t kMostAhead = 8;

struct Extent {
  const std::byte* begin;
  uint64_t bytes;
  bool meets(const Extent& other) const { return begin < other.begin + other.bytes && other.begin < begin + bytes; }
};
Extent input_of(const Request& call, const CollLayout& layout) {
  const uint64_t blocks = static_cast<uint64_t>(layout.input_blocks);
  return {static_cast<const std::byte*>(call.input), call.bytes() * blocks};
}
Extent output_of(const Request& call, const CollLayout& layout) {
  const uint64_t blocks = static_cast<uint64_t>(layout.output_blocks);
  return {static_cast<const std::byte*>(call.output), call.bytes() * blocks};
}
// `later` reads what `earlier` writes, or (writes: it writes early) touches what `earlier` still needs.
bool depends(const Communicator& comm, const Request& later, const Request& earlier, bool writes) {
  const auto layout = [&](const Request& call) {
    return coll_layout(call.coll, comm.size(), comm.rank(), call.root, call.bytes());
  };
  const CollLayout ours = layout(later), theirs = layout(earlier);
  const Extent written = output_of(earlier, theirs);
  if (input_of(later, ours).meets(written)) return true;
  return writes && (output_of(later, ours).meets(written) || output_of(later, ours).meets(input_of(earlier, theirs)));
}

}  // namespace

Batch::Strand& Batch::strand_for(Work& work, const Request& request) {
  const int peer = request.point_to_point() ? request.root : -1;
  const bool is_send = request.point_to_point() && request.is_send;
  for (Strand& strand : work.strands) {
    if (strand.peer == peer && strand.is_send == is_send) return strand;
  }
  Strand& strand = work.strands.take();
  strand.peer = peer;
  strand.is_send = is_send;
  return strand;
}

void Batch::Strand::clear() {
  calls.clear();
  early.clear();
  next = ahead = 0;
  lanes = nullptr;
}

void Batch::Work::clear() {
  strands.clear();
  self_sends.clear();
  self_receives.clear();
  started = done = false;
  status = {};
}

void Batch::add(Communicator& comm, Request request) {
  request.queued = ticks();
  auto work = std::find_if(works_.begin(), works_.end(), [&](const Work& one) { return one.comm == &comm; });
  if (work == works_.end()) {
    works_.take().comm = &comm;
    work = works_.end() - 1;
  }
  if (request.point_to_point() && request.root == comm.rank()) {
    (request.is_send ? work->self_sends : work->self_receives).push_back(std::move(request));
  } else {
    strand_for(*work, request).calls.push_back(std::move(request));
  }
}

Status Batch::check() const {
  for (const Work& work : works_) {
    if (work.comm->failed()) return work.comm->failure();
    const size_t sends = work.self_sends.size(), receives = work.self_receives.size();
    if (sends != receives) {
      return invalid_usage(
          "rank {} of {} sends {} and receives {} message(s) to and from itself: put each send to oneself and its "
          "receive into the same group",
          work.comm->rank(), work.comm->name(), sends, receives);
    }
    for (size_t i = 0; i < sends; ++i) {
      if (work.self_sends[i].bytes() != work.self_receives[i].bytes()) {
        return invalid_usage("rank {} of {} sends itself {} bytes but receives {}: give both the same count and type",
                             work.comm->rank(), work.comm->name(), work.self_sends[i].bytes(),
                             work.self_receives[i].bytes());
      }
    }
  }
  return {};
}

void Batch::issue() {
  for (Work& work : works_) work.ticket = work.comm->issue();
}

void Batch::copy_to_self(Work& work) {
  for (size_t i = 0; i < work.self_sends.size(); ++i) {
    void* to = work.self_receives[i].output;
    const void* from = work.self_sends[i].input;
    if (to != from) copy_bytes(&to, 1, 0, from, work.self_sends[i].bytes());
  }
}

void Batch::post_ahead(Communicator& comm, Strand& strand) {
  const LaneSet* before = strand.lanes;
  strand.early.resize(strand.calls.size());
  const size_t end = std::min(strand.calls.size(), strand.next + 1 + kMostAhead);
  for (size_t i = strand.next + 1; i < end; ++i) {
    if (!before->ahead().possible) return;
    const Request& call = strand.calls[i];
    LaneSet* const lanes = comm.known_collective(call);
    if (lanes == nullptr || !lanes->ahead().possible) return;
    before = lanes;
    if (i >= strand.ahead) {
      for (size_t earlier = strand.next; earlier < i; ++earlier) {
        if (depends(comm, call, strand.calls[earlier], lanes->ahead().keeps)) return;
      }
      strand.early[i] = lanes->post_ahead(call.input, call.output, call.scale);
      strand.ahead = i + 1;
    }
    if (strand.early[i] < lanes->ahead().posts) return;  // no room
  }
}

Status Batch::start(Communicator& comm, Strand& strand, bool lends, const CallNote*& note) {
  const Request& call = strand.calls[strand.next];
  if (call.point_to_point()) {
    TUTTI_ASSIGN_OR_RETURN(const Communicator::KnownMessage* const message, comm.start_point_to_point(call, lends));
    strand.lanes = message->lanes;
    note = &message->note;
    return {};
  }
  TUTTI_ASSIGN_OR_RETURN(strand.lanes, comm.start_collective(call, lends));
  return {};
}

Advance Batch::advance(Communicator& comm, Strand& strand, Status& status) {
  bool moved = false;
  while (!strand.done()) {
    const Request& call = strand.calls[strand.next];
    const bool first = strand.lanes == nullptr;
    const CallNote* note = nullptr;  // kept for messages
    if (first) {
      const bool lends = strand.calls.size() == 1;  // a later one may write what this one reads
      status = start(comm, strand, lends, note);
      if (!status.ok()) return Advance::Done;
      if (strand.next < strand.early.size() && strand.early[strand.next] > 0)
        strand.lanes->skip(strand.early[strand.next]);
    }
    const Advance result = strand.lanes->advance(1);
    if (first) {
      strand.mark = note != nullptr ? comm.posted(*note, call.queued)
                                    : comm.posted(call, strand.lanes->identity(), strand.lanes->plan());
    }
    if (first && result != Advance::Done && strand.calls.size() > 1 && !call.point_to_point()) post_ahead(comm, strand);
    if (result != Advance::Done) return moved ? Advance::Progressed : result;
    comm.ended(call.point_to_point(), strand.mark);
    moved = true;
    strand.lanes = nullptr;
    ++strand.next;
  }
  return Advance::Done;
}

Advance Batch::advance(Work& work) {
  if (work.done) return Advance::Done;
  if (!work.comm->turn(work.ticket)) return Advance::Blocked;
  bool moved = false;
  if (!work.started) {
    work.started = moved = true;
    work.comm->begin_carrying();
    if (work.comm->failed()) work.status = work.comm->failure();
    if (work.status.ok()) copy_to_self(work);
  }
  bool all_done = true;
  for (Strand& strand : work.strands) {
    if (strand.done() || !work.status.ok()) continue;
    const Advance result = advance(*work.comm, strand, work.status);
    moved |= result != Advance::Blocked;
    all_done &= result == Advance::Done;
  }
  Connections& connections = work.comm->connections();
  if (work.status.ok() && connections.has_network()) {
    const Result<bool> carried = work.comm->progress_network();
    work.status = carried.status();
    moved |= carried.ok() && *carried;
    all_done &= connections.flushed();  // nothing owed to a peer may still need this thread
  }
  if (all_done || !work.status.ok()) {
    finish(work);
    return Advance::Done;
  }
  return moved ? Advance::Progressed : Advance::Blocked;
}

void Batch::finish(Work& work) {
  if (!work.status.ok()) {
    work.comm->fail(work.status);
    for (const Strand& strand : work.strands) {
      if (strand.lanes != nullptr) work.comm->ended(strand.calls[strand.next].point_to_point(), strand.mark);
    }
  }
  work.done = true;
  work.comm->complete(work.ticket);
  work.comm->end_carrying();
}

bool Batch::advance_all(size_t& left) {
  bool moved = false;
  for (Work& work : works_) {
    if (work.done) continue;
    const Advance result = advance(work);
    moved |= result != Advance::Blocked;
    if (result == Advance::Done) --left;
  }
  return moved;
}

void Batch::look_at_all(size_t& left, const Waiter& waiter) {
  for (Work& work : works_) {
    if (work.done || !work.started) continue;
    if (work.comm->failed()) work.status = work.comm->failure();
    for (const Strand& strand : work.strands) {
      if (strand.lanes != nullptr && work.status.ok())
        work.status = work.comm->look(
            *strand.lanes, board_call(strand.calls[strand.next], strand.lanes->identity(), strand.mark.number), waiter);
    }
    if (work.status.ok()) continue;
    finish(work);
    --left;
  }
}

void Batch::note_all(bool waiting, uint64_t since) {
  for (Work& work : works_) {
    if (!work.started) continue;
    if (!waiting) work.comm->waits_no_longer();
    for (const Strand& strand : work.strands) {
      if (!waiting || work.done || strand.lanes == nullptr) continue;
      work.comm->waits(*strand.lanes, strand.calls[strand.next].point_to_point(), strand.mark, since);
      break;
    }
  }
}

Status Batch::run() {
  bool oversubscribed = false, network = false;
  for (const Work& work : works_) {
    oversubscribed |= work.comm->oversubscribed();
    network |= work.comm->connections().has_network();
  }
  Waiter waiter(oversubscribed, 0, network, works_.size() == 1 ? works_.front().comm->core_demand() : nullptr);
  size_t left = works_.size();
  const auto move = [&] {
    const bool moved = advance_all(left);
    return left == 0 ? Advance::Done : moved ? Advance::Progressed : Advance::Blocked;
  };
  const auto look = [&] {
    look_at_all(left, waiter);
    return left > 0;
  };
  const auto sleep = [&] {
    // Descriptors of one network can be waited for; with several communicators each has a turn soon.
    if (works_.size() == 1 && works_.front().started) return works_.front().comm->sleep(waiter);
    waiter.sleep();
  };
  const auto note = [&](bool waiting) { note_all(waiting, waiter.idle_since_ticks()); };
  if (left > 0) carry(waiter, waiter.polls(), move, look, sleep, note);
  for (const Work& work : works_) {
    if (!work.status.ok()) return work.status;
  }
  return {};
}

}  // namespace tutti
