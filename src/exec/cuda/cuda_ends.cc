// SPDX-License-Identifier: Apache-2.0
#include "exec/cuda/cuda_ends.h"

#include <algorithm>
#include <cstddef>

namespace tutti::cuda {
namespace {

constexpr uint64_t kSimpleControl = sizeof(TailLine) + SimpleMemory::kMostInFlight * sizeof(SlotDescriptor);

constexpr bool is_lines(KernelProto proto) { return proto == KernelProto::LL || proto == KernelProto::LL128; }

}  // namespace

Status CudaEnds::provide(const AnySchedule& schedule, int me, int channel, Use use, KernelProto proto) {
  std::vector<Channel>& channels = channels_[static_cast<size_t>(use)];
  if (proto == KernelProto::Remote) proto = KernelProto::Simple;  // openings travel over these
  if (is_lines(proto) && line_slots(proto) == 0)
    return error(Code::InternalError, "a plan by {}, of which there are no slots",
                 kKernelProtoNames[static_cast<int>(proto)]);
  while (channels.size() <= static_cast<size_t>(channel))
    channels.push_back({std::vector<Ports>(n()), std::vector<uint8_t>(n() * n())});
  Channel& here = channels[static_cast<size_t>(channel)];
  TUTTI_TRY(reserve(here, me));
  const bool shared = !shared_.seen.empty();
  const auto connect = [&](int from, int to) {
    if (outside_ != nullptr && outside_->serves(from, to)) return join_outside(here, from, to, channel, use, proto);
    return shared ? join_shared(here, from, to, channel, use, proto) : join(here, from, to, proto);
  };
  for (int k = 0; k < schedule.steps(); ++k) {
    const Step step = schedule.at(k);
    for (int i = 0; i < step.from.size(static_cast<int>(n())); ++i) TUTTI_TRY(connect(step.from.at(i, me), me));
    for (int i = 0; i < step.to.size(static_cast<int>(n())); ++i) TUTTI_TRY(connect(me, step.to.at(i, me)));
  }
  return {};
}

Status CudaEnds::reserve(Channel& channel, int rank) {
  Ports& mine = channel.ports[static_cast<size_t>(rank)];
  if (mine.send != nullptr) return {};
  DeviceStore& store = *stores_[static_cast<size_t>(rank)];
  const std::vector<CudaSendEnd> sends(n());
  const std::vector<CudaReceiveEnd> receives(n());
  TUTTI_ASSIGN_OR_RETURN(CudaSendEnd* const send, store.place(std::span(sends)));
  TUTTI_ASSIGN_OR_RETURN(mine.receive, store.place(std::span(receives)));
  mine.send = send;
  return {};
}

Status CudaEnds::join(Channel& channel, int from, int to, KernelProto proto) {
  uint8_t& joined = channel.joined[static_cast<size_t>(from) * n() + static_cast<size_t>(to)];
  const uint8_t bit = static_cast<uint8_t>(1u << static_cast<int>(proto));
  if (joined & bit) return {};
  TUTTI_TRY(reserve(channel, from));
  TUTTI_TRY(reserve(channel, to));
  DeviceStore& sender = *stores_[static_cast<size_t>(from)];
  DeviceStore& receiver = *stores_[static_cast<size_t>(to)];
  CudaSendEnd& send = channel.ports[static_cast<size_t>(from)].send[to];
  CudaReceiveEnd& receive = channel.ports[static_cast<size_t>(to)].receive[from];
  TUTTI_TRY(is_lines(proto) ? join_lines(send, receive, sender, receiver, proto)
                            : join_simple(send, receive, sender, receiver));
  joined |= bit;
  return {};
}

// `send` and `receive` are on the devices: only their addresses are used here.
Status CudaEnds::join_simple(CudaSendEnd& send, CudaReceiveEnd& receive, DeviceStore& sender, DeviceStore& receiver) {
  TUTTI_ASSIGN_OR_RETURN(std::byte* const heads, sender.take(sizeof(CounterLine)));
  TUTTI_ASSIGN_OR_RETURN(std::byte* const at, receiver.take(kSimpleControl + sizes_.simple_bytes));
  TUTTI_TRY(sender.zero(heads, sizeof(CounterLine)));
  TUTTI_TRY(receiver.zero(at, kSimpleControl));
  SimpleMemory memory;
  memory.tail = reinterpret_cast<TailLine*>(at);
  memory.heads = reinterpret_cast<CounterLine*>(heads);
  memory.readers = 1;
  memory.descriptors = reinterpret_cast<SlotDescriptor*>(at + sizeof(TailLine));
  memory.slots = at + kSimpleControl;
  memory.capacity = sizes_.simple_bytes;
  const SimpleSender mine(memory);
  const SimpleReceiver theirs(memory, 0);
  TUTTI_TRY(sender.write(&send.simple, &mine, sizeof mine));
  return receiver.write(&receive.simple, &theirs, sizeof theirs);
}

Status CudaEnds::join_lines(CudaSendEnd& send, CudaReceiveEnd& receive, DeviceStore& sender, DeviceStore& receiver,
                            KernelProto proto) {
  const uint64_t slot = line_slot_bytes(proto), count = line_slots(proto);
  TUTTI_ASSIGN_OR_RETURN(std::byte* const heads, sender.take(sizeof(CounterLine)));
  TUTTI_ASSIGN_OR_RETURN(std::byte* const slots, receiver.take(slot * count));
  TUTTI_TRY(sender.zero(heads, sizeof(CounterLine)));
  TUTTI_TRY(receiver.zero(slots, slot * count));  // no line may carry a flag
  const LineMemory memory{reinterpret_cast<CounterLine*>(heads), 1, slots, slot, count};
  TUTTI_TRY(write_end(sender, send, memory, proto));
  return write_end(receiver, receive, memory, proto);
}

// Who has slots of LL128 has them where its lines are seen whole.
Status CudaEnds::write_end(DeviceStore& store, CudaSendEnd& end, const LineMemory& memory, KernelProto proto) {
  const LineSender lines(memory);
  if (proto == KernelProto::LL) return store.write(&end.ll, &lines, sizeof lines);
  constexpr bool kWhole = true;
  TUTTI_TRY(store.write(&end.ll128, &lines, sizeof lines));
  return store.write(&end.whole_lines, &kWhole, sizeof kWhole);
}
Status CudaEnds::write_end(DeviceStore& store, CudaReceiveEnd& end, const LineMemory& memory, KernelProto proto) {
  const LineReceiver lines(memory, 0);
  if (proto == KernelProto::LL) return store.write(&end.ll, &lines, sizeof lines);
  constexpr bool kWhole = true;
  TUTTI_TRY(store.write(&end.ll128, &lines, sizeof lines));
  return store.write(&end.whole_lines, &kWhole, sizeof kWhole);
}

// ---- to ranks that no kernel reaches ----

Status CudaEnds::join_outside(Channel& channel, int from, int to, int number, Use use, KernelProto proto) {
  uint8_t& joined = channel.joined[static_cast<size_t>(from) * n() + static_cast<size_t>(to)];
  const uint8_t bit = static_cast<uint8_t>(1u << static_cast<int>(proto));
  if (joined & bit) return {};
  if (proto != KernelProto::Simple)
    return error(Code::InternalError, "a plan by {} between ranks {} and {}, whose slots no kernel of both reaches",
                 kKernelProtoNames[static_cast<int>(proto)], from, to);
  if (local(from)) {
    TUTTI_TRY(reserve(channel, from));
    TUTTI_ASSIGN_OR_RETURN(const SimpleMemory memory, outside_->sender(from, to, number, use));
    const SimpleSender end(memory);
    TUTTI_TRY(stores_[static_cast<size_t>(from)]->write(&channel.ports[static_cast<size_t>(from)].send[to].simple, &end,
                                                        sizeof end));
  }
  if (local(to)) {
    TUTTI_TRY(reserve(channel, to));
    TUTTI_ASSIGN_OR_RETURN(const SimpleMemory memory, outside_->receiver(to, from, number, use));
    const SimpleReceiver end(memory, 0);
    TUTTI_TRY(stores_[static_cast<size_t>(to)]->write(&channel.ports[static_cast<size_t>(to)].receive[from].simple,
                                                      &end, sizeof end));
  }
  joined |= bit;
  return {};
}

// ---- in arenas ----

int CudaEnds::number_of(int rank) const {
  const std::vector<int>& all = shared_.ranks;
  return static_cast<int>(std::lower_bound(all.begin(), all.end(), rank) - all.begin());
}

CudaEnds::SharedEnd CudaEnds::shared_end(int viewer, int rank, int peer, int channel, Use use) const {
  const PeerMap::Place place = shared_.map.of(number_of(rank), number_of(peer));
  const auto home = static_cast<size_t>(place.home);
  const PeerArena& arena = shared_.arenas[home];
  return {arena, shared_.seen[static_cast<size_t>(viewer)].arenas[home], arena.index(use, channel, place.end)};
}

PeerWords::Words& CudaEnds::shared_words(int viewer, int rank, int peer, int channel, Use use) const {
  std::byte* const words = shared_.seen[static_cast<size_t>(viewer)].words[static_cast<size_t>(number_of(rank))];
  return reinterpret_cast<PeerWords::Words*>(words)[shared_.words.index(use, channel, number_of(peer))];
}

SimpleMemory CudaEnds::shared_simple(int viewer, int from, int to, int channel, Use use) const {
  const SharedEnd sender = shared_end(viewer, from, to, channel, use),
                  receiver = shared_end(viewer, to, from, channel, use);
  SimpleMemory memory;
  memory.readers = 1;
  memory.descriptors = receiver.control().descriptors;
  memory.slots = receiver.base + receiver.arena.slot_at(receiver.index);
  memory.capacity = receiver.arena.simple_bytes;
  if (shared_.seen[static_cast<size_t>(viewer)].words.empty()) {
    memory.tail = &receiver.control().tail;
    memory.heads = &sender.control().head;
  } else {
    memory.tail = &shared_words(viewer, to, from, channel, use).tail;
    memory.heads = &shared_words(viewer, from, to, channel, use).head;
  }
  return memory;
}

LineMemory CudaEnds::shared_lines(int viewer, int from, int to, int channel, Use use, KernelProto proto) const {
  const SharedEnd sender = shared_end(viewer, from, to, channel, use),
                  receiver = shared_end(viewer, to, from, channel, use);
  const bool short_lines = proto == KernelProto::LL;
  PeerArena::Control& heads = sender.control();
  std::byte* const slots = receiver.base + (short_lines ? receiver.arena.line_at(receiver.index)
                                                        : receiver.arena.line128_at(receiver.index));
  return {short_lines ? &heads.line_head : &heads.line128_head, 1, slots, line_slot_bytes(proto), line_slots(proto)};
}

Status CudaEnds::join_shared(Channel& channel, int from, int to, int number, Use use, KernelProto proto) {
  uint8_t& joined = channel.joined[static_cast<size_t>(from) * n() + static_cast<size_t>(to)];
  const uint8_t bit = static_cast<uint8_t>(1u << static_cast<int>(proto));
  if (joined & bit) return {};
  const bool lines = is_lines(proto);
  const auto write = [](DeviceStore& store, auto* to, const auto& end) { return store.write(to, &end, sizeof end); };
  if (local(from)) {
    TUTTI_TRY(reserve(channel, from));
    DeviceStore& store = *stores_[static_cast<size_t>(from)];
    CudaSendEnd* const end = channel.ports[static_cast<size_t>(from)].send + to;
    TUTTI_TRY(lines ? write_end(store, *end, shared_lines(from, from, to, number, use, proto), proto)
                    : write(store, &end->simple, SimpleSender(shared_simple(from, from, to, number, use))));
  }
  if (local(to)) {
    TUTTI_TRY(reserve(channel, to));
    DeviceStore& store = *stores_[static_cast<size_t>(to)];
    CudaReceiveEnd* const end = channel.ports[static_cast<size_t>(to)].receive + from;
    TUTTI_TRY(lines ? write_end(store, *end, shared_lines(to, from, to, number, use, proto), proto)
                    : write(store, &end->simple, SimpleReceiver(shared_simple(to, from, to, number, use), 0)));
  }
  joined |= bit;
  return {};
}

}  // namespace tutti::cuda
