// SPDX-License-Identifier: Apache-2.0
// What a communicator costs in memory, as the kernel counts it: the proportional share of all pages of a process, so
// that memory shared by the ranks of a host is counted once in all. Under a sanitizer the figures mean nothing.
#include <cstdio>

#include "api/harness.h"

namespace api_test {
namespace {

// Bytes of the communicator on one rank, after `calls` on it. The baseline has the buffers touched and nothing joined.
void expect_footprint(int n, size_t buffer, long most_mib,
                      const std::function<void(tuttiComm_t, char*, char*)>& calls) {
  if (kSanitized) GTEST_SKIP() << "memory figures mean nothing under a sanitizer";
  if (share_kib() < 0) GTEST_SKIP() << "/proc/self/smaps_rollup is not readable here";
  in_children(n, [&](int rank, launcher::Page& page) {
    std::vector<char> send(buffer, 1), receive(buffer, 1);
    const long before = share_kib();
    tuttiComm_t comm = nullptr;
    ASSERT_EQ(tuttiCommInitRank(&comm, n, shared_id(rank, page), rank), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
    calls(comm, send.data(), receive.data());
    ASSERT_EQ(tuttiBarrier(comm, nullptr), TUTTI_SUCCESS);  // everybody has touched what they touch
    const long cost = share_kib() - before;
    ASSERT_EQ(tuttiBarrier(comm, nullptr), TUTTI_SUCCESS);  // nobody has left yet
    EXPECT_LE(cost, most_mib * 1024) << "rank " << rank;
    if (rank == n - 1) std::printf("%d ranks: %ld KiB per rank\n", n, cost);
    EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS);
  });
}

TEST(Footprint, EightRanksAfterAnAllReduceCostAtMost16MiBEach) {
  constexpr size_t kBytes = 64 << 20;
  expect_footprint(8, kBytes, 16, [](tuttiComm_t comm, char* send, char* receive) {
    ASSERT_EQ(tuttiAllReduce(send, receive, kBytes, TUTTI_UINT8, TUTTI_SUM, comm, nullptr), TUTTI_SUCCESS);
  });
}

TEST(Footprint, SixtyFourRanksInAnAllToAllCostAtMost64MiBEach) {
  constexpr size_t kBlock = 4096;
  expect_footprint(64, 64 * kBlock, 64, [](tuttiComm_t comm, char* send, char* receive) {
    for (int i = 0; i < 50; ++i) {  // through every slot of every connection
      ASSERT_EQ(tuttiAllToAll(send, receive, kBlock, TUTTI_UINT8, comm, nullptr), TUTTI_SUCCESS);
    }
  });
}

}  // namespace
}  // namespace api_test
