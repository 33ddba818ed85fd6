// SPDX-License-Identifier: Apache-2.0
// Where the connections of two GPUs lie: the decision, and what follows from it for arenas.
#include "comm/cuda_routes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "exec/cuda/peer_arena.h"

namespace tutti {
namespace {

using Way = CudaRoute::Way;

struct Pair {
  int a, b;
};

// All map each other and are joined by NVLink, but for these.
CudaReach reach_without(int gpus, const std::vector<Pair>& apart, const std::vector<Pair>& by_pcie = {}) {
  CudaReach reach(std::vector<int>(static_cast<size_t>(gpus), 1));
  for (int a = 0; a < gpus; ++a) {
    for (int b = a + 1; b < gpus; ++b) reach.set(a, b, true, true);
  }
  for (const Pair& one : by_pcie) reach.set(one.a, one.b, true, false);
  for (const Pair& one : apart) reach.set(one.a, one.b, false, false);
  return reach;
}

TEST(CudaRoutes, AreDirectWhereAllMapEachOther) {
  const CudaRoutes routes(reach_without(3, {}), true);
  EXPECT_TRUE(routes.all_direct());
  EXPECT_EQ(routes.between(0, 2), CudaRoute());
  EXPECT_EQ(routes.describe({0, 1, 2}), "");
}

TEST(CudaRoutes, GoByAThirdGpuThatBothMap) {
  const CudaRoutes routes(reach_without(4, {{0, 1}, {1, 2}}), true);
  EXPECT_FALSE(routes.all_direct());
  EXPECT_EQ(routes.between(0, 1), (CudaRoute{Way::Relay, 3})) << "2 does not map 1";
  EXPECT_EQ(routes.between(1, 0), routes.between(0, 1));
  EXPECT_EQ(routes.between(0, 2).way, Way::Direct);
}

TEST(CudaRoutes, GoThroughTheHostWhereNobodyRelays) {
  const CudaReach reach = reach_without(4, {{0, 1}, {0, 3}, {1, 3}, {2, 3}});
  const CudaRoutes routes(reach, true), without(reach, false);
  EXPECT_EQ(routes.between(0, 1), (CudaRoute{Way::Relay, 2}));
  for (const int other : {0, 1, 2}) EXPECT_EQ(routes.between(other, 3), (CudaRoute{Way::Host, -1})) << other;
  EXPECT_EQ(without.between(0, 1).way, Way::Host) << "TUTTI_CUDA_RELAY=0";
  EXPECT_EQ(routes.describe({0, 1, 2, 5}), "by the GPU of rank 2: 0-1; by memory of the host: 0-5, 1-5, 2-5");
  EXPECT_EQ(CudaRoutes(reach_without(2, {{0, 1}}), true).between(0, 1).way, Way::Host) << "there is no third";
}

TEST(CudaRoutes, PreferNvlinkOnBothWays) {
  // Of the candidates 2, 3 and 4 only the last is joined to both by NVLink.
  const CudaReach reach = reach_without(5, {{0, 1}}, {{0, 2}, {1, 2}, {1, 3}});
  EXPECT_EQ(CudaRoutes(reach, true).between(0, 1), (CudaRoute{Way::Relay, 4}));
  const CudaReach none = reach_without(5, {{0, 1}}, {{0, 2}, {1, 3}, {0, 4}});
  EXPECT_EQ(CudaRoutes(none, true).between(0, 1), (CudaRoute{Way::Relay, 2})) << "one way is worth nothing";
}

TEST(CudaRoutes, SpreadGuests) {
  // Two groups of which none maps a GPU of the other but 6 and 7, which map all: 9 pairs for two relays.
  std::vector<Pair> apart;
  for (const int a : {0, 1, 2}) {
    for (const int b : {3, 4, 5}) apart.push_back({a, b});
  }
  const CudaRoutes routes(reach_without(8, apart), true);
  std::vector<int> guests(8);
  for (const Pair& one : apart) {
    const CudaRoute route = routes.between(one.a, one.b);
    ASSERT_EQ(route.way, Way::Relay);
    ++guests[static_cast<size_t>(route.relay)];
  }
  EXPECT_THAT(guests, testing::ElementsAre(0, 0, 0, 0, 0, 0, 5, 4));
  EXPECT_EQ(routes.between(0, 3).relay, 6) << "the lower of two that have as many";
}

TEST(CudaRoutes, CountTheRanksOfGuests) {
  // GPU 0 has four ranks, so that a pair with it weighs four times as much as one without.
  CudaReach reach({4, 1, 1, 1, 1, 1, 1});
  for (int a = 0; a < 7; ++a) {
    for (int b = a + 1; b < 7; ++b) reach.set(a, b, (b == 5 || b == 6) && a < 5, true);
  }
  const CudaRoutes routes(reach, true);
  EXPECT_EQ(routes.between(0, 1).relay, 5);
  EXPECT_EQ(routes.between(0, 2).relay, 6);
  EXPECT_EQ(routes.between(0, 3).relay, 5);
  EXPECT_EQ(routes.between(0, 4).relay, 6);
  EXPECT_EQ(routes.between(1, 2).relay, 5);
}

TEST(CudaRoutes, LetThosePairsChooseFirstThatHaveNoChoice) {
  // 0-1 could go by 4 or 5; 2-3 by 4 alone.
  const CudaRoutes routes(reach_without(6, {{0, 1}, {2, 3}, {2, 5}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {4, 5}}), true);
  EXPECT_EQ(routes.between(2, 3).relay, 4);
  EXPECT_EQ(routes.between(0, 1).relay, 5);
}

// Whatever maps what: no pair is left out, relays are mapped by both, and the arenas fit together.
TEST(CudaRoutes, HoldForAnyMachine) {
  std::mt19937 draw(7);
  for (int turn = 0; turn < 200; ++turn) {
    const int gpus = 2 + static_cast<int>(draw() % 7);
    CudaReach reach(std::vector<int>(static_cast<size_t>(gpus), 1));
    for (int a = 0; a < gpus; ++a) {
      for (int b = a + 1; b < gpus; ++b) reach.set(a, b, draw() % 3 != 0, draw() % 2 == 0);
    }
    const CudaRoutes routes(reach, true);
    for (int a = 0; a < gpus; ++a) {
      for (int b = 0; b < gpus; ++b) {
        const CudaRoute route = routes.between(a, b);
        ASSERT_EQ(route, routes.between(b, a));
        ASSERT_EQ(route.way == Way::Direct, reach.maps(a, b));
        bool relayed = false;
        for (int third = 0; third < gpus; ++third)
          relayed = relayed || (third != a && third != b && reach.maps(a, third) && reach.maps(b, third));
        ASSERT_EQ(route.way == Way::Relay, route.way != Way::Direct && relayed);
        const bool mapped = route.way != Way::Relay || (reach.maps(a, route.relay) && reach.maps(b, route.relay));
        ASSERT_TRUE(mapped);
      }
    }
  }
}

// ---- arenas ----

TEST(PeerMap, HasEachEndOnce) {
  constexpr int kHost = 4;
  // 0-1 by 2; 3 by the host.
  const cuda::PeerMap map(4, [](int me, int peer) {
    if (me == peer) return me;
    if (me == 3 || peer == 3) return kHost;
    return me + peer == 1 ? 2 : me;
  });
  EXPECT_EQ(map.host(), kHost);
  EXPECT_EQ(map.ends(0), 2);  // itself, and 2
  EXPECT_EQ(map.ends(1), 2);
  EXPECT_EQ(map.ends(2), 5);  // itself, 0, 1, and two guests
  EXPECT_EQ(map.ends(3), 1);
  EXPECT_EQ(map.ends(kHost), 6);
  EXPECT_EQ(map.most_ends(), 5);
  EXPECT_TRUE(map.any_by_host());
  std::vector<std::pair<int, int>> seen;
  for (int me = 0; me < 4; ++me) {
    for (int peer = 0; peer < 4; ++peer) {
      const cuda::PeerMap::Place place = map.of(me, peer);
      EXPECT_LT(place.end, map.ends(place.home));
      seen.emplace_back(place.home, place.end);
    }
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end());
}

TEST(PeerArena, KeepsItsPartsApart) {
  const cuda::PeerArena arena{3, 2, 8192, 4096, 2048};
  const uint64_t last = arena.index(static_cast<Use>(1), 1, 2);
  EXPECT_EQ(last + 1, arena.places());
  EXPECT_LE(arena.control_at(last) + sizeof(cuda::PeerArena::Control), arena.line_at(0));
  EXPECT_LE(arena.line_at(last) + 4096, arena.line128_at(0));
  EXPECT_LE(arena.line128_at(last) + 2048, arena.slot_at(0));
  EXPECT_EQ(arena.slot_at(last) + 8192, arena.bytes());
  EXPECT_EQ(arena.zeroed(), arena.slot_at(0));
  EXPECT_EQ((cuda::PeerArena{0, 2, 8192, 4096, 2048}).bytes(), 0u) << "nothing lies in it";
}

}  // namespace
}  // namespace tutti
