// SPDX-License-Identifier: Apache-2.0
// Joining by the environment of a launcher.
#include "bootstrap/launch.h"

#include <gtest/gtest.h>

#include <map>
#include <thread>

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
