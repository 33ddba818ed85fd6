// SPDX-License-Identifier: Apache-2.0
// What the tests of the life cycle share: transports to run over, and sums whose value says who took part.
#pragma once

#include <string>
#include <vector>

#include "api/harness.h"

namespace life_test {

using api_test::Environment;
using api_test::in_child;
using api_test::in_children;
using api_test::in_ranks;
using api_test::kSanitized;
using api_test::share_kib;
using api_test::shared_id;
using api_test::with_all;

// A call of a communicator that may be non-blocking was accepted.
#define ASSERT_BEGUN(call)                                                                           \
  do {                                                                                               \
    const tuttiResult_t begun = (call);                                                              \
    ASSERT_TRUE(begun == TUTTI_SUCCESS || begun == TUTTI_IN_PROGRESS) << tuttiGetLastError(nullptr); \
  } while (false)

// Ranks as processes, over shared memory and over sockets.
class OverTransport : public testing::TestWithParam<std::string> {
 protected:
  Environment over(Environment more = {}) const {
    more.emplace_back("TUTTI_TRANSPORTS", GetParam());
    return more;
  }
};
#define TUTTI_OVER_TRANSPORTS(suite)                                        \
  INSTANTIATE_TEST_SUITE_P(Processes, suite, testing::Values("shm", "tcp"), \
                           [](const testing::TestParamInfo<std::string>& info) { return info.param; })

// The sum over the ranks of `comm` of what each gives. A barrier of its own: nobody has it before all gave.
inline double sum_of(tuttiComm_t comm, double mine) {
  double sum = -1;
  EXPECT_EQ(tuttiAllReduce(&mine, &sum, 1, TUTTI_FLOAT64, TUTTI_SUM, comm, nullptr), TUTTI_SUCCESS)
      << tuttiGetLastError(nullptr);
  return sum;
}
inline int rank_in(tuttiComm_t comm) {
  int rank = -1;
  EXPECT_EQ(tuttiCommRank(comm, &rank), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
  return rank;
}
inline int size_of(tuttiComm_t comm) {
  int size = -1;
  EXPECT_EQ(tuttiCommCount(comm, &size), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
  return size;
}
inline tuttiResult_t condition_of(tuttiComm_t comm) {
  tuttiResult_t code = TUTTI_NUM_RESULTS;
  EXPECT_EQ(tuttiCommGetAsyncError(comm, &code), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
  return code;
}
// Until nothing of a non-blocking communicator is under way; the launcher ends a test that waits for ever.
inline tuttiResult_t await(tuttiComm_t comm) {
  tuttiResult_t code = TUTTI_IN_PROGRESS;
  while ((code = condition_of(comm)) == TUTTI_IN_PROGRESS) usleep(200);
  return code;
}

}  // namespace life_test
