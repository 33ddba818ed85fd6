// SPDX-License-Identifier: Apache-2.0
#include "tests/transports/stage.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "tests/transports/rdma_stage.h"
#include "tests/transports/tcp_stage.h"
#include "transports/inproc/inproc_transport.h"
#include "transports/shm/shm_transport.h"

namespace tutti::test {

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"inproc", Medium::Inproc, Ranks::Threads},
      {"shm_threads", Medium::Shm, Ranks::Threads},
      {"shm_processes", Medium::Shm, Ranks::Processes},
      {"shm_nameless_file", Medium::ShmNamelessFile, Ranks::Threads},
      {"shm_named_file_processes", Medium::ShmNamedFile, Ranks::Processes},
      {"tcp_threads", Medium::Tcp, Ranks::Threads},
      {"tcp_processes", Medium::Tcp, Ranks::Processes},
#if TUTTI_HAVE_VERBS
      {"rdma_threads", Medium::Rdma, Ranks::Threads},
      {"rdma_processes", Medium::Rdma, Ranks::Processes},
#endif
  };
  return all;
}

// Shared by all ranks, also across fork.
class Stage {
 public:
  static constexpr int kMostRanks = 64;
  static constexpr size_t kMostBytes = 512;

  explicit Stage(int ranks) : ranks_(ranks) {}

  int ranks() const { return ranks_; }

  std::vector<std::string> gather(int me, const std::string& mine) {
    if (mine.size() > kMostBytes) ::abort();
    Line& line = shared_->lines[me];
    line.size = mine.size();
    std::memcpy(line.bytes, mine.data(), mine.size());
    meet();
    std::vector<std::string> all;
    for (int r = 0; r < ranks_; ++r) all.emplace_back(shared_->lines[r].bytes, shared_->lines[r].size);
    meet();  // no one overwrites a line that another still reads
    return all;
  }

 private:
  struct Line {
    size_t size;
    char bytes[kMostBytes];
  };
  struct Meeting {
    std::atomic<uint64_t> arrived{0};
    Line lines[kMostRanks];
  };

  void meet() {
    const uint64_t n = static_cast<uint64_t>(ranks_);
    const uint64_t goal = (shared_->arrived.fetch_add(1) / n + 1) * n;
    const Deadline deadline = Deadline::in_ms(kPatienceMs);
    while (shared_->arrived.load() < goal) {
      if (deadline.passed()) {
        std::fprintf(stderr, "a rank of the test did not reach a barrier\n");
        ::abort();
      }
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }

  int ranks_;
  Shared<Meeting> shared_;
};

std::vector<std::string> Player::gather(const std::string& mine) { return stage_.gather(me, mine); }

bool Player::until(const std::function<bool()>& done, const char* what) {
  constexpr int kPollsBeforeWait = 50;
  const Deadline deadline = Deadline::in_ms(kPatienceMs);
  for (int polls = 0; !done(); ++polls) {
    const Result<bool> moved = transport->progress();
    if (!moved.ok()) {
      ADD_FAILURE() << "rank " << me << " waiting until " << what << ": " << moved.status().message();
      return false;
    }
    if (*moved) continue;
    if (deadline.passed()) {
      ADD_FAILURE() << "rank " << me << " waited in vain until " << what;
      return false;
    }
    if (polls < kPollsBeforeWait || transport->mapped())
      std::this_thread::yield();
    else
      transport->wait(1);
  }
  return true;
}

Status Player::failure_within(int64_t patience_ms) {
  for (const Deadline deadline = Deadline::in_ms(patience_ms); !deadline.passed(); transport->wait(1)) {
    const Result<bool> moved = transport->progress();
    if (!moved.ok()) return moved.status();
  }
  return {};
}

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

void fill(std::span<std::byte> data, uint64_t seed) {
  for (size_t at = 0; at < data.size(); at += sizeof(uint64_t)) {
    const uint64_t word = mix(seed + at);
    std::memcpy(data.data() + at, &word, std::min(sizeof word, data.size() - at));
  }
}

bool holds(std::span<const std::byte> data, uint64_t seed) {
  for (size_t at = 0; at < data.size(); at += sizeof(uint64_t)) {
    const uint64_t word = mix(seed + at);
    if (std::memcmp(data.data() + at, &word, std::min(sizeof word, data.size() - at)) != 0) return false;
  }
  return true;
}

bool Player::send(SendEnd& end, SlotCut cut, uint64_t bytes, uint64_t seed, uint32_t identity) {
  if (!until([&] { return end.simple.cut(cut) && end.simple.has_room(); }, "a slot is free")) return false;
  fill({end.simple.slot(), bytes}, seed);
  end.simple.publish(bytes, identity);
  return true;
}

bool Player::receive(ReceiveEnd& end, SlotCut cut, uint64_t bytes, uint64_t seed, uint32_t identity) {
  end.simple.cut(cut);
  if (!until([&] { return end.simple.ready(); }, "a message has come")) return false;
  const bool identified = end.simple.matches(identity);
  const uint64_t came = end.simple.descriptor().bytes;
  const bool right = identified && came == bytes && holds({end.simple.slot(), bytes}, seed);
  end.simple.release();
  EXPECT_TRUE(identified) << "rank " << me << ": identity";
  EXPECT_EQ(came, bytes) << "rank " << me << ": bytes of a message";
  EXPECT_TRUE(right) << "rank " << me << ": contents of a message";
  return right;
}

Result<std::unique_ptr<Transport>> make_transport(Player& player, const Setting& setting) {
  HostGroup group;
  for (int r = 0; r < setting.ranks; ++r) group.ranks.push_back(setting.members.empty() ? r : setting.members[r]);
  group.me = group.ranks[player.me];
  ArenaShape shape = setting.shape;
  shape.local_ranks = setting.ranks;
  TUTTI_ASSIGN_OR_RETURN(const ArenaLayout layout, ArenaLayout::compute(shape));
  // Tests run beside each other: what tells their communicators apart comes from the first rank.
  static std::atomic<uint64_t> serial{0};
  const uint64_t proposal = mix(static_cast<uint64_t>(::getpid()) << 20 ^ serial.fetch_add(1));
  const std::string first = player.gather({reinterpret_cast<const char*>(&proposal), sizeof proposal})[0];

  if (setting.kind.medium == Medium::Inproc) {
    CommunicatorTag tag{};
    std::memcpy(tag.data(), first.data(), first.size());
    TUTTI_ASSIGN_OR_RETURN(auto made, InprocTransport::create(tag, group, layout));
    player.barrier();  // as a communicator's init: no rank leaves before all have come
    return std::unique_ptr<Transport>(std::move(made));
  }
  if (setting.kind.medium == Medium::Tcp) return make_tcp(player, group.ranks, first, setting);
#if TUTTI_HAVE_VERBS
  if (setting.kind.medium == Medium::Rdma) return make_rdma(player, group.ranks, first, setting);
#endif

  ShmKey key{};
  std::memcpy(key.secret.data(), first.data(), first.size());
  ShmOptions options;
  options.allow_memfd = setting.kind.medium == Medium::Shm;
  options.allow_socket = setting.kind.medium != Medium::ShmNamedFile;
  Result<ShmSetup> setup = ShmSetup::begin(key, group, layout, options);
  const ShmOffer mine = setup.ok() ? setup->offer() : ShmOffer{};
  const std::string leaders = player.gather({reinterpret_cast<const char*>(&mine), sizeof mine})[0];
  if (!setup.ok()) return setup.status();
  ShmOffer offer;
  std::memcpy(&offer, leaders.data(), sizeof offer);
  TUTTI_ASSIGN_OR_RETURN(auto made, setup->finish(offer, Deadline::in_ms(kPatienceMs)));
  return std::unique_ptr<Transport>(std::move(made));
}

void perform_bare(const Setting& setting, const Body& body) {
  Stage stage(setting.ranks);
  if (setting.kind.ranks == Ranks::Threads) {
    std::vector<std::thread> threads;
    for (int r = 0; r < setting.ranks; ++r)
      threads.emplace_back([&, r] {
        Player player(stage, r);
        body(player);
      });
    for (std::thread& thread : threads) thread.join();
    return;
  }
  std::vector<pid_t> children;
  for (int r = 0; r < setting.ranks; ++r) {
    std::fflush(nullptr);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      Player player(stage, r);
      body(player);
      player.transport.reset();
      std::fflush(nullptr);
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    children.push_back(child);
  }
  for (int r = 0; r < setting.ranks; ++r) {
    int status = 0;
    ASSERT_EQ(::waitpid(children[r], &status, 0), children[r]);
    if (r == setting.doomed) continue;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "rank " << r << " ended with status " << status;
  }
}

void perform(const Setting& setting, const Body& body) {
  perform_bare(setting, [&](Player& player) {
    Result<std::unique_ptr<Transport>> made = make_transport(player, setting);
    EXPECT_TRUE(made.ok()) << "rank " << player.me << ": " << made.status().message();
    const bool all = [&] {
      for (const std::string& ok : player.gather(made.ok() ? "y" : "n"))
        if (ok != "y") return false;
      return true;
    }();
    if (all) {
      player.transport = std::move(*made);
      body(player);
    }
  });
}

}  // namespace tutti::test
