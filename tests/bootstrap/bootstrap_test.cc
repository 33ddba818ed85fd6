// SPDX-License-Identifier: Apache-2.0
// Ranks join a rendezvous, and fail to: ranks are threads of this process (one test forks).
#include "bootstrap/bootstrap.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <thread>

#include "bootstrap/rendezvous.h"
#include "net/interfaces.h"
#include "net/socket.h"

namespace tutti {
namespace {

using Joined = Result<std::unique_ptr<Bootstrap>>;
using ::testing::Test;

std::string text_of(const Bytes& bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// All of them join at once, each in a thread of its own.
std::vector<Joined> join_all(const std::vector<JoinOptions>& ranks) {
  std::vector<Joined> joined(ranks.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < ranks.size(); ++i) {
    threads.emplace_back([&, i] { joined[i] = Bootstrap::join(ranks[i]); });
  }
  for (std::thread& thread : threads) thread.join();
  return joined;
}

std::vector<JoinOptions> ranks_of(const UniqueId& id, int ranks, int64_t timeout_ms = 60'000) {
  std::vector<JoinOptions> options;
  for (int rank = 0; rank < ranks; ++rank) {
    options.push_back(JoinOptions::with(id, ranks, rank));
    options.back().timeout_ms = timeout_ms;
  }
  return options;
}

void on_all(const std::vector<Joined>& joined, const std::function<void(Bootstrap&)>& act) {
  std::vector<std::thread> threads;
  for (const Joined& one : joined) threads.emplace_back([&] { act(**one); });
  for (std::thread& thread : threads) thread.join();
}

UniqueId new_id() {
  auto id = start_rendezvous();
  EXPECT_TRUE(id.ok()) << id.status().message();
  return *id;
}

// A rendezvous that does not linger, so that a test sees the end of run().
struct ShortRendezvous {
  ShortRendezvous() {
    EXPECT_TRUE(crypto_ready().ok());
    id.secret = random_secret();
    auto local = local_addresses();
    auto opened = Rendezvous::open({.secret = id.secret, .linger_ms = 0}, *local, 0);
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    for (const SocketAddress& address : *local) id.addresses.push_back(address.with_port((*opened)->port()));
    thread = std::thread([server = std::move(*opened)] { server->run(); });
  }
  ~ShortRendezvous() { thread.join(); }
  UniqueId id;
  std::thread thread;
};

void expect_all_say(const std::vector<Joined>& joined, Code code, const std::vector<std::string>& parts) {
  for (const Joined& one : joined) {
    ASSERT_FALSE(one.ok());
    EXPECT_EQ(one.status().code(), code) << one.status().message();
    for (const std::string& part : parts) EXPECT_TRUE(contains(one.status().message(), part)) << one.status().message();
  }
}

TEST(Bootstrap, OneRankJoinsAlone) {
  ShortRendezvous rendezvous;
  const auto joined = join_all(ranks_of(rendezvous.id, 1));
  ASSERT_TRUE(joined[0].ok()) << joined[0].status().message();
  Bootstrap& only = **joined[0];
  EXPECT_EQ(only.size(), 1);
  const auto gathered = only.all_gather(bytes_of("me"));
  ASSERT_TRUE(gathered.ok());
  EXPECT_EQ(text_of(gathered->at(0)), "me");
  EXPECT_TRUE(only.barrier().ok());
}

TEST(Bootstrap, EveryRankLearnsOfEveryRank) {
  ShortRendezvous rendezvous;
  constexpr int kRanks = 7;
  std::vector<std::string> infos;
  for (int rank = 0; rank < kRanks; ++rank) infos.push_back(std::string(static_cast<size_t>(rank) * 1000, 'a') + "end");
  auto options = ranks_of(rendezvous.id, kRanks);
  for (int rank = 0; rank < kRanks; ++rank)
    options[static_cast<size_t>(rank)].info = bytes_of(infos[static_cast<size_t>(rank)]);
  const auto joined = join_all(options);
  for (int me = 0; me < kRanks; ++me) {
    const Joined& one = joined[static_cast<size_t>(me)];
    ASSERT_TRUE(one.ok()) << one.status().message();
    Bootstrap& bootstrap = **one;
    EXPECT_EQ(bootstrap.rank(), me);
    EXPECT_EQ(bootstrap.size(), kRanks);
    for (int rank = 0; rank < kRanks; ++rank) {
      const Member& member = bootstrap.members()[static_cast<size_t>(rank)];
      EXPECT_EQ(text_of(bootstrap.infos()[static_cast<size_t>(rank)]), infos[static_cast<size_t>(rank)]);
      EXPECT_EQ(member.rank, rank);
      EXPECT_EQ(member.pid, getpid());
      EXPECT_TRUE(member.same_host(bootstrap.members()[0]));
      EXPECT_TRUE(member.same_process(bootstrap.members()[0]));
      EXPECT_FALSE(bootstrap.addresses_of(rank).empty());
    }
  }
}

TEST(Bootstrap, AllGatherAndBarrierForEverySize) {
  for (const int ranks : {2, 3, 4, 8, 13}) {
    ShortRendezvous rendezvous;
    const auto joined = join_all(ranks_of(rendezvous.id, ranks));
    for (const Joined& one : joined) ASSERT_TRUE(one.ok()) << one.status().message();
    on_all(joined, [&](Bootstrap& bootstrap) {
      for (int round = 0; round < 5; ++round) {
        // Sizes differ between ranks and rounds; one is empty, one is larger than socket buffers.
        const auto size_of = [&](int rank) {
          return rank == round ? size_t{1} << 20 : static_cast<size_t>(rank * round);
        };
        const std::string mine(size_of(bootstrap.rank()), static_cast<char>('a' + bootstrap.rank()));
        const auto all = bootstrap.all_gather(bytes_of(mine));
        ASSERT_TRUE(all.ok()) << all.status().message();
        for (int rank = 0; rank < ranks; ++rank) {
          EXPECT_EQ(text_of(all->at(static_cast<size_t>(rank))),
                    std::string(size_of(rank), static_cast<char>('a' + rank)));
        }
        EXPECT_TRUE(bootstrap.barrier().ok());
      }
    });
  }
}

TEST(Bootstrap, NobodyLeavesTheBarrierBeforeTheLastComes) {
  ShortRendezvous rendezvous;
  const auto joined = join_all(ranks_of(rendezvous.id, 6));
  std::atomic<int> arrived{0};
  on_all(joined, [&](Bootstrap& bootstrap) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5 * bootstrap.rank()));
    ++arrived;
    EXPECT_TRUE(bootstrap.barrier().ok());
    EXPECT_EQ(arrived.load(), 6);
  });
}

// Of all threads; 0 where another allocator has replaced the C library's (sanitizers).
size_t heap_bytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Each rank is a thread with its sockets: what many ranks cost a machine when they start. The table that each rank gets
// is n entries long, so bytes grow as n squared in all; what one process has to do and keep grows as n.
TEST(Bootstrap, ManyRanksJoinAndExchange) {
  double kept_per_member = 0;  // by a rank, for each rank that there is
  for (const int ranks : {128, 256, 512}) {
    ShortRendezvous rendezvous;
    const size_t heap_before = heap_bytes();
    const auto start = std::chrono::steady_clock::now();
    const auto joined = join_all(ranks_of(rendezvous.id, ranks));
    const auto mid = std::chrono::steady_clock::now();
    for (const Joined& one : joined) ASSERT_TRUE(one.ok()) << one.status().message();
    on_all(joined, [&](Bootstrap& bootstrap) {
      EXPECT_EQ(bootstrap.members().size(), static_cast<size_t>(ranks));
      EXPECT_EQ(bootstrap.members().back().rank, ranks - 1);
      EXPECT_FALSE(bootstrap.addresses_of(ranks - 1).empty());
      EXPECT_TRUE(bootstrap.barrier().ok());
    });
    const auto end = std::chrono::steady_clock::now();
    const auto ms = [](auto span) { return std::chrono::duration<double, std::milli>(span).count(); };
    const double kept = static_cast<double>(heap_bytes() - heap_before) / ranks;  // by a rank
    printf("%d ranks (threads) joined in %.1f ms, a barrier took %.1f ms, a rank keeps %.1f KiB\n", ranks,
           ms(mid - start), ms(end - mid), kept / 1024);
    EXPECT_TRUE(kept_per_member == 0 || kept / ranks <= kept_per_member * 1.2)
        << "more than in proportion to the ranks";
    kept_per_member = kept / ranks;
  }
}

TEST(Bootstrap, SixtyFourRanksJoinQuickly) {
  ShortRendezvous rendezvous;
  const auto start = std::chrono::steady_clock::now();
  const auto joined = join_all(ranks_of(rendezvous.id, 64));
  const auto mid = std::chrono::steady_clock::now();
  for (const Joined& one : joined) ASSERT_TRUE(one.ok()) << one.status().message();
  on_all(joined, [](Bootstrap& bootstrap) { EXPECT_TRUE(bootstrap.barrier().ok()); });
  const auto end = std::chrono::steady_clock::now();
  const auto ms = [](auto span) { return std::chrono::duration<double, std::milli>(span).count(); };
  printf("64 ranks (threads) joined in %.1f ms, a barrier took %.1f ms\n", ms(mid - start), ms(end - mid));
}

TEST(Bootstrap, RanksInProcessesAreToldApart) {
  const UniqueId id = new_id();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    auto options = ranks_of(id, 2)[1];
    const auto joined = Bootstrap::join(options);
    _exit(joined.ok() && (*joined)->barrier().ok() ? 0 : 1);
  }
  const auto joined = Bootstrap::join(ranks_of(id, 2)[0]);
  ASSERT_TRUE(joined.ok()) << joined.status().message();
  const auto& members = (*joined)->members();
  EXPECT_TRUE(members[0].same_host(members[1]));
  EXPECT_FALSE(members[0].same_process(members[1]));
  EXPECT_EQ(members[1].pid, child);
  EXPECT_TRUE((*joined)->barrier().ok());
  int status = -1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(Bootstrap, SixtyFourProcessesJoinQuickly) {
  const UniqueId id = new_id();
  constexpr int kRanks = 64;
  const auto start = std::chrono::steady_clock::now();
  std::vector<pid_t> children;
  for (int rank = 0; rank < kRanks; ++rank) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const auto joined = Bootstrap::join(ranks_of(id, kRanks)[static_cast<size_t>(rank)]);
      if (!joined.ok()) fprintf(stderr, "%s\n", joined.status().message().c_str());
      _exit(joined.ok() && (*joined)->barrier().ok() ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = -1;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }
  const auto took = std::chrono::steady_clock::now() - start;
  printf("64 ranks (processes) were forked, joined and ended in %.1f ms\n",
         std::chrono::duration<double, std::milli>(took).count());
}

TEST(Bootstrap, ADeadRankFailsTheExchangeOnEveryRankWithItsName) {
  ShortRendezvous rendezvous;
  auto joined = join_all(ranks_of(rendezvous.id, 7));
  for (const Joined& one : joined) ASSERT_TRUE(one.ok()) << one.status().message();
  *joined[5] = nullptr;  // its sockets close
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < joined.size(); ++rank) {
    if (rank == 5) continue;
    threads.emplace_back([&, rank] {
      const Status status = (*joined[rank])->barrier();
      EXPECT_EQ(status.code(), Code::RemoteError);
      EXPECT_TRUE(contains(status.message(), "rank 5 (")) << rank << ": " << status.message();
      EXPECT_EQ((*joined[rank])->barrier().message(), status.message());  // and stays so
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Bootstrap, ALateRankIsNamedAtTheTimeout) {
  ShortRendezvous rendezvous;
  auto options = ranks_of(rendezvous.id, 2, 200);
  const auto joined = join_all(options);
  const Status status = (*joined[0])->barrier();
  EXPECT_TRUE(contains(status.message(), "rank 1 (")) << status.message();
  EXPECT_TRUE(contains(status.message(), "200 ms")) << status.message();
}

// ---- what can be wrong ----

TEST(Rendezvous, MissingRanksAreNamedAtTheTimeout) {
  ShortRendezvous rendezvous;
  auto options = ranks_of(rendezvous.id, 8, 300);
  options.erase(options.begin() + 5);
  options.erase(options.begin() + 3);
  expect_all_say(join_all(options), Code::RemoteError, {"2 of 8 ranks are missing after 0.3 s: 3, 5"});
}

TEST(Rendezvous, ARankUsedTwiceIsNamedOnAllRanks) {
  ShortRendezvous rendezvous;
  auto options = ranks_of(rendezvous.id, 4);
  options[3].rank = 1;
  expect_all_say(join_all(options), Code::InvalidArgument, {"rank 1 is used twice"});
}

TEST(Rendezvous, TheRankWithAnotherNumberOfRanksIsNamed) {
  ShortRendezvous rendezvous;
  auto options = ranks_of(rendezvous.id, 4);
  options[2].ranks = 3;
  expect_all_say(join_all(options), Code::InvalidArgument, {"most have nranks 4, but rank 2 (", "has nranks 3"});
}

TEST(Rendezvous, TheRankWithAnotherVersionIsNamed) {
  ShortRendezvous rendezvous;
  auto options = ranks_of(rendezvous.id, 4);
  for (auto& one : options) one.library_version = 10203;
  options[1].library_version = 10302;
  expect_all_say(join_all(options), Code::InvalidUsage, {"most have 1.2.3", "rank 1 (", "has 1.3.2"});
}

TEST(Rendezvous, TheRankWithAnotherConfigurationIsNamedWithTheSetting) {
  ShortRendezvous rendezvous;
  auto options = ranks_of(rendezvous.id, 4);
  for (auto& one : options) one.config_text = "TUTTI_PROTO=auto\nTUTTI_ALGO=auto";
  options[3].config_text = "TUTTI_PROTO=auto\nTUTTI_ALGO=ring";
  options[3].config_digest = 1;
  expect_all_say(join_all(options), Code::InvalidUsage,
                 {"most have TUTTI_ALGO=auto", "rank 3 (", "has TUTTI_ALGO=ring", "set the same"});
}

// What a rank does that dies while it joins: proves the secret, sends its request, and is gone after a while.
void join_and_die(const UniqueId& id, int ranks, int rank) {
  Dialer dialer({.addresses = id.addresses,
                 .secret = id.secret,
                 .tag = tag_of(id.secret),
                 .claim = {rank, -1, kPurposeRendezvous},
                 .peer = "the rendezvous",
                 .remedy = ""});
  while (*dialer.advance() == Poll::Pending) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  JoinRequest request;
  request.byte_order = 1;
  request.word_bytes = 8;
  request.ranks = ranks;
  request.member = *this_member(rank);
  const UniqueFd fd = dialer.take();
  EXPECT_TRUE(write_full(fd.get(), *make_frame(encode_request(request)), Deadline::in_ms(1000), "it").ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
}

TEST(Rendezvous, ARankThatLeavesWhileOthersAreAwaitedIsToldAtOnce) {
  ShortRendezvous rendezvous;
  std::thread leaver([&] { join_and_die(rendezvous.id, 4, 1); });
  auto options = ranks_of(rendezvous.id, 4);
  expect_all_say(join_all({options[0], options[2]}), Code::RemoteError, {"rank 1 (", "left before"});
  leaver.join();
}

TEST(Rendezvous, ARankThatLeavesWithTheTableIsToldAtOnce) {
  ShortRendezvous rendezvous;
  std::thread leaver([&] { join_and_die(rendezvous.id, 3, 1); });
  auto options = ranks_of(rendezvous.id, 3);
  const auto joined = join_all({options[0], options[2]});
  leaver.join();
  // Rank 0 misses its child; rank 2 has all that it needs and finds out at the first exchange.
  ASSERT_FALSE(joined[0].ok());
  EXPECT_TRUE(contains(joined[0].status().message(), "rank 1 (")) << joined[0].status().message();
}

TEST(Rendezvous, ALateRankIsToldWhatHappened) {
  const UniqueId id = new_id();
  EXPECT_FALSE(Bootstrap::join(ranks_of(id, 2, 100)[0]).ok());
  expect_all_say(join_all({ranks_of(id, 2)[1]}), Code::RemoteError, {"1 of 2 ranks is missing after 0.1 s: 1"});
}

TEST(Rendezvous, AnIdThatIsUsedUpSaysSo) {
  UniqueId id;
  {
    ShortRendezvous rendezvous;
    id = rendezvous.id;
    EXPECT_TRUE(Bootstrap::join(ranks_of(id, 1)[0]).ok());
  }
  expect_all_say(join_all(ranks_of(id, 1)), Code::RemoteError,
                 {"the rendezvous cannot be reached", "tuttiGetUniqueId"});
}

TEST(Rendezvous, AWrongSecretIsRefusedAndDisturbsNobody) {
  ShortRendezvous rendezvous;
  UniqueId wrong = rendezvous.id;
  wrong.secret = random_secret();
  expect_all_say(join_all(ranks_of(wrong, 1)), Code::RemoteError, {"another job or has another secret"});
  for (const Joined& one : join_all(ranks_of(rendezvous.id, 2))) EXPECT_TRUE(one.ok()) << one.status().message();
}

TEST(Rendezvous, StrangersDuringAJoinDisturbNobody) {
  ShortRendezvous rendezvous;
  std::atomic<bool> stop{false};
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 20; ++i) silent.push_back(*begin_connect(rendezvous.id.addresses[0]));
  std::thread stranger([&] {
    const std::string noise(200, '\x7f');
    while (!stop) {
      auto fd = begin_connect(rendezvous.id.addresses[0]);
      if (!fd.ok()) continue;
      (void)write_full(fd->get(), bytes_of(noise), Deadline::in_ms(100), "it").ok();
    }
  });
  const auto joined = join_all(ranks_of(rendezvous.id, 8));
  stop = true;
  stranger.join();
  for (const Joined& one : joined) EXPECT_TRUE(one.ok()) << one.status().message();
}

TEST(Rendezvous, RanksOutOfRangeAreRefusedWithoutAsking) {
  const UniqueId id{Secret{}, {SocketAddress::any_ipv4(1)}};
  for (const auto& [ranks, rank] : {std::pair{0, 0}, {-1, 0}, {1 << 20, 0}, {2, 2}, {2, -1}}) {
    const auto joined = Bootstrap::join(JoinOptions::with(id, ranks, rank));
    EXPECT_EQ(joined.status().code(), Code::InvalidArgument) << joined.status().message();
  }
}

}  // namespace
}  // namespace tutti
