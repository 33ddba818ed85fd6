// SPDX-License-Identifier: Apache-2.0
// Argument checks of the C entry points: pure functions of the arguments, called before anything is started.
//
// Each check_*() has an inline half, a few compares that hold for every ordinary call (it lies on the 8-byte fast
// path), and falls back to explain_*() in checks.cc (tables: tables.cc), which is the authority: it accepts the rarer
// legal calls (no elements and NULL buffers) and words the error otherwise. A message names function and argument, the
// value, and what to pass. Not here: handles (their owners know whether they live), operators made by a user (the
// communicator knows them; see check_user_operator), a send to oneself (the group knows its partner), equality between
// ranks (src/health).
#pragma once

#include <cstddef>
#include <cstdint>

#include "algo/element.h"
#include "base/status.h"
#include "tutti/tutti.h"

namespace tutti {

// A call with one count. What a function has not stays at its default.
struct Call {
  const char* function = "";  // "tuttiAllReduce"
  const void* send = nullptr;
  const void* recv = nullptr;
  size_t count = 0;            // elements: count, sendcount or recvcount
  uint32_t type = TUTTI_INT8;  // tuttiDataType_t and tuttiRedOp_t, as numbers: a caller may pass any
  uint32_t op = TUTTI_SUM;
  int root = 0;  // or peer
  int nranks = 1;
  int rank = 0;
};

// A call with tables of nranks counts and displacements, in elements.
struct CallV {
  const char* function = "";
  const void* send = nullptr;
  const void* recv = nullptr;
  size_t sendcount = 0;  // AllGatherV
  const size_t* sendcounts = nullptr;
  const size_t* sdispls = nullptr;
  const size_t* recvcounts = nullptr;
  const size_t* rdispls = nullptr;
  uint32_t type = TUTTI_INT8;
  uint32_t op = TUTTI_SUM;
  int nranks = 1;
  int rank = 0;
};

namespace checks {

inline size_t element_bytes(uint32_t type) { return kDataTypeInfo[type].bytes; }
inline bool known_type(uint32_t type) { return type < TUTTI_NUM_TYPES; }
// Negative operators are none; those from TUTTI_NUM_OPS on are the communicator's business.
inline bool plausible_op(uint32_t op) { return op <= INT32_MAX; }
inline bool is_rank(int rank, int nranks) { return static_cast<uint32_t>(rank) < static_cast<uint32_t>(nranks); }

// Bytes of `count` elements, `blocks` times over; false when they exceed what an object can have.
inline bool bytes_fit(size_t count, uint32_t type, int blocks, size_t& one, size_t& all) {
  const bool over = __builtin_mul_overflow(count, element_bytes(type), &one) |
                    __builtin_mul_overflow(one, static_cast<size_t>(blocks), &all);
  return !over & (all <= static_cast<size_t>(PTRDIFF_MAX));
}
// Both buffers are there, and are `small` == `big` + in_place, or have no byte in common.
inline bool buffers_clear(const void* small, size_t small_bytes, const void* big, size_t big_bytes, size_t in_place) {
  const auto s = reinterpret_cast<uintptr_t>(small), b = reinterpret_cast<uintptr_t>(big);
  return (s != 0) & (b != 0) & ((s == b + in_place) | ((s - b >= big_bytes) & (b - s >= small_bytes)));
}

Status check_type(const char* function, uint32_t type);
Status check_op(const char* function, uint32_t op);

Status explain_all_reduce(const Call& call);
Status explain_reduce(const Call& call);
Status explain_broadcast(const Call& call);
Status explain_all_gather(const Call& call);
Status explain_reduce_scatter(const Call& call);
Status explain_all_to_all(const Call& call);
Status explain_gather(const Call& call);
Status explain_scatter(const Call& call);
Status explain_send(const Call& call);
Status explain_recv(const Call& call);

}  // namespace checks

inline Status check_all_reduce(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::plausible_op(c.op) && checks::bytes_fit(c.count, c.type, 1, one, all) &&
      checks::buffers_clear(c.send, one, c.recv, one, 0)) [[likely]]
    return {};
  return checks::explain_all_reduce(c);
}

inline Status check_reduce(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::plausible_op(c.op) && checks::is_rank(c.root, c.nranks) &&
      checks::bytes_fit(c.count, c.type, 1, one, all) &&
      (c.rank == c.root ? checks::buffers_clear(c.send, one, c.recv, one, 0) : c.send != nullptr)) [[likely]]
    return {};
  return checks::explain_reduce(c);
}

inline Status check_broadcast(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::is_rank(c.root, c.nranks) &&
      checks::bytes_fit(c.count, c.type, 1, one, all) &&
      (c.rank == c.root ? checks::buffers_clear(c.send, one, c.recv, one, 0) : c.recv != nullptr)) [[likely]]
    return {};
  return checks::explain_broadcast(c);
}

inline Status check_all_gather(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::bytes_fit(c.count, c.type, c.nranks, one, all) &&
      checks::buffers_clear(c.send, one, c.recv, all, one * static_cast<size_t>(c.rank))) [[likely]]
    return {};
  return checks::explain_all_gather(c);
}

inline Status check_reduce_scatter(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::plausible_op(c.op) &&
      checks::bytes_fit(c.count, c.type, c.nranks, one, all) &&
      checks::buffers_clear(c.recv, one, c.send, all, one * static_cast<size_t>(c.rank))) [[likely]]
    return {};
  return checks::explain_reduce_scatter(c);
}

inline Status check_all_to_all(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::bytes_fit(c.count, c.type, c.nranks, one, all) &&
      checks::buffers_clear(c.send, all, c.recv, all, 0)) [[likely]]
    return {};
  return checks::explain_all_to_all(c);
}

inline Status check_gather(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::is_rank(c.root, c.nranks) &&
      checks::bytes_fit(c.count, c.type, c.nranks, one, all) &&
      (c.rank == c.root ? checks::buffers_clear(c.send, one, c.recv, all, one * static_cast<size_t>(c.root))
                        : c.send != nullptr)) [[likely]]
    return {};
  return checks::explain_gather(c);
}

inline Status check_scatter(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::is_rank(c.root, c.nranks) &&
      checks::bytes_fit(c.count, c.type, c.nranks, one, all) &&
      (c.rank == c.root ? checks::buffers_clear(c.recv, one, c.send, all, one * static_cast<size_t>(c.root))
                        : c.recv != nullptr)) [[likely]]
    return {};
  return checks::explain_scatter(c);
}

inline Status check_send(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::is_rank(c.root, c.nranks) &&
      checks::bytes_fit(c.count, c.type, 1, one, all) && c.send != nullptr) [[likely]]
    return {};
  return checks::explain_send(c);
}

inline Status check_recv(const Call& c) {
  size_t one = 0, all = 0;
  if (checks::known_type(c.type) && checks::is_rank(c.root, c.nranks) &&
      checks::bytes_fit(c.count, c.type, 1, one, all) && c.recv != nullptr) [[likely]]
    return {};
  return checks::explain_recv(c);
}

// O(nranks); O(nranks log nranks) and a temporary table when the blocks do not lie in increasing order.
Status check_all_gather_v(const CallV& call);
Status check_reduce_scatter_v(const CallV& call);
Status check_all_to_all_v(const CallV& call);

// The operator `op` of a user, found to be made for `made_for` (nullptr: the communicator has none of this number).
Status check_user_operator(const char* function, uint32_t op, const uint32_t* made_for, uint32_t type);

// "FUNCTION: ARGUMENT is NULL: pass REMEDY".
Status check_not_null(const char* function, const char* argument, const void* pointer, const char* remedy);
Status check_init(const char* function, const void* comm, int nranks, int rank);
Status check_shrink(const char* function, const int* exclude, int count, int rank, int nranks, int flags);
// `config` may be NULL. Fields that the caller's header did not have must be read as their defaults (config->size).
Status check_config(const char* function, const tuttiConfig_t* config);
Status check_pre_mul_sum(const char* function, const void* op, const void* scalar, uint32_t type, uint32_t residence);
// [ptr, ptr + bytes) for registration.
Status check_memory(const char* function, const void* ptr, size_t bytes);

}  // namespace tutti
