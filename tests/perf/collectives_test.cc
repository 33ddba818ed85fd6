// SPDX-License-Identifier: Apache-2.0
// Buffers, rounding and bandwidths against numbers written out, and the sources of what is received against a naive
// model of each collective.
#include "perf/collectives.h"

#include <gtest/gtest.h>

#include <map>

namespace tutti::perf {
namespace {

const Collective& row(const char* program) { return *find_collective(program); }

TEST(Collectives, BusBandwidthInNumbers) {
  const struct {
    const char* program;
    double factor_2, factor_8;  // busbw / algbw for 2 and for 8 ranks
  } expected[] = {
      {"all_reduce_perf", 1.0, 1.75}, {"all_gather_perf", 0.5, 0.875}, {"reduce_scatter_perf", 0.5, 0.875},
      {"broadcast_perf", 1.0, 1.0},   {"reduce_perf", 1.0, 1.0},       {"alltoall_perf", 0.5, 0.875},
      {"alltoallv_perf", 0.5, 0.875}, {"gather_perf", 0.5, 0.875},     {"scatter_perf", 0.5, 0.875},
      {"sendrecv_perf", 1.0, 1.0},
  };
  EXPECT_EQ(std::size(expected), all_collectives().size());
  for (const auto& e : expected) {
    const Bandwidth two = bandwidth(row(e.program), 1'000'000'000, 0.5, 2);
    EXPECT_DOUBLE_EQ(two.alg, 2.0) << e.program;
    EXPECT_DOUBLE_EQ(two.bus, 2.0 * e.factor_2) << e.program;
    EXPECT_DOUBLE_EQ(bandwidth(row(e.program), 4000, 1e-6, 8).bus, 4.0 * e.factor_8) << e.program;
  }
  EXPECT_EQ(bandwidth(row("all_reduce_perf"), 100, 0, 2).alg, 0);
}

TEST(Collectives, CountsAreRoundedAsNcclTestsDoes) {
  const Traffic none;
  // 1 MiB of float on 3 ranks: 262144 elements, 87381 per rank, cut to a multiple of 4 (16 bytes).
  const Layout gather = layout_for(row("all_gather_perf"), 1 << 20, 4, 3, none);
  EXPECT_EQ(gather.count, 87380u);
  EXPECT_EQ(gather.send, 87380u);
  EXPECT_EQ(gather.recv, 3 * 87380u);
  EXPECT_EQ(gather.send_in_place, 87380u);
  const Layout scatter = layout_for(row("reduce_scatter_perf"), 1 << 20, 4, 3, none);
  EXPECT_EQ(scatter.send, 3 * 87380u);
  EXPECT_EQ(scatter.recv, 87380u);
  EXPECT_EQ(scatter.recv_in_place, 87380u);
  const Layout exchange = layout_for(row("alltoall_perf"), 8, 4, 2, none);
  EXPECT_EQ(exchange.count, 0u);  // one element per rank is less than 16 bytes
  const Layout doubles = layout_for(row("alltoall_perf"), 100, 8, 2, none);
  EXPECT_EQ(doubles.count, 6u);
  EXPECT_EQ(doubles.send, 12u);
  const Layout whole = layout_for(row("all_reduce_perf"), 1001, 4, 3, none);
  EXPECT_EQ(whole.count, 250u);
  EXPECT_EQ(whole.larger(), 250u);
}

TEST(Collectives, DistancesShareTheTraffic) {
  const Traffic traffic;
  const uint64_t total = 96000;
  EXPECT_EQ(traffic.bytes(0, 0, 4, total), 0u);
  EXPECT_EQ(traffic.bytes(0, 1, 4, total), 16000u);
  EXPECT_EQ(traffic.bytes(0, 2, 4, total), 32000u);
  EXPECT_EQ(traffic.bytes(0, 3, 4, total), 48000u);
  EXPECT_EQ(traffic.bytes(3, 0, 4, total), 16000u);
  EXPECT_EQ((Traffic{.spread = 0, .matrix = {}, .dimension = 0}.bytes(0, 0, 4, total)), 24000u);
  for (int n : {1, 2, 3, 5, 8}) {
    for (int rank = 0; rank < n; ++rank) {
      uint64_t sent = 0, received = 0;
      for (int peer = 0; peer < n; ++peer) {
        sent += traffic.bytes(rank, peer, n, 123456);
        received += traffic.bytes(peer, rank, n, 123456);
      }
      EXPECT_EQ(sent, received);
      EXPECT_LE(sent, 123456u);
    }
  }
}

// What each rank must hold, from a second description: element i of `recv` comes from (source, index in its buffer).
using Origin = std::pair<int, size_t>;
std::vector<Origin> naive(Kind kind, const Place& p, size_t count) {
  std::vector<Origin> origins;
  const auto repeat = [&](int source, size_t first) {
    for (size_t i = 0; i < count; ++i) origins.push_back({source, first + i});
  };
  const auto mine = static_cast<size_t>(p.rank) * count;
  switch (kind) {
    case Kind::AllReduce:
      repeat(kReduction, 0);
      break;
    case Kind::Reduce:
      if (p.rank == p.root) repeat(kReduction, 0);
      break;
    case Kind::ReduceScatter:
      repeat(kReduction, mine);
      break;
    case Kind::Broadcast:
      repeat(p.root, 0);
      break;
    case Kind::Scatter:
      repeat(p.root, mine);
      break;
    case Kind::SendRecv:
      repeat(p.rank == 0 ? p.n - 1 : p.rank - 1, 0);
      break;
    case Kind::AllGather:
      for (int source = 0; source < p.n; ++source) repeat(source, 0);
      break;
    case Kind::Gather:
      for (int source = 0; p.rank == p.root && source < p.n; ++source) repeat(source, 0);
      break;
    case Kind::AllToAll:
      for (int source = 0; source < p.n; ++source) repeat(source, mine);
      break;
    case Kind::AllToAllV:
      break;
  }
  return origins;
}

std::vector<Origin> expand(const std::vector<Segment>& segments) {
  std::map<size_t, Origin> at;
  for (const Segment& s : segments) {
    for (size_t i = 0; i < s.count; ++i) EXPECT_TRUE(at.emplace(s.at + i, Origin{s.source, s.first + i}).second);
  }
  std::vector<Origin> origins;
  for (const auto& [position, origin] : at) {
    EXPECT_EQ(position, origins.size());  // no holes
    origins.push_back(origin);
  }
  return origins;
}

TEST(Collectives, EveryElementHasItsSource) {
  for (const Collective& collective : all_collectives()) {
    if (collective.expected == nullptr) continue;
    for (int n = 1; n <= 5; ++n) {
      const Layout layout = layout_for(collective, 64u * static_cast<uint64_t>(n), 4, n, {});
      for (int rank = 0; rank < n; ++rank) {
        for (int root = 0; root < n; ++root) {
          const Place place{rank, n, root};
          EXPECT_EQ(expand(collective.expected(place, layout)), naive(collective.kind, place, layout.count))
              << collective.program << " n " << n << " rank " << rank << " root " << root;
        }
      }
    }
  }
}

TEST(Collectives, UnevenExchangeReadsWhatWasSent) {
  const Traffic traffic;
  for (int n = 1; n <= 5; ++n) {
    for (int rank = 0; rank < n; ++rank) {
      const auto segments = v_segments(traffic, {rank, n, 0}, 6400, 4);
      for (const Segment& s : segments) {
        const VCounts sender = v_counts(traffic, s.source, n, 6400, 4);
        EXPECT_EQ(s.count, sender.send_counts[static_cast<size_t>(rank)]);
        EXPECT_EQ(s.first, sender.send_displs[static_cast<size_t>(rank)]);
      }
      expand(segments);
    }
  }
}

}  // namespace
}  // namespace tutti::perf
