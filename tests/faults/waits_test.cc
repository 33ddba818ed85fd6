// SPDX-License-Identifier: Apache-2.0
// Waits that end in an answer: ranks that are late, elsewhere, gone in order or without a word; what happens to the
// others, and to other communicators.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <regex>
#include <sstream>

#include "faults/job.h"

namespace faults {
namespace {

constexpr int64_t kLimitMs = 60'000;

tuttiComm_t join(Page& page, int which, int n, int rank) {
  tuttiComm_t comm = nullptr;
  if (tuttiCommInitRank(&comm, n, page.meet(which, rank), rank) != TUTTI_SUCCESS) std::abort();
  if (tuttiBarrier(comm, nullptr) != TUTTI_SUCCESS) std::abort();  // #1
  page.gather(which, n);
  return comm;
}
void report(Page& page, int rank, tuttiResult_t result, tuttiComm_t comm) {
  page.ranks[rank].set(result, result == TUTTI_SUCCESS ? "" : tuttiGetLastError(comm));
}
tuttiResult_t sum(tuttiComm_t comm, size_t count = 8) {
  static float data[4096];
  return tuttiAllReduce(data, data, count, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr);
}
testing::AssertionResult says(const Report& report, const std::string& part) {
  if (std::string(report.text).find(part) != std::string::npos) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "'" << part << "' is not in: (" << report.code.load() << ") " << report.text;
}

// A log for the ranks of a test, gone with it.
class Log {
 public:
  Log() {
    char name[] = "/tmp/tutti-faults-XXXXXX";
    const int fd = mkstemp(name);
    if (fd >= 0) close(fd);
    path_ = name;
  }
  ~Log() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }
  std::string text() const {
    std::stringstream all;
    all << std::ifstream(path_).rdbuf();
    return all.str();
  }

 private:
  std::string path_;
};

class Waits : public testing::TestWithParam<const char*> {
 protected:
  Environment with(Environment more = {}) const {
    more.emplace_back("TUTTI_TRANSPORTS", GetParam());
    return more;
  }
};
INSTANTIATE_TEST_SUITE_P(Transports, Waits, testing::Values("shm", "tcp"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(Waits, ALateRankIsNamedInAWarningAndThenTheCallSucceeds) {
  Log log;
  Job job(3, with({{"TUTTI_WARN_AFTER", "300ms"}, {"TUTTI_DEBUG_FILE", log.path()}}), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 3, rank);
    if (rank == 2) nap_us(1'500'000);
    report(page, rank, sum(comm), comm);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  for (int rank = 0; rank < 3; ++rank) EXPECT_EQ(job.page().ranks[rank].code.load(), 0) << job.page().ranks[rank].text;
  const std::string text = log.text();
  EXPECT_NE(text.find("in all_reduce of 8 float32 (sum), #2: rank 2 has not joined it; rank 2 ("), text.npos) << text;
  EXPECT_NE(text.find("is alive, idle after #1, all_reduce of 1 uint64 (max)"), text.npos) << text;
}

TEST_P(Waits, ARankThatNeverComesIsNamedWithWhatItDoes) {
  Job job(3, with({{"TUTTI_TIMEOUT", "500ms"}}), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 3, rank);
    if (rank == 2) page.gather(1, 3);
    // What the others had posted before they gave up may still complete the late rank's call, but no call after it.
    tuttiResult_t result = sum(comm);
    while (rank == 2 && result == TUTTI_SUCCESS) result = sum(comm);
    report(page, rank, result, comm);
    if (rank != 2) page.gather(1, 3);
    page.gather(2, 3);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  for (int rank = 0; rank < 3; ++rank) {  // rank 2 comes at last, and is told that it was given up
    const Report& one = job.page().ranks[rank];
    EXPECT_EQ(one.code.load(), TUTTI_REMOTE_ERROR);
    EXPECT_TRUE(
        says(one, "gave up all_reduce of 8 float32 (sum) after 500 ms without any progress (TUTTI_TIMEOUT), #2"));
    EXPECT_TRUE(says(one, "rank 2 has not joined it"));
    EXPECT_TRUE(says(one, "is alive, idle after #1"));
  }
}

TEST_P(Waits, ACycleAcrossCommunicatorsIsSaidAtOnceInTheCheckedMode) {
  Log log;
  Job job(2,
          with({{"TUTTI_CHECK_CYCLES", "1"},
                {"TUTTI_TIMEOUT", "3s"},
                {"TUTTI_WARN_AFTER", "1s"},
                {"TUTTI_DEBUG_FILE", log.path()}}),
          [](int rank, Page& page) {
            tuttiComm_t comms[2] = {join(page, 0, 2, rank), join(page, 1, 2, rank)};
            report(page, rank, sum(comms[rank]), comms[rank]);  // each begins with another one
            page.gather(2, 2);
            for (tuttiComm_t comm : comms) (void)tuttiCommDestroy(comm);
            return 0;
          });
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  for (int rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(job.page().ranks[rank].code.load(), TUTTI_REMOTE_ERROR);
  }
  const std::string text = log.text();
  EXPECT_NE(text.find("ranks wait for each other across communicators: rank"), text.npos) << text;
  EXPECT_NE(text.find("its thread is in another communicator: rank"), text.npos) << text;
}

TEST_P(Waits, ADeadRankIsNamedWithItsLastOperation) {
  Job job(3, with(), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 3, rank);
    const int64_t end = now_ms() + 1000;  // long enough for ranks of other hosts to have heard of calls
    tuttiResult_t result = TUTTI_SUCCESS;
    while (result == TUTTI_SUCCESS) {
      result = sum(comm);
      if (rank == 2 && now_ms() > end) (void)raise(SIGKILL);
    }
    report(page, rank, result, comm);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  const pid_t died = job.pid(2);
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  const bool mapped = std::string(GetParam()) == "shm";
  const std::regex form("rank 2 \\([^()]*, process " + std::to_string(died) +
                        "\\) has died, (in|idle after)[^:]* #[0-9]{2,}[^:]*" + (mapped ? ": " : ", when last heard: "));
  for (int rank = 0; rank < 2; ++rank) {
    const Report& one = job.page().ranks[rank];
    EXPECT_EQ(one.code.load(), TUTTI_REMOTE_ERROR);
    EXPECT_TRUE(std::regex_search(std::string(one.text), form)) << one.text;
  }
}

TEST_P(Waits, ARankThatHasLeftIsNamed) {
  Job job(3, with(), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 3, rank);
    if (rank == 1) return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
    report(page, rank, sum(comm), comm);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  for (const int rank : {0, 2}) EXPECT_TRUE(says(job.page().ranks[rank], "rank 1 ("));
}

TEST_P(Waits, ARankThatExitsWithoutDestroyCountsAsDead) {
  Job job(3, with(), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 3, rank);
    if (rank == 1) return 0;
    report(page, rank, sum(comm), comm);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  for (const int rank : {0, 2}) {
    EXPECT_EQ(job.page().ranks[rank].code.load(), TUTTI_REMOTE_ERROR);
    EXPECT_TRUE(says(job.page().ranks[rank], "rank 1 ("));
    // Of a rank on another host it is known only if somebody had asked in its lifetime.
    EXPECT_TRUE(says(job.page().ranks[rank], std::string(GetParam()) == "shm"
                                                 ? "has died, idle after #1, all_reduce of 1 uint64 (max)"
                                                 : "has died, "));
  }
}

// The child holds copies of what its parent had open, but not of what tells of its parent's death.
TEST_P(Waits, AForkedChildThatLivesOnDoesNotHideADeath) {
  Job job(2, with(), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 2, rank);
    if (rank == 1) {
      const pid_t parent = getpid(), child = fork();
      if (child == 0) {
        for (int i = 0; i < 200 && page.ranks[0].code.load() < 0; ++i) nap_us(100'000);
        _exit(0);
      }
      kill(parent, SIGKILL);
    }
    report(page, rank, sum(comm), comm);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(job.wait(15'000).in_time);
  EXPECT_TRUE(says(job.page().ranks[0], "rank 1 ("));
}

// Rank 0 is the node of the tree through which ranks 1 and 2 hear of each other.
TEST_P(Waits, NewsOfADeathPassesByARankThatIsBusyElsewhere) {
  Job job(3, with(), [](int rank, Page& page) {
    tuttiComm_t comm = join(page, 0, 3, rank);
    if (rank == 1) raise(SIGKILL);
    if (rank == 0) {
      while (page.ranks[2].code.load() < 0) nap_us(1000);
    }
    float word = 0;
    report(page, rank, rank == 2 ? tuttiRecv(&word, 1, TUTTI_FLOAT32, 0, comm, nullptr) : sum(comm), comm);
    return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
  });
  EXPECT_TRUE(job.wait(kLimitMs).in_time);
  for (const int rank : {0, 2}) {
    EXPECT_EQ(job.page().ranks[rank].code.load(), TUTTI_REMOTE_ERROR);
    EXPECT_TRUE(says(job.page().ranks[rank], "rank 1 ("));
    EXPECT_TRUE(says(job.page().ranks[rank], "has died"));
  }
}

TEST_P(Waits, OtherCommunicatorsWorkOnAfterAnError) {
  Job job(3, with(), [](int rank, Page& page) {
    tuttiComm_t broken = join(page, 0, 3, rank), whole = join(page, 1, 3, rank);
    const tuttiResult_t first = sum(broken, rank == 1 ? 9 : 8);
    report(page, rank, first, broken);
    for (int i = 0; i < 100; ++i) {
      if (sum(whole) != TUTTI_SUCCESS) return 1;
    }
    const bool answers = sum(broken) == first;
    return answers && tuttiCommDestroy(broken) == TUTTI_SUCCESS && tuttiCommDestroy(whole) == TUTTI_SUCCESS ? 0 : 2;
  });
  const Ending ending = job.wait(kLimitMs);
  EXPECT_TRUE(ending.in_time);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(ending.status[static_cast<size_t>(rank)], 0);
    EXPECT_EQ(job.page().ranks[rank].code.load(), TUTTI_INVALID_USAGE);
  }
}

}  // namespace
}  // namespace faults
