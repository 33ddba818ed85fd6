// SPDX-License-Identifier: Apache-2.0
// Joining by the environment of a launcher.
#include "bootstrap/launch.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "bootstrap/pmi.h"
#include "net/socket.h"

namespace tutti {
namespace {

using Variables = std::map<std::string, std::string>;

Result<Launch> parse(const Variables& variables) {
  return Launch::parse([&](const char* name) -> std::optional<std::string> {
    const auto entry = variables.find(name);
    return entry == variables.end() ? std::nullopt : std::optional(entry->second);
  });
}

const Variables kGood{
    {"RANK", "1"}, {"WORLD_SIZE", "4"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "node0"}, {"MASTER_PORT", "29500"}};

TEST(Launch, ReadsWhatLaunchersSet) {
  const auto launch = parse(kGood);
  ASSERT_TRUE(launch.ok()) << launch.status().message();
  EXPECT_EQ(launch->rank, 1);
  EXPECT_EQ(launch->ranks, 4);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->master_host, "node0");
  EXPECT_EQ(launch->master_port, 29500);
}

TEST(Launch, TakesAnAddressApart) {
  const auto name = Launch::at("node0:29500", 4, 1);
  ASSERT_TRUE(name.ok()) << name.status().message();
  EXPECT_EQ(name->master_host, "node0");
  EXPECT_EQ(name->master_port, 29500);
  EXPECT_EQ(name->rank, 1);
  EXPECT_EQ(name->ranks, 4);
  const auto bracketed = Launch::at("[::1]:1", 1, 0);
  ASSERT_TRUE(bracketed.ok()) << bracketed.status().message();
  EXPECT_EQ(bracketed->master_host, "::1");
  for (const char* wrong : {"", ":", "node0", "node0:", ":5000", "node0:x", "node0:5000x", "node0:0", "node0:65532",
                            "node0:-1", "::1:5000", "[::1]", "[]:5000"}) {
    const auto launch = Launch::at(wrong, 2, 0);
    ASSERT_FALSE(launch.ok()) << wrong;
    EXPECT_NE(launch.status().message().find("expected host:port"), std::string::npos) << wrong;
  }
}

TEST(Launch, NamesWhatIsMissingOrWrong) {
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    Variables variables = kGood;
    variables.erase(name);
    EXPECT_EQ(parse(variables).status().code(), Code::InvalidUsage);
    EXPECT_NE(parse(variables).status().message().find(name), std::string::npos);
  }
  for (const auto& [name, value] :
       Variables{{"RANK", "4"}, {"WORLD_SIZE", "0"}, {"MASTER_PORT", "1x"}, {"LOCAL_RANK", "-1"}}) {
    Variables variables = kGood;
    variables[name] = value;
    EXPECT_EQ(parse(variables).status().code(), Code::InvalidArgument);
    EXPECT_NE(parse(variables).status().message().find(name + "='" + value + "'"), std::string::npos);
  }
}

Launch::Lookup lookup_in(const Variables& variables) {
  return [variables](const char* name) -> std::optional<std::string> {
    const auto entry = variables.find(name);
    return entry == variables.end() ? std::nullopt : std::optional(entry->second);
  };
}

TEST(Launch, FindsTheFirstOfSlurmsHosts) {
  for (const auto& [list, first] : std::map<std::string, std::string>{{"login", "login"},
                                                                      {"a,b", "a"},
                                                                      {"node[07-12,15],login", "node07"},
                                                                      {"node[3]", "node3"},
                                                                      {"r[1-2]n[05-06]", "r1n05"},
                                                                      {"rack[1,2]-a,b", "rack1-a"},
                                                                      {"a,node[1-2]", "a"},
                                                                      {"", ""},
                                                                      {"node[", ""},
                                                                      {"node[1", ""}})
    EXPECT_EQ(first_of_host_list(list), first) << list;
}

const Variables kStep{{"SLURM_JOB_ID", "77"}, {"SLURM_STEP_ID", "0"},        {"SLURM_PROCID", "3"},
                      {"SLURM_LOCALID", "1"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"SLURM_STEP_NODELIST", "n[1-2]"},
                      {"SLURM_NTASKS", "9"}};

TEST(Launch, ReadsWhatSrunSets) {
  const auto launch = Launch::find(lookup_in(kStep));
  ASSERT_TRUE(launch.ok()) << launch.status().message();
  EXPECT_EQ(launch->rank, 3);
  EXPECT_EQ(launch->ranks, 4);
  EXPECT_EQ(launch->local_rank, 1);
  EXPECT_EQ(launch->master_host, "n1");
  Variables other = kStep;
  other["SLURM_STEP_ID"] = "1";
  EXPECT_NE(Launch::find(lookup_in(other))->master_port, launch->master_port) << "steps of a job do not meet";
  other.erase("SLURM_STEP_NODELIST");
  EXPECT_NE(Launch::find(lookup_in(other)).status().message().find("names no host"), std::string::npos);
}

TEST(Launch, TheInnermostLauncherCounts) {
  Variables both = kStep;
  for (const auto& [name, value] : kGood) both[name] = value;
  EXPECT_EQ(Launch::find(lookup_in(both))->master_host, "node0");
  // A batch script's own environment is no step.
  Variables batch = kStep;
  batch.erase("SLURM_STEP_ID");
  EXPECT_NE(Launch::find(lookup_in(batch)).status().message().find("start the ranks with a launcher"),
            std::string::npos);
}

TEST(Launch, AMeetingSurvivesItsText) {
  const auto meeting = Meeting::here();
  ASSERT_TRUE(meeting.ok()) << meeting.status().message();
  const auto again = Meeting::parse(meeting->text());
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(again->secret, meeting->secret);
  EXPECT_EQ(again->addresses, meeting->addresses);
  EXPECT_EQ(meeting->text().find_first_not_of("0123456789abcdef"), std::string::npos);
  for (size_t size = 0; size < meeting->text().size(); ++size)
    EXPECT_FALSE(Meeting::parse(meeting->text().substr(0, size)).ok()) << size;
  EXPECT_FALSE(Meeting::parse(meeting->text() + "00").ok());
  EXPECT_FALSE(Meeting::parse("zz").ok());
  EXPECT_NE(Meeting::parse(kNoMeeting).status().message().find("rank 0 has found no place"), std::string::npos);
}

// The launcher's side of PMI-1 for some ranks: a store, and a barrier. `rc` is what it answers to get.
void serve_pmi(std::vector<int> ranks, const char* rc) {
  std::map<std::string, std::string> store;
  std::vector<std::string> received(ranks.size());
  size_t waiting = 0, left = ranks.size();
  while (left > 0) {
    for (size_t i = 0; i < ranks.size(); ++i) {
      if (ranks[i] < 0) continue;
      char piece[256];
      const ssize_t count = ::recv(ranks[i], piece, sizeof piece, MSG_DONTWAIT);
      if (count == 0) {
        ranks[i] = -1;  // gone; who made it closes it
        --left;
      }
      if (count <= 0) continue;
      received[i].append(piece, static_cast<size_t>(count));
      for (size_t end; (end = received[i].find('\n')) != std::string::npos; received[i].erase(0, end + 1)) {
        const std::string line = received[i].substr(0, end);
        const std::string command(pmi_value(line, "cmd"));
        std::string answer;
        if (command == "init") answer = "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0\n";
        if (command == "get_my_kvsname") answer = "cmd=my_kvsname kvsname=kvs_7\n";
        if (command == "put") {
          store[std::string(pmi_value(line, "key"))] = pmi_value(line, "value");
          answer = "cmd=put_result rc=0 msg=success\n";
        }
        if (command == "get")
          answer =
              std::string("cmd=get_result rc=") + rc + " value=" + store[std::string(pmi_value(line, "key"))] + "\n";
        if (command == "finalize") answer = "cmd=finalize_ack\n";
        if (command == "barrier_in" && ++waiting == ranks.size()) {
          for (const int rank : ranks) (void)::send(rank, "cmd=barrier_out\n", 16, MSG_NOSIGNAL);
        }
        // In two pieces: a line may come as it likes.
        if (!answer.empty()) {
          (void)::send(ranks[i], answer.data(), 5, MSG_NOSIGNAL);
          (void)::send(ranks[i], answer.data() + 5, answer.size() - 5, MSG_NOSIGNAL);
        }
      }
    }
    std::this_thread::yield();
  }
}

std::vector<Result<std::string>> share_among(int ranks, const char* rc) {
  std::vector<int> servers, clients;
  for (int rank = 0; rank < ranks; ++rank) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    servers.push_back(ends[0]);
    clients.push_back(ends[1]);
  }
  std::thread server([&] { serve_pmi(servers, rc); });
  std::vector<Result<std::string>> results(static_cast<size_t>(ranks), std::string());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto place = static_cast<size_t>(rank);
      results[place] = share_by_pmi(clients[place], rank, rank == 0 ? "cafe" : "", Deadline::in_ms(20'000));
      ::close(clients[place]);
    });
  }
  for (std::thread& thread : threads) thread.join();
  server.join();
  for (const int fd : servers) ::close(fd);
  return results;
}

TEST(Pmi, EveryRankGetsTheTextOfTheFirst) {
  for (const auto& text : share_among(4, "0")) {
    ASSERT_TRUE(text.ok()) << text.status().message();
    EXPECT_EQ(*text, "cafe");
  }
}

TEST(Pmi, ARefusalIsToldAsItCame) {
  for (const auto& text : share_among(2, "-1")) {
    EXPECT_NE(text.status().message().find("answers 'cmd=get_result rc=-1"), std::string::npos)
        << text.status().message();
  }
}

// Threads of a rank ask at once: the launcher hears one of them. Meanwhile a fork does not wait for its answer.
TEST(Pmi, ThreadsAskOnceAndAForkDoesNotWaitForTheLauncher) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  const Variables started{{"PMI_FD", std::to_string(ends[1])}, {"PMI_RANK", "0"}, {"PMI_SIZE", "1"}};
  std::vector<std::thread> threads;
  std::vector<std::string> errors(3);
  for (std::string& error : errors) {
    threads.emplace_back([&] {
      const auto launch = Launch::find([&](const char* name) -> std::optional<std::string> {
        const auto entry = started.find(name);
        return entry == started.end() ? std::nullopt : std::optional(entry->second);
      });
      error = launch.ok() ? (launch->meeting ? "" : "no meeting") : launch.status().message();
    });
  }
  char first;
  ASSERT_EQ(::recv(ends[0], &first, 1, MSG_PEEK), 1);  // now one of them waits for the launcher
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  std::thread server([&] { serve_pmi({ends[0]}, "0"); });
  for (std::thread& thread : threads) thread.join();
  ::close(ends[1]);
  server.join();
  ::close(ends[0]);
  for (const std::string& error : errors) EXPECT_EQ(error, "");
}

TEST(Pmi, ALauncherThatSaysNothingOrGoesIsAnError) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  EXPECT_NE(share_by_pmi(ends[1], 0, "x", Deadline::in_ms(50)).status().message().find("does not answer"),
            std::string::npos);
  ::close(ends[0]);
  EXPECT_FALSE(share_by_pmi(ends[1], 0, "x", Deadline::in_ms(20'000)).ok());
  ::close(ends[1]);
}

// A port that is free now, with the next ones most likely free as well.
uint16_t free_port() {
  const auto fd = listen_tcp(SocketAddress::any_ipv4(0));
  return address_of_socket(fd->get())->port();
}

void join_by_environment(uint16_t port, int first_delayed_ms) {
  constexpr int kRanks = 4;
  ASSERT_TRUE(crypto_ready().ok());
  std::vector<Status> results(kRanks);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kRanks; ++rank) {
    threads.emplace_back([&, rank] {
      if (rank == 0) std::this_thread::sleep_for(std::chrono::milliseconds(first_delayed_ms));
      const Launch launch{
          .rank = rank, .ranks = kRanks, .local_rank = rank, .master_host = "127.0.0.1", .master_port = port};
      auto options = rendezvous_at(launch, launch_secret(launch, "secret"));
      if (!options.ok()) {
        results[static_cast<size_t>(rank)] = options.status();
        return;
      }
      options->timeout_ms = 20'000;
      // Two communicators one after the other, at the same port.
      const auto joined = Bootstrap::join(*options);
      results[static_cast<size_t>(rank)] = joined.ok() ? (*joined)->barrier() : joined.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& status : results) EXPECT_TRUE(status.ok()) << status.message();
}

TEST(Launch, RankZeroMayComeLast) { join_by_environment(free_port(), 300); }

TEST(Launch, SeveralCommunicatorsAtOnePort) {
  const uint16_t port = free_port();
  for (int i = 0; i < 5; ++i) join_by_environment(port, 0);
}

TEST(Launch, ThePortMayBeTakenByAStoreOfTheLauncher) {
  const auto store = listen_tcp(SocketAddress::ipv4(in_addr{htonl(INADDR_LOOPBACK)}, 0));
  ASSERT_TRUE(store.ok());
  join_by_environment(address_of_socket(store->get())->port(), 0);
}

}  // namespace
}  // namespace tutti
