// SPDX-License-Identifier: Apache-2.0
// What may go wrong between hosts: a cable is pulled, for a while or for good, a rank dies, its host falls silent,
// strangers call, packets are lost or late. The job recovers, or every rank that is left gets an error that names a
// rank beyond the fault, within the deadline; nobody hangs.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "hosts/job.h"

namespace {

constexpr int kPerHost = 2, kRanks = 4;
constexpr int kJoinMs = 60'000, kEndMs = 60'000;
constexpr int kFailed = 10;
constexpr size_t kCount = 50'000;
// A connection that carries nothing but silence is given up after TUTTI_TIMEOUT; the rest is scheduling.
constexpr const char* kTimeout = "TUTTI_TIMEOUT=3s";
constexpr int64_t kTimeoutUs = 3'000'000, kLeewayUs = 4'000'000;

// AllReduce after AllReduce until the test says so (all ranks then stop at the same call), or one fails.
int loop(int rank, tuttiComm_t comm, hosts::Board& board) {
  std::vector<float> send(kCount), recv(kCount);
  for (;;) {
    std::fill(send.begin(), send.end(), static_cast<float>(rank + 1));
    send[0] = board.go.load() != 0 ? 1 : 0;
    if (tuttiAllReduce(send.data(), recv.data(), kCount, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr) != TUTTI_SUCCESS) {
      std::snprintf(board.rank[rank].text, sizeof board.rank[rank].text, "%s", tuttiGetLastError(comm));
      tuttiCommAbort(comm);
      return kFailed;
    }
    for (size_t i = 1; i < kCount; ++i)
      if (recv[i] != kRanks * (kRanks + 1) / 2) return 2;
    board.rank[rank].calls.fetch_add(1);
    if (recv[0] != 0) break;
  }
  return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 3;
}

class HostFaults : public testing::Test {
 protected:
  void SetUp() override {
    hosts_ = hosts::names();
    if (hosts_.size() != 2) GTEST_SKIP() << "needs two hosts: tools/hosts run 2 -- hosts_test";
  }
  void TearDown() override {
    if (hosts_.size() != 2) return;
    hosts::run_on(hosts_[1], "ip link set eth0 up");
    hosts::run_on(hosts_[0], "tc qdisc del dev eth0 root 2>/dev/null");
  }
  static void wait_for_calls(hosts::Job& job, uint64_t more) {
    const uint64_t until = job.board().rank[0].calls.load() + more;
    const int64_t limit = hosts::now_us() + int64_t{kEndMs} * 1000;
    while (job.board().rank[0].calls.load() < until && hosts::now_us() < limit) usleep(1000);
    ASSERT_GE(job.board().rank[0].calls.load(), until) << "the job stands still";
  }
  // Ranks of host `here` all failed, in time, and name a rank of `lost`.
  void expect_failed(hosts::Job& job, const std::vector<int>& statuses, std::set<int> survivors, std::set<int> lost,
                     int64_t fault_us, int64_t within_us) {
    for (const int rank : survivors) {
      const auto& said = job.board().rank[rank];
      EXPECT_EQ(statuses[static_cast<size_t>(rank)], kFailed) << "rank " << rank;
      const double after = static_cast<double>(said.ended_us.load() - fault_us) / 1e6;
      std::printf("rank %d, %.2f s after the fault: %s\n", rank, after, said.text);
      EXPECT_LE(said.ended_us.load() - fault_us, within_us) << "rank " << rank;
      bool named = false;
      for (const int one : lost) named |= std::strstr(said.text, ("rank " + std::to_string(one)).c_str()) != nullptr;
      EXPECT_TRUE(named) << "rank " << rank << " names nobody beyond the fault: " << said.text;
    }
  }

  std::vector<std::string> hosts_;
};

TEST_F(HostFaults, ACablePulledForASecondIsWaitedFor) {
  hosts::Job job(hosts_, kPerHost, {}, loop);
  ASSERT_TRUE(job.wait_ready(kJoinMs));
  wait_for_calls(job, 20);
  ASSERT_EQ(hosts::run_on(hosts_[1], "ip link set eth0 down"), 0);
  const uint64_t at_fault = job.board().rank[0].calls.load();
  usleep(1'000'000);  // the length of the fault
  EXPECT_LE(job.board().rank[0].calls.load(), at_fault + 2) << "the cable was not pulled";
  ASSERT_EQ(hosts::run_on(hosts_[1], "ip link set eth0 up"), 0);
  wait_for_calls(job, 20);
  job.board().go.store(1);
  for (const int status : job.wait_all(kEndMs)) EXPECT_EQ(status, 0);
}

TEST_F(HostFaults, ACablePulledForGoodIsAnErrorOnEveryRank) {
  hosts::Job job(hosts_, kPerHost, {kTimeout}, loop);
  ASSERT_TRUE(job.wait_ready(kJoinMs));
  wait_for_calls(job, 20);
  const int64_t fault = hosts::now_us();
  ASSERT_EQ(hosts::run_on(hosts_[1], "ip link set eth0 down"), 0);
  const std::vector<int> statuses = job.wait_all(kEndMs);
  expect_failed(job, statuses, {0, 1}, {2, 3}, fault, kTimeoutUs + kLeewayUs);
  expect_failed(job, statuses, {2, 3}, {0, 1}, fault, kTimeoutUs + kLeewayUs);
}

TEST_F(HostFaults, AKilledRankIsNamedByAllOthers) {
  hosts::Job job(hosts_, kPerHost, {}, loop);
  ASSERT_TRUE(job.wait_ready(kJoinMs));
  wait_for_calls(job, 20);
  const int64_t fault = hosts::now_us();
  ASSERT_EQ(kill(job.process(3), SIGKILL), 0);
  const std::vector<int> statuses = job.wait_all(kEndMs);
  EXPECT_EQ(statuses[3], 128 + SIGKILL);
  expect_failed(job, statuses, {0, 1, 2}, {3}, fault, kLeewayUs);
}

// As when a host loses its power: nothing comes from it any more, not even the end of a connection.
TEST_F(HostFaults, AHostThatFallsSilentIsAnErrorOnTheOther) {
  hosts::Job job(hosts_, kPerHost, {kTimeout}, loop);
  ASSERT_TRUE(job.wait_ready(kJoinMs));
  wait_for_calls(job, 20);
  const int64_t fault = hosts::now_us();
  ASSERT_EQ(hosts::run_on(hosts_[1], "ip link set eth0 down"), 0);
  ASSERT_EQ(kill(job.process(2), SIGKILL), 0);
  ASSERT_EQ(kill(job.process(3), SIGKILL), 0);
  const std::vector<int> statuses = job.wait_all(kEndMs);
  expect_failed(job, statuses, {0, 1}, {2, 3}, fault, kTimeoutUs + kLeewayUs);
}

// Ports on which this network namespace listens, by /proc/net.
std::set<uint16_t> listening_ports() {
  std::set<uint16_t> ports;
  for (const char* path : {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}) {
    std::ifstream table(path);
    std::string line;
    std::getline(table, line);
    while (std::getline(table, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, state;
      fields >> number >> local >> remote >> state;
      if (state == "0A")
        ports.insert(static_cast<uint16_t>(std::stoul(local.substr(local.rfind(':') + 1), nullptr, 16)));
    }
  }
  return ports;
}

TEST_F(HostFaults, StrangersOnEveryPortAndHalfOpenConnectionsChangeNothing) {
  hosts::Job job(hosts_, kPerHost, {}, loop);
  ASSERT_TRUE(job.wait_ready(kJoinMs));
  wait_for_calls(job, 20);
  size_t called = 0;
  // A thread of its own, because it moves: the ports of one host, called from the other.
  std::thread([&] {
    const auto enter = [&](const std::string& host) {
      const int fd = open(("/run/netns/" + host).c_str(), O_RDONLY | O_CLOEXEC);
      const bool moved = fd >= 0 && setns(fd, CLONE_NEWNET) == 0;
      close(fd);
      return moved;
    };
    ASSERT_TRUE(enter(hosts_[0]));
    const std::set<uint16_t> ports = listening_ports();
    ASSERT_TRUE(enter(hosts_[1]));
    std::vector<int> half_open;
    for (const uint16_t port : ports) {
      for (const char* bytes : {"GET / HTTP/1.0\r\n\r\n", "\x16\x03\x01\x02", ""}) {
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(port);
        inet_pton(AF_INET, "10.83.0.1", &to.sin_addr);
        const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) ++called;
        (void)!send(fd, bytes, std::strlen(bytes), MSG_NOSIGNAL);
        half_open.push_back(fd);
      }
    }
    wait_for_calls(job, 20);
    for (const int fd : half_open) close(fd);
  }).join();
  EXPECT_GE(called, 3u * kPerHost) << "each rank listens on a port";
  job.board().go.store(1);
  for (const int status : job.wait_all(kEndMs)) EXPECT_EQ(status, 0);
}

TEST_F(HostFaults, LossAndDelayOnlyCostTime) {
  constexpr int kLacking = 77;
  const int added = hosts::run_on(hosts_[0],
                                  "sh -c 'command -v tc >/dev/null || exit 77; "
                                  "said=$(tc qdisc add dev eth0 root netem loss 1% delay 50ms 2>&1) && exit 0; "
                                  "echo \"$said\"; case \"$said\" in *unknown*) exit 77 ;; esac; exit 1'");
  if (added == kLacking) GTEST_SKIP() << "this kernel has no netem (sch_netem), or there is no tc(8)";
  ASSERT_EQ(added, 0);
  hosts::Job job(hosts_, kPerHost, {}, loop);
  ASSERT_TRUE(job.wait_ready(kJoinMs));
  wait_for_calls(job, 10);
  job.board().go.store(1);
  for (const int status : job.wait_all(kEndMs)) EXPECT_EQ(status, 0);
}

}  // namespace
