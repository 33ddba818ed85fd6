// SPDX-License-Identifier: Apache-2.0
// What goes over the wire, counted on the interface of each host, is what the schedule of the algorithm says: the bytes
// of its steps whose peer is on another host, and little more (headers, acknowledgements).
//
// Every AllReduce of the catalog that a network can carry is tried, so that a new one is measured without a change
// here.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "algo/catalog.h"
#include "hosts/job.h"

namespace {

using namespace tutti;

constexpr int kPerHost = 2;
constexpr uint64_t kBytes = 8 << 20;
constexpr int kCalls = 3;
// Beyond the payload: 32 bytes of ours per slice of 4 KiB or more, 66 of TCP per segment of 1448 if nothing is
// offloaded, acknowledgements of what comes in; and what the tree of sockets says meanwhile.
constexpr double kMostOverhead = 1.12;
constexpr uint64_t kMostChatter = 256 << 10;

// Of one call, by host: the payload that its ranks send to ranks of other hosts.
std::vector<uint64_t> theory(const CatalogRow& row, const Ranks& who) {
  const int ranks = who.n;
  std::vector<uint64_t> sent(static_cast<size_t>(ranks / kPerHost));
  const CollLayout layout = coll_layout(row.coll, ranks, 0, 0, kBytes);
  const Tiling whole{0, 1, row.blocks(who), 1, kBytes};
  for (int rank = 0; rank < ranks; ++rank) {
    for (int part = 0; part < row.parts(who); ++part) {
      const AnySchedule schedule = row.make({.me = rank, .n = ranks, .part = part, .hosts = who.hosts});
      for (int k = 0; k < schedule.steps(); ++k) {
        const Step step = schedule.at(k);
        const int block = step.src != Buffer::None ? step.src_block : step.dst_block;
        if (step.to.none()) continue;
        for (int i = 0; i < step.to.size(ranks); ++i) {
          if (step.to.at(i, rank) / kPerHost == rank / kPerHost) continue;
          // A step that only passes on names no block; then all blocks are as long (up to a line).
          const Piece piece = layout.input.piece(whole, std::max(block, 0), step.blocks, 0, 0);
          sent[static_cast<size_t>(rank / kPerHost)] += piece.bytes;
        }
      }
    }
  }
  return sent;
}

// Bytes that eth0 of this process's host has sent. /proc/net is that of the network namespace, /sys is not.
uint64_t sent_by_interface() {
  std::ifstream table("/proc/self/net/dev");
  for (std::string line; std::getline(table, line);) {
    const size_t name = line.find("eth0:");
    if (name == std::string::npos) continue;
    std::istringstream fields(line.substr(name + 5));
    uint64_t value = 0;
    constexpr int kSentBytes = 9;
    for (int i = 0; i < kSentBytes; ++i) fields >> value;
    return value;
  }
  return 0;
}

void meet(hosts::Board& board, int ranks) {
  const int mine = board.go.fetch_add(1) / ranks + 1;
  while (board.go.load() < mine * ranks) usleep(100);
}

int all_reduce(int rank, tuttiComm_t comm, hosts::Board& board) {
  int ranks = 0;
  tuttiCommCount(comm, &ranks);
  const size_t count = kBytes / sizeof(float);
  std::vector<float> send(count, static_cast<float>(rank + 1)), recv(count);
  const auto call = [&] {
    return tuttiAllReduce(send.data(), recv.data(), count, TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr);
  };
  if (call() != TUTTI_SUCCESS) return 1;  // makes the connections
  meet(board, ranks);
  const uint64_t before = sent_by_interface();
  meet(board, ranks);
  for (int i = 0; i < kCalls; ++i)
    if (call() != TUTTI_SUCCESS) return 1;
  meet(board, ranks);
  board.rank[rank].number.store(sent_by_interface() - before);
  const float expected = static_cast<float>(ranks * (ranks + 1) / 2);
  for (const float one : recv)
    if (one != expected) return 2;
  return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
}

TEST(Wire, CarriesWhatTheScheduleOfEachAllReduceSays) {
  const std::vector<std::string> hosts = hosts::names();
  if (hosts.size() < 2)
    GTEST_SKIP() << "needs two hosts: tools/hosts run 2 -- "
                 << "hosts_test";
  const int ranks = static_cast<int>(hosts.size()) * kPerHost;
  std::vector<int> host_of;
  for (int rank = 0; rank < ranks; ++rank) host_of.push_back(rank / kPerHost);
  const HostTable table(host_of);
  const Ranks who(ranks, &table.map());
  int tried = 0;
  for (const CatalogRow& row : catalog()) {
    if (row.coll != Coll::AllReduce || !row.has(Proto::Simple) || !row.fits(who)) continue;
    const std::vector<uint64_t> expected = theory(row, who);
    SCOPED_TRACE(std::string(name(row.algo)));
    hosts::Job job(
        hosts, kPerHost,
        {"TUTTI_ALGO=all_reduce:" + std::string(name(row.algo)), "TUTTI_TRANSPORTS=shm,tcp", "TUTTI_MAX_CHANNELS=1"},
        all_reduce);
    constexpr int kLimitMs = 120'000;
    for (const int status : job.wait_all(kLimitMs)) ASSERT_EQ(status, 0);
    for (size_t host = 0; host < hosts.size(); ++host) {
      const uint64_t theory = expected[host] * kCalls;
      const uint64_t counted = job.board().rank[host * kPerHost].number.load();
      std::printf("%-18s host %zu: %.2f times the buffer by theory, %.2f counted\n",
                  std::string(name(row.algo)).c_str(), host, static_cast<double>(theory) / kCalls / kBytes,
                  static_cast<double>(counted) / kCalls / kBytes);
      EXPECT_GE(counted, theory);
      EXPECT_LE(static_cast<double>(counted), static_cast<double>(theory) * kMostOverhead + kMostChatter);
    }
    ++tried;
  }
  EXPECT_GE(tried, 3);
}

// Established connections of this host that have this part of an address for their own in the kernel's table.
uint64_t connections_from(const char* table, const std::string& address) {
  std::ifstream lines(table);
  uint64_t count = 0;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    std::string number, local, remote, state;
    fields >> number >> local >> remote >> state;
    count += state == "01" && local.find(address) != local.npos;
  }
  return count;
}
// The hosts' addresses fd83:... and 10.83... (tools/hosts), in words of the machine's byte order.
uint64_t over_ipv6() { return connections_from("/proc/self/net/tcp6", "000083FD"); }
uint64_t over_ipv4() { return connections_from("/proc/self/net/tcp", "530A:"); }

int all_reduce_over_ipv6(int rank, tuttiComm_t comm, hosts::Board& board) {
  int ranks = 0;
  tuttiCommCount(comm, &ranks);
  const std::vector<float> send(100'000, static_cast<float>(rank + 1));
  std::vector<float> recv(send.size());
  if (tuttiAllReduce(send.data(), recv.data(), send.size(), TUTTI_FLOAT32, TUTTI_SUM, comm, nullptr) != TUTTI_SUCCESS)
    return 1;
  for (const float one : recv)
    if (one != static_cast<float>(ranks * (ranks + 1) / 2)) return 2;
  board.rank[rank].number.store(over_ipv6());
  if (over_ipv4() != 0) return 3;
  meet(board, ranks);
  return tuttiCommDestroy(comm) == TUTTI_SUCCESS ? 0 : 1;
}

TEST(Wire, IsIpv6WhereThatIsAskedFor) {
  const std::vector<std::string> hosts = hosts::names();
  if (hosts.size() < 2)
    GTEST_SKIP() << "needs two hosts: tools/hosts run 2 -- "
                 << "hosts_test";
  if (hosts::run_on(hosts[0], "sh -c 'ip -6 address show dev eth0 | grep -q fd83:'") != 0)
    GTEST_SKIP() << "this kernel gives network namespaces no IPv6";
  hosts::Job job(hosts, kPerHost, {"TUTTI_SOCKET_FAMILY=ipv6"}, all_reduce_over_ipv6);
  constexpr int kLimitMs = 120'000;
  for (const int status : job.wait_all(kLimitMs)) EXPECT_EQ(status, 0);
  uint64_t most = 0;
  for (int rank = 0; rank < job.ranks(); ++rank) most = std::max(most, job.board().rank[rank].number.load());
  EXPECT_GE(most, 2u) << "the tree of sockets and a connection for data";
}

// Two cables: two channels use both.
TEST(Cables, TwoChannelsUseTwoInterfaces) {
  const std::vector<std::string> hosts = hosts::names();
  if (hosts.size() != 2) GTEST_SKIP() << "needs two hosts with two cables: tools/hosts run 2 --cables 2 -- hosts_test";
  hosts::Job job(hosts, 1,
                 {"TUTTI_SOCKET_IFNAME==eth0,=eth1", "TUTTI_SOCKET_FAMILY=ipv4", "TUTTI_MIN_CHANNELS=2",
                  "TUTTI_ALGO=all_reduce:ring"},
                 all_reduce);
  constexpr int kLimitMs = 120'000;
  for (const int status : job.wait_all(kLimitMs)) ASSERT_EQ(status, 0);
  // n = 2: each rank sends the buffer once, half of it on each channel.
  const uint64_t on_first = job.board().rank[0].number.load();
  EXPECT_GE(on_first, kCalls * kBytes * 45 / 100);
  EXPECT_LE(on_first, kCalls * kBytes * 60 / 100 + kMostChatter);
}

// The enumeration above, against the formula everybody knows.
TEST(Wire, TheoryOfARing) {
  const CatalogRow& ring = *find_row(Coll::AllReduce, Algo::Ring);
  for (const int ranks : {4, 6, 8}) {
    for (const uint64_t sent : theory(ring, ranks))
      EXPECT_NEAR(static_cast<double>(sent), 2.0 * (ranks - 1) / ranks * kBytes, 4096) << ranks;
  }
}

}  // namespace
