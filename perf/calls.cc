// SPDX-License-Identifier: Apache-2.0
// One row per collective: the name for messages, the call, and what stands for it where a library lacks it.
#include "perf/calls.h"

namespace tutti::perf {
namespace {

// `calls` between a group's start and end. A failed call poisons the group: its end returns that error.
template <class Calls>
tuttiResult_t grouped(const Library& l, Calls calls) {
  if (const auto result = l.GroupStart(); result != TUTTI_SUCCESS) return result;
  calls();
  return l.GroupEnd();
}

tuttiResult_t send_to_next(const Library& l, const Call& c) {
  return grouped(l, [&] {
    (void)l.Send(c.send, c.count, c.type, (c.place.rank + 1) % c.place.n, c.comm, c.stream);
    (void)l.Recv(c.recv, c.count, c.type, (c.place.rank + c.place.n - 1) % c.place.n, c.comm, c.stream);
  });
}

const std::byte* block(const void* data, const Call& c, size_t elements) {
  return static_cast<const std::byte*>(data) + elements * c.type_bytes;
}
std::byte* block(void* data, const Call& c, size_t elements) {
  return static_cast<std::byte*>(data) + elements * c.type_bytes;
}

tuttiResult_t sent_all_to_all(const Library& l, const Call& c) {
  return grouped(l, [&] {
    for (int peer = 0; peer < c.place.n; ++peer) {
      const size_t at = static_cast<size_t>(peer) * c.count;
      (void)l.Send(block(c.send, c, at), c.count, c.type, peer, c.comm, c.stream);
      (void)l.Recv(block(c.recv, c, at), c.count, c.type, peer, c.comm, c.stream);
    }
  });
}

tuttiResult_t sent_all_to_all_v(const Library& l, const Call& c) {
  return grouped(l, [&] {
    for (size_t peer = 0; peer < static_cast<size_t>(c.place.n); ++peer) {
      const int rank = static_cast<int>(peer);
      (void)l.Send(block(c.send, c, c.v->send_displs[peer]), c.v->send_counts[peer], c.type, rank, c.comm, c.stream);
      (void)l.Recv(block(c.recv, c, c.v->recv_displs[peer]), c.v->recv_counts[peer], c.type, rank, c.comm, c.stream);
    }
  });
}

tuttiResult_t sent_gather(const Library& l, const Call& c) {
  return grouped(l, [&] {
    (void)l.Send(c.send, c.count, c.type, c.place.root, c.comm, c.stream);
    for (int peer = 0; c.place.rank == c.place.root && peer < c.place.n; ++peer)
      (void)l.Recv(block(c.recv, c, static_cast<size_t>(peer) * c.count), c.count, c.type, peer, c.comm, c.stream);
  });
}

tuttiResult_t sent_scatter(const Library& l, const Call& c) {
  return grouped(l, [&] {
    for (int peer = 0; c.place.rank == c.place.root && peer < c.place.n; ++peer)
      (void)l.Send(block(c.send, c, static_cast<size_t>(peer) * c.count), c.count, c.type, peer, c.comm, c.stream);
    (void)l.Recv(c.recv, c.count, c.type, c.place.root, c.comm, c.stream);
  });
}

struct CallRow {
  Kind kind;
  const char* name;
  CallFunction call;
  bool (*exists)(const Library&) = nullptr;  // null: always
  CallFunction otherwise = nullptr;
};

// In the order of Kind.
// clang-format off
constexpr CallRow kCalls[] = {
    {Kind::AllReduce, "AllReduce",
     [](const Library& l, const Call& c) { return l.AllReduce(c.send, c.recv, c.count, c.type, c.op, c.comm, c.stream); }},
    {Kind::AllGather, "AllGather",
     [](const Library& l, const Call& c) { return l.AllGather(c.send, c.recv, c.count, c.type, c.comm, c.stream); }},
    {Kind::ReduceScatter, "ReduceScatter",
     [](const Library& l, const Call& c) {
       return l.ReduceScatter(c.send, c.recv, c.count, c.type, c.op, c.comm, c.stream); }},
    {Kind::Broadcast, "Broadcast",
     [](const Library& l, const Call& c) {
       return l.Broadcast(c.send, c.recv, c.count, c.type, c.place.root, c.comm, c.stream); }},
    {Kind::Reduce, "Reduce",
     [](const Library& l, const Call& c) {
       return l.Reduce(c.send, c.recv, c.count, c.type, c.op, c.place.root, c.comm, c.stream); }},
    {Kind::AllToAll, "AllToAll",
     [](const Library& l, const Call& c) { return l.AllToAll(c.send, c.recv, c.count, c.type, c.comm, c.stream); },
     [](const Library& l) { return l.AllToAll != nullptr; }, sent_all_to_all},
    {Kind::AllToAllV, "AllToAllV",
     [](const Library& l, const Call& c) {
       return l.AllToAllV(c.send, c.v->send_counts.data(), c.v->send_displs.data(), c.recv, c.v->recv_counts.data(),
                          c.v->recv_displs.data(), c.type, c.comm, c.stream); },
     [](const Library& l) { return l.AllToAllV != nullptr; }, sent_all_to_all_v},
    {Kind::Gather, "Gather",
     [](const Library& l, const Call& c) {
       return l.Gather(c.send, c.recv, c.count, c.type, c.place.root, c.comm, c.stream); },
     [](const Library& l) { return l.Gather != nullptr; }, sent_gather},
    {Kind::Scatter, "Scatter",
     [](const Library& l, const Call& c) {
       return l.Scatter(c.send, c.recv, c.count, c.type, c.place.root, c.comm, c.stream); },
     [](const Library& l) { return l.Scatter != nullptr; }, sent_scatter},
    {Kind::SendRecv, "Send and Recv", send_to_next},
};
// clang-format on

constexpr bool in_order() {
  int position = 0;
  for (const CallRow& row : kCalls) {
    if (static_cast<int>(row.kind) != position++) return false;
  }
  return true;
}
static_assert(in_order());

}  // namespace

CallFunction call_of(Kind kind, const Library& library) {
  const CallRow& row = kCalls[static_cast<int>(kind)];
  return row.exists == nullptr || row.exists(library) ? row.call : row.otherwise;
}
const char* call_name(Kind kind) { return kCalls[static_cast<int>(kind)].name; }

}  // namespace tutti::perf
