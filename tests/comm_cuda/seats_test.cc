// SPDX-License-Identifier: Apache-2.0
// Islands: whose slots kernels reach, and whose a transport has to carry.
#include "comm/cuda_seats.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "comm/cuda_sizes.h"

namespace tutti {
namespace {

using ::testing::ElementsAre;

// One rank. Its host is whom it shares memory with, unless it is alone.
struct Place {
  int process;
  int together;
  int gpu;  // -1: on the CPU
};

// GPUs of compute capability 9, joined by NVLink, unless `change` says otherwise.
CudaSeats seats_of(const std::vector<Place>& places,
                   const std::function<void(size_t rank, CudaSeat& seat)>& change = nullptr, bool relays = true) {
  std::vector<CudaSeat> seats(places.size());
  std::vector<Member> members(places.size());
  std::vector<int> together;
  for (size_t rank = 0; rank < places.size(); ++rank) {
    members[rank].rank = static_cast<int32_t>(rank);
    members[rank].process[0] = static_cast<uint8_t>(places[rank].process);
    together.push_back(places[rank].together);
    seats[rank].ordinal = places[rank].gpu;
    seats[rank].gpu.uuid.fill(static_cast<unsigned char>(places[rank].gpu + 1));
    seats[rank].gpu.multiprocessors = 100;
    seats[rank].gpu.capability_major = 9;
    for (const Place& other : places) {
      CudaUuidBytes uuid;
      uuid.fill(static_cast<unsigned char>(other.gpu + 1));
      seats[rank].by_nvlink.push_back(uuid);
    }
    if (change) change(rank, seats[rank]);
  }
  return CudaSeats(std::move(seats), members, together, relays);
}

TEST(CudaSeats, OfOneHostAreOneIsland) {
  const CudaSeats seats = seats_of({{0, 0, 0}, {1, 0, 1}, {2, 0, 2}});
  EXPECT_FALSE(seats.bridged());
  EXPECT_TRUE(seats.waits_for_others());
  EXPECT_THAT(seats.processes(), ElementsAre(0, 1, 2));
  EXPECT_TRUE(seats.linked(0, 2));
  EXPECT_GT(CudaSizes::of(seats).line_slots, 0u);
}

TEST(CudaSeats, OfTwoHostsAreTwoIslands) {
  const CudaSeats seats = seats_of({{0, 0, 0}, {1, 1, 1}, {2, 0, 2}, {1, 1, 3}, {3, 1, 4}});
  EXPECT_TRUE(seats.bridged());
  EXPECT_FALSE(seats.stepped());
  ASSERT_EQ(seats.islands().size(), 2u);
  EXPECT_THAT(seats.islands()[0].ranks, ElementsAre(0, 2));
  EXPECT_THAT(seats.islands()[1].ranks, ElementsAre(1, 3, 4));
  EXPECT_THAT(seats.islands()[1].processes, ElementsAre(1, 4));
  EXPECT_EQ(seats.islands()[1].number_of(3), 1);
  EXPECT_EQ(seats.largest_island(), 3);
  EXPECT_TRUE(seats.linked(1, 4));
  EXPECT_FALSE(seats.linked(0, 1));
  EXPECT_EQ(CudaSizes::of(seats).line_slots, 0u);  // transports carry none
}

TEST(CudaSeats, OfOneProcessReachEachOtherWithoutSharedMemory) {
  const CudaSeats seats = seats_of({{0, 0, 0}, {0, 1, 1}, {1, 2, 2}});
  ASSERT_EQ(seats.islands().size(), 2u);
  EXPECT_TRUE(seats.linked(0, 1));
  EXPECT_FALSE(seats.linked(1, 2));
  EXPECT_FALSE(seats.several_in_an_island());
}

TEST(CudaSeats, RanksOnTheCpuAreInNone) {
  const CudaSeats seats = seats_of({{0, 0, -1}, {0, 0, 1}, {1, 0, 2}});
  EXPECT_TRUE(seats.bridged());
  EXPECT_TRUE(seats.some_on_cpu());
  ASSERT_EQ(seats.islands().size(), 1u);
  EXPECT_THAT(seats.islands()[0].ranks, ElementsAre(1, 2));
  EXPECT_THAT(seats.processes(), ElementsAre(1, 2));  // by the lowest of their ranks on GPUs
  EXPECT_THAT(seats.ranks_of(1), ElementsAre(1));
  EXPECT_FALSE(seats.linked(0, 1));
  EXPECT_FALSE(seats.linked(1, 0));
  EXPECT_FALSE(seats.on_gpu(0));
}

TEST(CudaSeats, AGpuOfSeveralProcessesIsStepped) {
  EXPECT_TRUE(seats_of({{0, 0, 0}, {1, 0, 0}}).stepped());
  EXPECT_TRUE(seats_of({{0, 0, 0}, {1, 1, 0}}).stepped());  // whatever hosts they believe to be
  EXPECT_FALSE(seats_of({{0, 0, 0}, {0, 0, 0}}).stepped());
  EXPECT_FALSE(seats_of({{0, 0, -1}, {1, 0, -1}, {2, 0, 0}}).stepped());
}

// Lines of LL128: on one GPU, or on some that nothing but NVLink joins, of compute capability 7 or later.
TEST(CudaSeats, SeeLongLinesWholeWhereTheConditionHolds) {
  const std::vector<Place> two = {{0, 0, 0}, {1, 0, 1}};
  EXPECT_TRUE(seats_of(two).whole_lines());
  EXPECT_TRUE(seats_of({{0, 0, 0}, {0, 0, 0}}).whole_lines());
  const auto alone = [](size_t, CudaSeat& seat) { seat.by_nvlink.clear(); };
  EXPECT_TRUE(seats_of({{0, 0, 0}, {0, 0, 0}}, alone).whole_lines()) << "one GPU";
  EXPECT_FALSE(seats_of(two, alone).whole_lines()) << "by PCIe, or not seen by each other";
  EXPECT_FALSE(seats_of(two,
                        [](size_t rank, CudaSeat& seat) {
                          if (rank == 1) seat.by_nvlink.clear();
                        })
                   .whole_lines())
      << "one way is not enough";
  EXPECT_FALSE(seats_of(two, [](size_t rank, CudaSeat& seat) {
                 if (rank == 0) seat.gpu.capability_major = 6;
               }).whole_lines());
  EXPECT_FALSE(seats_of(two,
                        [&](size_t rank, CudaSeat& seat) {
                          if (rank == 0) seat.unreachable.push_back(seat.by_nvlink[1]);
                        })
                   .whole_lines())
      << "through memory of the host";
  EXPECT_FALSE(seats_of({{0, 0, 0}, {1, 0, 0}}).whole_lines()) << "stepped";
  EXPECT_FALSE(seats_of({{0, 0, 0}, {1, 1, 1}}).whole_lines()) << "over a network";
  EXPECT_FALSE(seats_of({{0, 0, 0}, {1, 0, -1}}).whole_lines()) << "beside a CPU";
  EXPECT_GT(CudaSizes::of(seats_of(two)).line128_slots, 0u);
  EXPECT_EQ(CudaSizes::of(seats_of(two, alone)).line128_slots, 0u);
}

// Ranks whose GPUs do not map each other, as each rank's driver says it of those that it sees.
class CudaSeatsApart : public testing::Test {
 protected:
  struct Pair {
    int from, to;  // GPUs: the first cannot map the second's memory
  };
  static CudaSeats seats(const std::vector<Place>& places, const std::vector<Pair>& apart, bool relays = true) {
    return seats_of(
        places,
        [&](size_t rank, CudaSeat& seat) {
          for (const Pair& one : apart) {
            if (places[rank].gpu == one.from) seat.unreachable.push_back(uuid(one.to));
          }
        },
        relays);
  }
  static CudaUuidBytes uuid(int gpu) {
    CudaUuidBytes bytes;
    bytes.fill(static_cast<unsigned char>(gpu + 1));
    return bytes;
  }
  static constexpr auto kDirect = CudaRoute::Way::Direct, kRelay = CudaRoute::Way::Relay, kHost = CudaRoute::Way::Host;
};

TEST_F(CudaSeatsApart, MeetInTheMemoryOfAThird) {
  const CudaSeats three = seats({{0, 0, 0}, {1, 0, 1}, {2, 0, 2}}, {{0, 1}, {1, 0}});
  EXPECT_FALSE(three.all_direct());
  EXPECT_EQ(three.route(0, 1), (CudaRoute{kRelay, 2}));
  EXPECT_EQ(three.route(1, 0), (CudaRoute{kRelay, 2}));
  EXPECT_EQ(three.route(0, 2).way, kDirect);
  const cuda::PeerMap map = three.peer_map(three.islands()[0]);
  EXPECT_EQ(map.of(0, 1).home, 2);
  EXPECT_EQ(map.of(1, 0).home, 2);
  EXPECT_EQ(map.ends(2), 5);
  EXPECT_FALSE(map.any_by_host());
  EXPECT_FALSE(three.whole_lines()) << "the reader loads them across a link";
}

TEST_F(CudaSeatsApart, OneDirectionIsOfNoUse) {
  EXPECT_EQ(seats({{0, 0, 0}, {1, 0, 1}, {2, 0, 2}}, {{1, 0}}).route(0, 1).way, kRelay);
  EXPECT_EQ(seats({{0, 0, 0}, {1, 0, 1}, {2, 0, 2}}, {{0, 1}, {2, 0}}).route(0, 1).way, kHost) << "nor to a relay";
}

TEST_F(CudaSeatsApart, RanksOfAGpuGoTheSameWay) {
  // GPU 5 has ranks 0 and 3, GPU 7 rank 1; GPU 6 has ranks 2 and 4: the lower one lends.
  const CudaSeats five = seats({{0, 0, 5}, {0, 0, 7}, {0, 0, 6}, {0, 0, 5}, {0, 0, 6}}, {{5, 7}, {7, 5}});
  for (const int rank : {0, 3}) EXPECT_EQ(five.route(rank, 1), (CudaRoute{kRelay, 2})) << rank;
  EXPECT_EQ(five.route(0, 3).way, kDirect);
  const cuda::PeerMap map = five.peer_map(five.islands()[0]);
  EXPECT_EQ(map.ends(2), 5 + 4);
  EXPECT_EQ(map.ends(4), 5);
}

// Also of a GPU that another process drives: what one of its ranks cannot see another may.
TEST_F(CudaSeatsApart, WhatOneRankOfAGpuKnowsCounts) {
  const std::vector<Place> places = {{0, 0, 0}, {1, 0, 1}, {2, 0, 0}, {3, 0, 2}};
  const CudaSeats four = seats_of(places, [&](size_t rank, CudaSeat& seat) {
    if (rank == 2) seat.unreachable.push_back(uuid(1));
  });
  EXPECT_TRUE(four.stepped());
  EXPECT_EQ(four.route(0, 1), (CudaRoute{kRelay, 3}));
}

TEST_F(CudaSeatsApart, AnotherIslandLendsNothing) {
  // GPU 2 is on another host; 3 is there as well.
  const CudaSeats four = seats({{0, 0, 0}, {1, 0, 1}, {2, 1, 2}, {3, 1, 3}}, {{0, 1}, {1, 0}, {2, 3}, {3, 2}});
  EXPECT_EQ(four.route(0, 1).way, kHost);
  EXPECT_EQ(four.route(2, 3).way, kHost);
  EXPECT_TRUE(four.peer_map(four.islands()[0]).any_by_host());
  EXPECT_EQ(four.peer_map(four.islands()[1]).ends(2), 2);
}

TEST_F(CudaSeatsApart, GuestsCountInTheSizes) {
  std::vector<Place> places;
  for (int rank = 0; rank < 8; ++rank) places.push_back({rank, 0, rank});
  std::vector<Pair> apart;  // all but 0, which has 21 pairs as guests
  for (int a = 1; a < 8; ++a) {
    for (int b = 1; b < 8; ++b) {
      if (a != b) apart.push_back({a, b});
    }
  }
  const CudaSizes spread = CudaSizes::of(seats(places, {})), one = CudaSizes::of(seats(places, apart)),
                  host = CudaSizes::of(seats(places, apart, false));
  EXPECT_LT(one.most_channels, spread.most_channels);
  EXPECT_LE(one.arena(8 + 2 * 21, one.most_channels).bytes(), uint64_t{144} << 20);
  EXPECT_GT(one.arena(8 + 2 * 21, one.most_channels + 1).bytes(), uint64_t{144} << 20);
  EXPECT_LE(host.arena(2 * 21, host.most_channels).bytes(), uint64_t{256} << 20);
  EXPECT_GT(host.arena(2 * 21, host.most_channels + 1).bytes(), uint64_t{256} << 20);
}

// What a rank of each of so many processes shares, at most; the numbers of docs/cuda.md.
TEST(CudaSizes, ArenasBoundTheChannels) {
  for (const auto& [ranks, channels] : {std::pair{8, 13}, {128, 2}}) {
    std::vector<Place> places;
    for (int rank = 0; rank < ranks; ++rank) places.push_back({rank, 0, rank});
    const CudaSizes sizes = CudaSizes::of(seats_of(places));
    EXPECT_GT(sizes.line128_slots, 0u);
    EXPECT_EQ(sizes.most_channels, channels) << ranks;
    EXPECT_LE(sizes.arena(ranks, channels).bytes(), uint64_t{144} << 20);
  }
}

TEST(CudaSizes, BoundThePlansOfAllRanks) {
  Summary summary;
  summary.n = 3;
  bound_by_gpus(seats_of({{0, 0, -1}, {0, 0, 1}, {1, 0, 2}}), Wire::Rdma, summary);
  EXPECT_EQ(summary.wire, Wire::Rdma);
  EXPECT_FALSE(summary.mapped);
  EXPECT_LE(summary.most_channels, 16);
  EXPECT_LE(summary.slot_capacity, 1u << 20);
  for (const Coll coll : {Coll::AllReduce, Coll::AllToAll, Coll::SendRecv}) {
    const Result<Plan> plan = make_plan(summary, {.coll = coll, .bytes = 1 << 10});
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_EQ(plan->proto, Proto::Simple);
  }
}

}  // namespace
}  // namespace tutti
