// SPDX-License-Identifier: Apache-2.0
// Argument checks of the calls with tables of counts: AllGatherV, ReduceScatterV, AllToAllV.
#include <algorithm>
#include <vector>

#include "api/checks.h"

namespace tutti {
namespace {

constexpr size_t kMostBytes = static_cast<size_t>(PTRDIFF_MAX);

Status check_table(const char* function, const char* argument, const size_t* table) {
  return check_not_null(function, argument, table, "a table of one number of elements for each rank");
}

// A block of a V call, in bytes from address 0; `peer` is its index in the tables.
struct Block {
  uintptr_t begin, end;
  int peer;
  bool sent;
};

// The blocks of one side, as tables say. Fails where displacement + count leaves the address space.
struct Side {
  const char* function;
  const char* buffer_name;
  const char* counts_name;
  const char* displs_name;
  const void* buffer;
  const size_t* counts;
  const size_t* displs;
  size_t element;
  int nranks;

  Block block(int peer, bool sent) const {
    const uintptr_t begin = reinterpret_cast<uintptr_t>(buffer) + displs[peer] * element;
    return {begin, begin + counts[peer] * element, peer, sent};
  }

  // `bytes`: from the buffer's begin to the last byte used.
  Status check(size_t& bytes) const {
    const size_t most = kMostBytes / element;
    bytes = 0;
    for (int r = 0; r < nranks; ++r) {
      if (counts[r] == 0) continue;
      if (counts[r] > most || displs[r] > most - counts[r])
        return invalid_argument(
            "{}: {}[{}] is {} and {}[{}] is {}: together they exceed what a buffer of {}-byte elements can have, "
            "pass at most {}",
            function, displs_name, r, displs[r], counts_name, r, counts[r], element, most);
      bytes = std::max(bytes, (displs[r] + counts[r]) * element);
    }
    if (bytes == 0 || buffer != nullptr) return {};
    return invalid_argument("{}: {} is NULL but {} asks for elements: pass a buffer of at least {} bytes", function,
                            buffer_name, counts_name, bytes);
  }

  // The blocks lie in increasing order without overlap.
  bool in_order() const {
    size_t end = 0;
    for (int r = 0; r < nranks; ++r) {
      if (counts[r] == 0) continue;
      if (displs[r] < end) return false;
      end = displs[r] + counts[r];
    }
    return true;
  }
};

// No received block shares a byte with any other block. Blocks that are sent may overlap each other.
Status check_blocks(const Side& recv, const Side* send) {
  std::vector<Block> blocks;
  blocks.reserve(static_cast<size_t>(recv.nranks) * 2);
  for (int r = 0; r < recv.nranks; ++r) {
    if (recv.counts[r] != 0) blocks.push_back(recv.block(r, false));
    if (send != nullptr && send->counts[r] != 0) blocks.push_back(send->block(r, true));
  }
  std::sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.begin < b.begin; });
  // The block of each kind that reaches furthest so far: what begins before its end overlaps it.
  const Block* furthest[2] = {nullptr, nullptr};
  for (const Block& block : blocks) {
    for (const Block* earlier : {furthest[0], furthest[1]}) {
      if (earlier == nullptr || block.begin >= earlier->end || (block.sent && earlier->sent)) continue;
      if (block.sent == earlier->sent)
        return invalid_argument("{}: the blocks of ranks {} and {} overlap in recv: pass {} that keep them apart",
                                recv.function, std::min(earlier->peer, block.peer), std::max(earlier->peer, block.peer),
                                recv.displs_name);
      const Block& sent = block.sent ? block : *earlier;
      const Block& received = block.sent ? *earlier : block;
      return invalid_argument(
          "{}: the block sent to rank {} and the block received from rank {} overlap: this call does not work "
          "in place, pass buffers that share no byte",
          recv.function, sent.peer, received.peer);
    }
    const Block*& mine = furthest[block.sent ? 1 : 0];
    if (mine == nullptr || block.end > mine->end) mine = &block;
  }
  return {};
}

}  // namespace

Status check_all_gather_v(const CallV& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_table(c.function, "recvcounts", c.recvcounts));
  TUTTI_TRY(check_table(c.function, "displs", c.rdispls));
  const size_t element = checks::element_bytes(c.type);
  if (c.sendcount != c.recvcounts[c.rank])
    return invalid_argument("{}: sendcount is {} but recvcounts[{}] is {}: pass what this rank sends in both",
                            c.function, c.sendcount, c.rank, c.recvcounts[c.rank]);
  const Side recv{c.function, "recv", "recvcounts", "displs", c.recv, c.recvcounts, c.rdispls, element, c.nranks};
  size_t recv_bytes = 0;
  TUTTI_TRY(recv.check(recv_bytes));
  if (c.sendcount != 0 && c.send == nullptr)
    return invalid_argument("{}: send is NULL but sendcount is {}: pass a buffer of sendcount * {} bytes", c.function,
                            c.sendcount, element);
  if (!recv.in_order()) TUTTI_TRY(check_blocks(recv, nullptr));
  const auto s = reinterpret_cast<uintptr_t>(c.send), b = reinterpret_cast<uintptr_t>(c.recv);
  const size_t send_bytes = c.sendcount * element;
  if (send_bytes == 0 || s == recv.block(c.rank, false).begin || (s - b >= recv_bytes && b - s >= send_bytes))
    return {};
  for (int r = 0; r < c.nranks; ++r) {  // inside the span of recv: legal in a gap between blocks
    const Block block = recv.block(r, false);
    const bool apart = s - block.begin >= block.end - block.begin && block.begin - s >= send_bytes;
    if (c.recvcounts[r] == 0 || apart) continue;
    return invalid_argument(
        "{}: send overlaps the block of rank {} in recv: pass send == recv + displs[rank] (in place) or buffers that "
        "share no byte",
        c.function, r);
  }
  return {};
}

Status check_reduce_scatter_v(const CallV& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(checks::check_op(c.function, c.op));
  TUTTI_TRY(check_table(c.function, "recvcounts", c.recvcounts));
  const size_t element = checks::element_bytes(c.type), most = kMostBytes / element;
  size_t total = 0, first = 0;
  for (int r = 0; r < c.nranks; ++r) {
    if (r == c.rank) first = total;
    if (c.recvcounts[r] > most - total)
      return invalid_argument(
          "{}: recvcounts[{}] is {}: the counts up to it exceed what a buffer of {}-byte elements can have, their sum "
          "may be {} at most",
          c.function, r, c.recvcounts[r], element, most);
    total += c.recvcounts[r];
  }
  const size_t mine = c.recvcounts[c.rank], mine_bytes = mine * element;
  if (total != 0 && c.send == nullptr)
    return invalid_argument("{}: send is NULL but the sum of recvcounts is {}: pass a buffer of {} bytes", c.function,
                            total, total * element);
  if (mine != 0 && c.recv == nullptr)
    return invalid_argument("{}: recv is NULL but recvcounts[{}] is {}: pass a buffer of {} bytes", c.function, c.rank,
                            mine, mine_bytes);
  const auto s = reinterpret_cast<uintptr_t>(c.send), r = reinterpret_cast<uintptr_t>(c.recv);
  if (mine == 0 || r == s + first * element || (r - s >= total * element && s - r >= mine_bytes)) return {};
  return invalid_argument(
      "{}: send and recv overlap: pass recv == send + the sum of recvcounts before this rank (in place) or buffers "
      "that share no byte",
      c.function);
}

Status check_all_to_all_v(const CallV& c) {
  TUTTI_TRY(checks::check_type(c.function, c.type));
  TUTTI_TRY(check_table(c.function, "sendcounts", c.sendcounts));
  TUTTI_TRY(check_table(c.function, "sdispls", c.sdispls));
  TUTTI_TRY(check_table(c.function, "recvcounts", c.recvcounts));
  TUTTI_TRY(check_table(c.function, "rdispls", c.rdispls));
  const size_t element = checks::element_bytes(c.type);
  if (c.sendcounts[c.rank] != c.recvcounts[c.rank])
    return invalid_argument(
        "{}: sendcounts[{}] is {} but recvcounts[{}] is {}: pass what this rank sends itself in both", c.function,
        c.rank, c.sendcounts[c.rank], c.rank, c.recvcounts[c.rank]);
  const Side send{c.function, "send", "sendcounts", "sdispls", c.send, c.sendcounts, c.sdispls, element, c.nranks};
  const Side recv{c.function, "recv", "recvcounts", "rdispls", c.recv, c.recvcounts, c.rdispls, element, c.nranks};
  size_t send_bytes = 0, recv_bytes = 0;
  TUTTI_TRY(send.check(send_bytes));
  TUTTI_TRY(recv.check(recv_bytes));
  const auto s = reinterpret_cast<uintptr_t>(c.send), r = reinterpret_cast<uintptr_t>(c.recv);
  if (recv.in_order() && s - r >= recv_bytes && r - s >= send_bytes) return {};
  return check_blocks(recv, &send);
}

}  // namespace tutti
