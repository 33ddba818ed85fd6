// SPDX-License-Identifier: Apache-2.0
// One row per collective: the name for messages and the call.
#include "perf/calls.h"

namespace tutti::perf {
namespace {

tuttiResult_t send_to_next(const Call& c) {
  const int next = (c.place.rank + 1) % c.place.n;
  const int previous = (c.place.rank + c.place.n - 1) % c.place.n;
  if (const auto result = tuttiGroupStart(); result != TUTTI_SUCCESS) return result;
  // A failed call poisons the group: its end returns that error.
  (void)tuttiSend(c.send, c.count, c.type, next, c.comm, c.stream);
  (void)tuttiRecv(c.recv, c.count, c.type, previous, c.comm, c.stream);
  return tuttiGroupEnd();
}

struct CallRow {
  Kind kind;
  const char* name;
  CallFunction call;
};

// In the order of Kind.
// clang-format off
constexpr CallRow kCalls[] = {
    {Kind::AllReduce, "tuttiAllReduce",
     [](const Call& c) { return tuttiAllReduce(c.send, c.recv, c.count, c.type, c.op, c.comm, c.stream); }},
    {Kind::AllGather, "tuttiAllGather",
     [](const Call& c) { return tuttiAllGather(c.send, c.recv, c.count, c.type, c.comm, c.stream); }},
    {Kind::ReduceScatter, "tuttiReduceScatter",
     [](const Call& c) { return tuttiReduceScatter(c.send, c.recv, c.count, c.type, c.op, c.comm, c.stream); }},
    {Kind::Broadcast, "tuttiBroadcast",
     [](const Call& c) { return tuttiBroadcast(c.send, c.recv, c.count, c.type, c.place.root, c.comm, c.stream); }},
    {Kind::Reduce, "tuttiReduce",
     [](const Call& c) { return tuttiReduce(c.send, c.recv, c.count, c.type, c.op, c.place.root, c.comm, c.stream); }},
    {Kind::AllToAll, "tuttiAllToAll",
     [](const Call& c) { return tuttiAllToAll(c.send, c.recv, c.count, c.type, c.comm, c.stream); }},
    {Kind::AllToAllV, "tuttiAllToAllV",
     [](const Call& c) {
       return tuttiAllToAllV(c.send, c.v->send_counts.data(), c.v->send_displs.data(), c.recv, c.v->recv_counts.data(),
                             c.v->recv_displs.data(), c.type, c.comm, c.stream); }},
    {Kind::Gather, "tuttiGather",
     [](const Call& c) { return tuttiGather(c.send, c.recv, c.count, c.type, c.place.root, c.comm, c.stream); }},
    {Kind::Scatter, "tuttiScatter",
     [](const Call& c) { return tuttiScatter(c.send, c.recv, c.count, c.type, c.place.root, c.comm, c.stream); }},
    {Kind::SendRecv, "tuttiSend and tuttiRecv", send_to_next},
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

CallFunction call_of(Kind kind) { return kCalls[static_cast<int>(kind)].call; }
const char* call_name(Kind kind) { return kCalls[static_cast<int>(kind)].name; }

Outcome checked(tuttiResult_t result, const char* what, tuttiComm_t comm) {
  if (result == TUTTI_SUCCESS) return {};
  const char* last = tuttiGetLastError(comm);
  std::string message = std::string(what) + ": " + tuttiGetErrorString(result);
  if (last != nullptr && *last != '\0') message += std::string(": ") + last;
  return Outcome::failure(std::move(message));
}

}  // namespace tutti::perf
