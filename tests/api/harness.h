// SPDX-License-Identifier: Apache-2.0
// Harness of the public-API tests: bodies run in forked children, since a process reads its environment once and a test
// must not hang. EXPECT_* works inside a body: a child with a failure ends with status 1, and its test fails.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "conformance/launcher.h"
#include "tutti/tutti.h"

namespace api_test {

using Environment = std::vector<std::pair<std::string, std::string>>;
constexpr double kLimitSeconds = 60;

// Runs body(index) in `processes` children at once.
inline void in_children(int processes, const std::function<void(int index, launcher::Page& page)>& body,
                        const Environment& environment = {}, double limit_seconds = kLimitSeconds) {
  const launcher::SharedPage page;
  const launcher::Outcome outcome = launcher::run(processes, *page, limit_seconds, [&](int index) {
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    body(index, *page);
    return testing::Test::HasFailure() ? 1 : 0;
  });
  EXPECT_TRUE(outcome.ok) << outcome.text;
}
inline void in_child(const std::function<void()>& body, const Environment& environment = {}) {
  in_children(
      1, [&](int, launcher::Page&) { body(); }, environment);
}

// What the ranks join with: rank 0 makes it, the others wait for it.
inline tuttiUniqueId shared_id(int rank, launcher::Page& page) {
  if (rank == 0) {
    tuttiUniqueId id{};
    EXPECT_EQ(tuttiGetUniqueId(&id), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
    page.publish(id);
  }
  return page.await();
}

// `n` processes, each with its rank's communicator.
inline void in_ranks(int n, const std::function<void(int rank, tuttiComm_t comm)>& body,
                     const Environment& environment = {}) {
  in_children(
      n,
      [&](int rank, launcher::Page& page) {
        tuttiComm_t comm = nullptr;
        ASSERT_EQ(tuttiCommInitRank(&comm, n, shared_id(rank, page), rank), TUTTI_SUCCESS)
            << tuttiGetLastError(nullptr);
        body(rank, comm);
        EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
      },
      environment);
}

// One process with all `n` ranks.
inline void with_all(int n, const std::function<void(std::vector<tuttiComm_t>& comms)>& body,
                     const Environment& environment = {}) {
  in_child(
      [&] {
        std::vector<tuttiComm_t> comms(static_cast<size_t>(n));
        ASSERT_EQ(tuttiCommInitAll(comms.data(), n, nullptr), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
        body(comms);
        for (tuttiComm_t comm : comms) EXPECT_EQ(tuttiCommDestroy(comm), TUTTI_SUCCESS) << tuttiGetLastError(nullptr);
      },
      environment);
}

inline std::string last_error() { return tuttiGetLastError(nullptr); }

// Figures of memory mean nothing under a sanitizer.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// The proportional share of all pages of this process, so that memory shared by the ranks of a host is counted once in
// all; -1 where the kernel does not tell.
inline long share_kib() {
  FILE* file = std::fopen("/proc/self/smaps_rollup", "r");
  if (file == nullptr) return -1;
  char line[256];
  long share = -1, value = 0;
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::sscanf(line, "Pss: %ld", &value) == 1) share = value;
  }
  std::fclose(file);
  return share;
}

}  // namespace api_test

#define EXPECT_OK(call) EXPECT_EQ(call, TUTTI_SUCCESS) << tuttiGetLastError(nullptr)
#define ASSERT_OK(call) ASSERT_EQ(call, TUTTI_SUCCESS) << tuttiGetLastError(nullptr)
// The call fails with `code`, and its text has `part` in it.
#define EXPECT_FAILS(call, code, part)                                                                              \
  do {                                                                                                              \
    EXPECT_EQ(call, code) << tuttiGetLastError(nullptr);                                                            \
    EXPECT_NE(std::string(tuttiGetLastError(nullptr)).find(part), std::string::npos) << tuttiGetLastError(nullptr); \
  } while (false)
