// SPDX-License-Identifier: Apache-2.0
// What each benchmark measures: one table row per collective with its buffers, its bus-bandwidth factor and where every
// received element must come from. Pure: no call of the library is made here (see calls.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "perf/outcome.h"

namespace tutti::perf {

enum class Kind {
  AllReduce,
  AllGather,
  ReduceScatter,
  Broadcast,
  Reduce,
  AllToAll,
  AllToAllV,
  Gather,
  Scatter,
  SendRecv,
};

// Who sends how many bytes to whom in alltoallv. Without a matrix the rank at ring distance d gets a share that grows
// with d: all ranks send and receive the same total, each pair something else.
struct Traffic {
  double spread = 1.0;           // 0: equal shares, 1: proportional to the distance
  std::vector<uint64_t> matrix;  // dimension x dimension bytes, row = sender; empty: use the distances
  int dimension = 0;
  uint64_t bytes(int from, int to, int n, uint64_t total) const;  // a multiple of 16
};
Outcome read_traffic_matrix(const std::string& path, double scale, Traffic* traffic);

// Elements per rank. The in-place offsets are multiplied by the rank: allgather sends from its own block of the receive
// buffer, reduce-scatter receives into its own block of the send buffer.
struct Layout {
  size_t send = 0;
  size_t recv = 0;
  size_t count = 0;  // the count argument of the call, and the `count` column
  size_t send_in_place = 0;
  size_t recv_in_place = 0;
  size_t larger() const { return send > recv ? send : recv; }  // the `size` column, in elements
};

// count[] and displacement[] of one rank's alltoallv.
struct VCounts {
  std::vector<size_t> send_counts, send_displs, recv_counts, recv_displs;
};
VCounts v_counts(const Traffic& traffic, int rank, int n, uint64_t total_bytes, int element_bytes);

constexpr int kReduction = -1;
// `count` received elements from element `at` on are the elements from `first` on of rank `source`'s send buffer, or
// (kReduction) the reduction over all ranks of these elements.
struct Segment {
  size_t at, count;
  int source;
  size_t first;
};

struct Place {
  int rank, n, root;
};

enum class OpColumn { Chosen, Sum, None };    // what -o means for a collective
enum class InPlace { No, Once, Repeatable };  // Repeatable: a second call on its own result gives that result again

struct Collective {
  Kind kind;
  const char* program;
  const char* title;
  OpColumn op_column;
  bool rooted;
  InPlace in_place;
  bool blocks;  // the size is cut into one 16-byte aligned block per rank
  double (*bus_factor)(int n);
  Layout (*layout)(size_t block_or_count, int n);
  std::vector<Segment> (*expected)(const Place&, const Layout&);  // null: alltoallv, from v_segments
  bool (*sends)(const Place&);                                    // does this rank's send buffer matter
};

std::span<const Collective> all_collectives();
const Collective* find_collective(std::string_view program);

// The layout for a size of `bytes` in total, rounded as nccl-tests rounds.
Layout layout_for(const Collective&, uint64_t bytes, int element_bytes, int n, const Traffic&);
std::vector<Segment> v_segments(const Traffic&, const Place&, uint64_t total_bytes, int element_bytes);

struct Bandwidth {
  double alg = 0, bus = 0;  // GB/s, 10^9 bytes per second
};
Bandwidth bandwidth(const Collective&, uint64_t bytes, double seconds, int n);

}  // namespace tutti::perf
