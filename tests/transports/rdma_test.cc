// SPDX-License-Identifier: Apache-2.0
// What only RDMA devices can do to a transport: ports that go down and come back, address tables that change, keys that
// are no longer good, memory that cannot be registered, peers that send what cannot be. Over the look-alike devices,
// whose cables and tables the tests have in their hands (tests/fakes/fake_rdma.h).
#include "transports/rdma/rdma_transport.h"

#include <gmock/gmock.h>
#include <poll.h>
#include <sys/socket.h>

#include <functional>

#include "net/dialer.h"
#include "net/socket.h"
#include "tests/transports/look_alikes.h"
#include "tests/transports/rdma_stage.h"
#include "transports/rdma/rdma_connection.h"
#include "transports/rdma/rdma_devices.h"
#include "transports/rdma/user_memory.h"

namespace tutti::test {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::HasSubstr;

constexpr SlotCut kCut{4096, 4};

class Rdma : public OnLookAlikes {
 protected:
  // A way that is silent has failed after 8 x 67 ms: soon for a test, and long for a thread that waits for a processor.
  static RdmaSettings quick(const char* devices = "fake0,fake1") {
    RdmaSettings settings = rdma_settings();
    settings.devices = devices;
    settings.timeout = 14;
    settings.retry_count = 7;
    return settings;
  }
  static void between_two(const RdmaSettings& settings, const Body& body) { between(settings, settings, body); }
  static void between(const RdmaSettings& of_rank_0, const RdmaSettings& of_rank_1, const Body& body) {
    between_two_of(
        [&](Player& p) {
          return meet_over_rdma(p, {0, 1}, "rdma test", p.me == 0 ? of_rank_0 : of_rank_1);
        },
        body);
  }
  static SendEnd& out(Player& p) { return **p.transport->send_end(1 - p.me, 0, Use::Collective); }
  static ReceiveEnd& in(Player& p) { return **p.transport->receive_end(1 - p.me, 0, Use::Collective); }
  // So many messages from rank 0 to rank 1, of which some are small and some are not. `sent` is called by rank 0 after
  // each, while the last ones are on their way.
  static void carry_messages(
      Player& p, uint64_t first, uint64_t count, const std::function<void(uint64_t)>& sent = [](uint64_t) {}) {
    for (uint64_t m = first; m < first + count; ++m) {
      const uint64_t bytes = m % 3 == 0 ? 100 : 4096;
      if (p.me == 0) {
        ASSERT_TRUE(p.send(out(p), kCut, bytes, m)) << m;
        sent(m);
      } else {
        ASSERT_TRUE(p.receive(in(p), kCut, bytes, m)) << m;
      }
    }
    ASSERT_TRUE(p.flush());
  }
};

TEST_F(Rdma, GoesOnOverTheOtherPortWhenOneGoesDown) {
  between_two(quick(), [&](Player& p) {
    carry_messages(p, 0, 20);
    p.barrier();
    if (p.me == 0) fake_.set_port(0, 1, false, true);
    p.barrier();
    carry_messages(p, 20, 50);
    p.barrier();
    // And with nothing left but the one that had been down.
    if (p.me == 0) fake_.set_port(0, 1, true, true);
    p.barrier();
    carry_messages(p, 70, 2000);  // meanwhile the first port is made use of again
    p.barrier();
    if (p.me == 0) fake_.set_port(1, 1, false, true);
    p.barrier();
    carry_messages(p, 2070, 50);
  });
}

// Nobody reports anything: what was on its way when the cable went is written again.
TEST_F(Rdma, GoesOnOverTheOtherPortWhenOneFallsSilentInTheMiddle) {
  between_two(quick(), [&](Player& p) {
    carry_messages(p, 0, 500, [&](uint64_t message) {
      if (message == 100) fake_.set_port(0, 1, false, false);
    });
    carry_messages(p, 500, 50);
    p.barrier();
    if (p.me == 0) fake_.set_port(0, 1, true, false);
  });
}

TEST_F(Rdma, NamesDevicePortAndPeerWhenNoWayIsLeft) {
  between_two(quick("fake1"), [&](Player& p) {
    carry_messages(p, 0, 5);
    p.barrier();
    if (p.me == 0) fake_.set_port(1, 1, false, false);
    p.barrier();
    if (p.me == 0) {
      ASSERT_TRUE(out(p).simple.cut(kCut) && out(p).simple.has_room());
      out(p).simple.publish(100, 7);
    }
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_EQ(status.code(), Code::RemoteError);
    // Either may be the first to notice, and tells the other.
    EXPECT_THAT(status.message(),
                AllOf(HasSubstr(p.me == 0 ? "rank 1 (process " : "rank 0 (process "), HasSubstr("127.0.0.1:"),
                      HasSubstr("can no longer be reached over RDMA: fake1 port 1 to fake1 port 1: "),
                      HasSubstr("transport retry counter exceeded"), HasSubstr("TUTTI_RDMA_TIMEOUT")));
    EXPECT_EQ(p.transport->progress().status().message(), status.message());
    p.barrier();
    if (p.me == 0) fake_.set_port(1, 1, true, false);
  });
}

TEST_F(Rdma, APortThatComesBackInTimeIsNoFailure) {
  RdmaSettings patient = quick("fake0");
  patient.timeout = 18;
  between_two(patient, [&](Player& p) {
    carry_messages(p, 0, 5);
    p.barrier();
    if (p.me == 0) {
      fake_.set_port(0, 1, false, true);
      ASSERT_TRUE(p.send(out(p), kCut, 100, 5));
    }
    p.barrier();
    EXPECT_TRUE(p.failure_within(50).ok());  // the length of the fault
    EXPECT_EQ(p.transport->flushed(), p.me == 1) << "the cable was not pulled";
    p.barrier();
    if (p.me == 0) {
      fake_.set_port(0, 1, true, true);
      ASSERT_TRUE(p.flush());  // on a busy machine the time of the fault may have passed before anything was posted
    } else {
      ASSERT_TRUE(p.receive(in(p), kCut, 100, 5));
    }
    p.barrier();
    carry_messages(p, 6, 20);
  });
}

TEST_F(Rdma, ARemoteAccessErrorIsNamed) {
  between_two(quick("fake0"), [&](Player& p) {
    carry_messages(p, 0, 5);
    p.barrier();
    if (p.me == 0) {
      fake_.forget_keys(0);
      ASSERT_TRUE(out(p).simple.cut(kCut) && out(p).simple.has_room());
      out(p).simple.publish(100, 7);
    }
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_EQ(status.code(), Code::RemoteError);
    EXPECT_THAT(status.message(), AllOf(HasSubstr(p.me == 0 ? "rank 1 (process " : "rank 0 (process "),
                                        AnyOf(HasSubstr("remote access error"), HasSubstr("local access violation"))));
    EXPECT_THAT(status.message(), HasSubstr("fake0 port 1 to fake0 port 1"));
  });
}

// The address of a port moves in its table (an interface was set up anew) while the port is down: the same address is
// found at its new place when the port is made use of again.
TEST_F(Rdma, FindsAnAddressAgainThatHasMoved) {
  between_two(quick(), [&](Player& p) {
    carry_messages(p, 0, 10);
    p.barrier();
    if (p.me == 0) fake_.set_port(0, 1, false, true);
    p.barrier();
    carry_messages(p, 10, 10);
    p.barrier();
    if (p.me == 0) {
      fake_.move_gid(0, 1, 3, 6);
      fake_.set_port(0, 1, true, true);
    }
    p.barrier();
    carry_messages(p, 20, 2000);
    p.barrier();
    if (p.me == 0) fake_.set_port(1, 1, false, true);
    p.barrier();
    carry_messages(p, 2020, 50);  // over the port whose address has moved
    p.barrier();
    if (p.me == 0) fake_.move_gid(0, 1, 6, 3);
  });
}

// The peer's port comes and goes while mine is down: what it offers meanwhile is not taken up, and both agree on it.
TEST_F(Rdma, APortThatFlapsIsUsedAgainInTheEnd) {
  between(quick("fake0,fake1"), quick("fake2,fake3"), [&](Player& p) {
    const auto change = [&](int device, bool up) {
      p.barrier();
      if (p.me == 0) fake_.set_port(device, 1, up, true);
      p.barrier();
      EXPECT_TRUE(p.failure_within(20).ok());  // as long as the port stays like that; whatever is done meanwhile
    };
    carry_messages(p, 0, 10);
    change(0, false);
    change(2, false);
    change(2, true);
    change(2, false);
    carry_messages(p, 10, 10);
    change(0, true);
    change(2, true);
    carry_messages(p, 20, 10);
    change(1, false);  // what is left is the way that had been down
    carry_messages(p, 30, 50);
  });
}

TEST_F(Rdma, ALimitOnLockedMemoryIsNamedBeforeThereIsATransport) {
  fake_.refuse_memory(-1);
  const auto opened = open_rdma_devices(quick());
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.status().message(), AllOf(HasSubstr("fake0 cannot register"), HasSubstr("ulimit -l")));
}

TEST_F(Rdma, PortsThatCannotBeUsedAreNamedWithTheReason) {
  fake_.set_port(0, 1, false, true);
  RdmaSettings settings = quick("fake0");
  auto opened = open_rdma_devices(settings);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.status().message(),
              AllOf(HasSubstr("fake0 port 1 is PORT_DOWN"), HasSubstr("fake1 port 1 is not in TUTTI_RDMA_HCA")));
  settings = quick();
  settings.nics = "=fake2";
  opened = open_rdma_devices(settings);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.status().message(), HasSubstr("fake1 port 1 is excluded by TUTTI_NICS, --nics or nics of the"));
  settings = quick("fake1");
  settings.gid_index = 5;
  opened = open_rdma_devices(settings);
  ASSERT_FALSE(opened.ok());
  EXPECT_THAT(opened.status().message(), HasSubstr("fake1 port 1 has no GID 5 (TUTTI_RDMA_GID_INDEX)"));
}

TEST_F(Rdma, SeveralQueuePairsBetweenTwoPortsCarryOneConnection) {
  RdmaSettings several = quick();
  several.queue_pairs = 3;
  between_two(several, [](Player& p) { carry_messages(p, 0, 300); });
}

TEST_F(Rdma, SlotsOfManyWritesArrive) {
  // 40 MiB in one slot: more than one write may have.
  perform_bare(kTwo, [&](Player& p) {
    Result<RdmaSetup> setup = meet_over_rdma(p, {0, 1}, "large", quick());
    ASSERT_TRUE(setup.ok()) << setup.status().message();
    setup->options.buffer_bytes = 40 << 20;
    p.transport = std::move(*make_rdma(std::move(*setup)));
    p.barrier();
    const uint64_t capacity = p.transport->limits().capacity;
    for (uint64_t m = 0; m < 2; ++m) {
      if (p.me == 0)
        ASSERT_TRUE(p.send(out(p), {capacity, 1}, capacity - m, m));
      else
        ASSERT_TRUE(p.receive(in(p), {capacity, 1}, capacity - m, m));
    }
    p.flush();
    p.barrier();
  });
}

// --- memory of the user ---

constexpr SlotCut kLongCut{64 << 10, 4};
constexpr uint64_t kLongBytes = 50'000;

// An object in the list of living ones, as tuttiMemAlloc keeps it.
class Allocation {
 public:
  explicit Allocation(uint64_t bytes) {
    Result<std::shared_ptr<SharedMemory>> made = SharedMemory::create(bytes);
    if (!made.ok()) return;
    base_ = (*made)->base();
    keep_shared_memory(std::move(*made));
  }
  ~Allocation() { drop_shared_memory(base_); }
  Allocation(const Allocation&) = delete;
  std::byte* base() const { return base_; }

 private:
  std::byte* base_ = nullptr;
};

// Rank 0 lends `from` and publishes, over a slot that holds something else. What the slot holds when it has left.
std::vector<std::byte> send_on_loan(Player& p, SendEnd& end, const std::byte* from) {
  if (!end.simple.cut(kLongCut) || !end.simple.has_room()) return {};
  std::byte* const slot = end.simple.slot();
  fill({slot, kLongBytes}, 99);
  end.loans->lend(end.simple.place(), from);
  end.simple.publish(kLongBytes, 7);
  p.flush();
  return {slot, slot + kLongBytes};
}

TEST_F(Rdma, ALoanOfAllocatedMemoryIsReadWhereItLies) {
  between_two(quick(), [&](Player& p) {
    if (p.me == 1) {
      for (const uint64_t seed : {1, 2, 3}) ASSERT_TRUE(p.receive(in(p), kLongCut, kLongBytes, seed)) << seed;
      return;
    }
    const Allocation mine(1 << 20);
    std::vector<std::byte> other(kLongBytes);
    for (const uint64_t seed : {1, 2}) {  // over each of two devices
      fill({mine.base() + 4000, kLongBytes}, seed);
      EXPECT_TRUE(holds(send_on_loan(p, out(p), mine.base() + 4000), 99)) << "it has passed through its slot";
    }
    fill(other, 3);
    EXPECT_TRUE(holds(send_on_loan(p, out(p), other.data()), 3)) << "memory whose end nobody tells was registered";
  });
}

TEST_F(Rdma, ALoanThatTheDeviceRefusesIsCopied) {
  between_two(quick(), [&](Player& p) {
    carry_messages(p, 0, 3);
    p.barrier();
    if (p.me == 1) {
      ASSERT_TRUE(p.receive(in(p), kLongCut, kLongBytes, 5));
      return;
    }
    const Allocation mine(kLongBytes);
    fill({mine.base(), kLongBytes}, 5);
    fake_.refuse_memory(-1);
    EXPECT_TRUE(holds(send_on_loan(p, out(p), mine.base()), 5));
    fake_.refuse_memory(0);
  });
}

// What is on its way leaves from the user's memory a second time, through another device.
TEST_F(Rdma, ALoanIsReadAgainWhenAWayFails) {
  between_two(quick(), [&](Player& p) {
    constexpr uint64_t kMessages = 40;
    carry_messages(p, 0, 20);
    p.barrier();
    if (p.me == 0) fake_.set_port(0, 1, false, false);
    p.barrier();
    if (p.me == 0) {
      const Allocation mine(kMessages * kLongBytes);
      for (uint64_t m = 0; m < kMessages; ++m) {
        std::byte* const from = mine.base() + m * kLongBytes;
        fill({from, kLongBytes}, m);
        ASSERT_TRUE(p.until([&] { return out(p).simple.cut(kLongCut) && out(p).simple.has_room(); }, "room"));
        out(p).loans->lend(out(p).simple.place(), from);
        out(p).simple.publish(kLongBytes, 7);
      }
      p.flush();
    } else {
      for (uint64_t m = 0; m < kMessages; ++m) ASSERT_TRUE(p.receive(in(p), kLongCut, kLongBytes, m)) << m;
    }
    p.barrier();
    if (p.me == 0) fake_.set_port(0, 1, true, false);
  });
}

// --- slices that land ---

// The receiver of messages that it wants in its own memory, one after another, as far ahead as it may say so.
class Lander {
 public:
  Lander(Player& player, ReceiveEnd& end, std::byte* memory) : player_(player), end_(end), memory_(memory) {}

  static constexpr uint64_t kPlaces = 2 * Landings::kMostAhead;  // no two wishes for one place at a time
  static constexpr uint64_t kBytes = kPlaces * kLongBytes;

  // Message number `m` of all, which holds `m`, wherever it has come. Its place is then the user's again, who writes.
  void take(uint64_t m) {
    wish(m + Landings::kMostAhead);
    end_.simple.cut(kLongCut);
    ASSERT_TRUE(player_.until([&] { return end_.simple.ready(); }, "a message"));
    const std::byte* const landed = end_.landings->landed[end_.simple.place()];
    if (landed != nullptr) {
      EXPECT_EQ(landed, place(m));
      ++landed_;
    }
    EXPECT_TRUE(holds({landed != nullptr ? landed : end_.simple.slot(), kLongBytes}, m)) << m;
    fill({place(m), kLongBytes}, ~m);
    end_.simple.release();
    taken_ = m + 1;
  }
  uint64_t landed() const { return landed_; }
  // Nobody has written to what was taken since, in the last places.
  void expect_untouched() const {
    for (uint64_t m = taken_ - Landings::kMostAhead; m < taken_; ++m)
      EXPECT_TRUE(holds({place(m), kLongBytes}, ~m)) << "message " << m << " was written to its place once more";
  }

 private:
  void wish(uint64_t until) {
    for (uint64_t& position = end_.landings->wished; position < until; ++position)
      end_.landings->wishes[position % SimpleMemory::kMostInFlight] = {place(position), kLongBytes,
                                                                       make_flag(position, 7)};
  }
  std::byte* place(uint64_t m) const { return memory_ + m % kPlaces * kLongBytes; }

  Player& player_;
  ReceiveEnd& end_;
  std::byte* memory_;
  uint64_t landed_ = 0, taken_ = 0;
};

constexpr uint64_t kSomeMessages = 50, kMostMessages = 5000;

// Messages from rank 0 to rank 1 until rank 1 has seen enough, in runs of kSomeMessages. How many they were.
uint64_t carry_until(
    Player& p, SendEnd* out, Lander* lander, const std::function<bool()>& enough,
    const std::function<void(uint64_t)>& sent = [](uint64_t) {}) {
  for (uint64_t m = 0; m < kMostMessages;) {
    for (const uint64_t end = m + kSomeMessages; m < end; ++m) {
      if (out == nullptr) {
        lander->take(m);
      } else {
        EXPECT_TRUE(p.send(*out, kLongCut, kLongBytes, m)) << m;
        sent(m);
      }
      if (::testing::Test::HasFailure()) break;
    }
    p.flush();
    if (p.gather(out == nullptr && (enough() || ::testing::Test::HasFailure()) ? "enough" : "")[1] == "enough")
      return m;
  }
  return kMostMessages;
}

TEST_F(Rdma, SlicesLandWhereTheyAreWanted) {
  between_two(quick(), [&](Player& p) {
    if (p.me == 0) {
      EXPECT_LT(carry_until(p, &out(p), nullptr, {}), kMostMessages) << "nothing has landed";
      return;
    }
    const Allocation mine(Lander::kBytes);
    Lander lander(p, in(p), mine.base());
    carry_until(p, nullptr, &lander, [&] { return lander.landed() > 2 * kSomeMessages; });
  });
}

// What had landed and is sent again, since nobody knows, does not come where the user may have written since.
TEST_F(Rdma, NothingLandsASecondTimeWhenAWayFails) {
  between_two(quick(), [&](Player& p) {
    const auto cut_the_cable = [&](uint64_t m) {
      if (m == 10 * kSomeMessages + 7) fake_.set_port(0, 1, false, false);
    };
    if (p.me == 0) {
      EXPECT_LT(carry_until(p, &out(p), nullptr, {}, cut_the_cable), kMostMessages) << "nothing has landed";
      p.barrier();
      fake_.set_port(0, 1, true, false);
      return;
    }
    const Allocation mine(Lander::kBytes);
    Lander lander(p, in(p), mine.base());
    uint64_t before = 0, runs = 0;
    carry_until(p, nullptr, &lander, [&] {
      lander.expect_untouched();
      if (++runs == 12) before = lander.landed();  // the cable was cut in the eleventh
      return runs > 12 && lander.landed() > before + kSomeMessages / 2;
    });
    p.barrier();
  });
}

TEST_F(Rdma, WhatTheDeviceRefusesComesThroughSlots) {
  between_two(quick(), [&](Player& p) {
    constexpr uint64_t kRuns = 4;
    uint64_t runs = 0;
    if (p.me == 0) {
      EXPECT_EQ(carry_until(p, &out(p), nullptr, {}), kRuns * kSomeMessages);
      return;
    }
    std::vector<std::byte> ordinary(Lander::kBytes);  // whose end nobody tells
    Lander lander(p, in(p), ordinary.data());
    carry_until(p, nullptr, &lander, [&] { return ++runs == kRuns; });
    EXPECT_EQ(lander.landed(), 0u) << "memory whose end nobody tells was opened to a peer";
  });
}

TEST_F(Rdma, MemoryThatIsFreedAndAllocatedAgainAtItsAddressIsRegisteredAnew) {
  const auto devices = open_rdma_devices(quick());
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  const RdmaNic& nic = (*devices)->nic_of(0);
  UserMemory memory;
  auto first = std::make_unique<Allocation>(1 << 20);
  const std::byte* const at = first->base();
  const UserMemory::Lease before = memory.lease(nic, at, 100);
  ASSERT_NE(before, nullptr);
  EXPECT_EQ(memory.lease(nic, at + 5000, 100), before) << "of one object, and registered twice";
  EXPECT_EQ(memory.lease(nic, at + (1 << 20) - 10, 100), nullptr) << "beyond the end";
  first.reset();
  EXPECT_EQ(memory.lease(nic, at, 100), nullptr) << "freed memory has a key";
  const Allocation second(1 << 20);
  ASSERT_EQ(second.base(), at) << "the kernel gives the lowest hole of that size: this test needs the same address";
  const UserMemory::Lease after = memory.lease(nic, at, 100);
  ASSERT_NE(after, nullptr);
  EXPECT_NE(after->lkey, before->lkey);
  EXPECT_EQ(memory.size(), 1u) << "the entry of what was freed is still there";
}

TEST_F(Rdma, NoMoreMemoryIsKeptRegisteredThanTheBound) {
  const auto devices = open_rdma_devices(quick());
  ASSERT_TRUE(devices.ok()) << devices.status().message();
  const RdmaNic& nic = (*devices)->nic_of(0);
  constexpr size_t kBound = 3;
  UserMemory memory(kBound);
  std::vector<std::unique_ptr<Allocation>> objects;
  for (size_t i = 0; i < 2 * kBound; ++i) objects.push_back(std::make_unique<Allocation>(4096));
  const int before = fake_.live_objects();
  const UserMemory::Lease first = memory.lease(nic, objects[0]->base(), 10);
  for (const auto& object : objects) {
    EXPECT_NE(memory.lease(nic, object->base(), 10), nullptr);
    EXPECT_EQ(memory.lease(nic, objects[0]->base(), 10), first) << "what is used all the time was given up";
  }
  EXPECT_EQ(memory.size(), kBound);
  EXPECT_EQ(fake_.live_objects(), before + static_cast<int>(kBound));
  // A lease outlives its entry.
  for (size_t i = 1; i <= kBound; ++i) (void)memory.lease(nic, objects[i]->base(), 10);
  EXPECT_EQ(fake_.live_objects(), before + static_cast<int>(kBound) + 1);
}

// Rank 1 with a real transport; rank 0 is whatever says `words` on a proven socket to it.
void against_a_forger(const RdmaSettings& settings, const std::vector<RdmaWord>& words, const char* answer) {
  perform_bare(kTwo, [&](Player& p) {
    Result<RdmaSetup> setup = meet_over_rdma(p, {0, 1}, "forger", settings);
    ASSERT_TRUE(setup.ok()) << setup.status().message();
    if (p.me == 0) {
      Dialer::Options dial;
      dial.addresses = setup->options.peers[1].addresses;
      dial.secret = setup->options.secret;
      dial.tag = setup->options.tag;
      dial.claim = {.from = 0, .to = 1, .purpose = kFirstFreePurpose + (1u << 16)};
      dial.deadline = Deadline::in_ms(kPatienceMs);
      Dialer dialer(dial);
      Result<Poll> dialed = dialer.advance();
      for (; dialed.ok() && *dialed == Poll::Pending; dialed = dialer.advance()) {
        std::vector<pollfd> items;
        dialer.add_poll(items);
        (void)::poll(items.data(), items.size(), dialer.poll_ms(-1));
      }
      ASSERT_TRUE(dialed.ok()) << dialed.status().message();
      const UniqueFd socket = dialer.take();
      ASSERT_TRUE(
          write_full(socket.get(), std::as_bytes(std::span(words)), Deadline::in_ms(kPatienceMs), "rank 1").ok());
      ::shutdown(socket.get(), SHUT_WR);
      p.barrier();
      return;
    }
    p.transport = std::move(*make_rdma(std::move(*setup)));
    ASSERT_TRUE(p.transport->receive_end(0, 0, Use::Collective).ok());
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_EQ(status.code(), Code::RemoteError);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 0 (process "), HasSubstr(answer)));
    p.barrier();
  });
}

TEST_F(Rdma, BelievesNoWordThatCannotBe) {
  using Kind = RdmaWord::Kind;
  const RailOffer offer{.generation = 1, .queue_pair = 1, .mtu = 1024};
  const std::vector<std::vector<RdmaWord>> forged = {
      {{.kind = static_cast<Kind>(0)}},
      {{.kind = static_cast<Kind>(77)}},
      {{.kind = Kind::Offer, .rail = 2, .offer = offer}},             // of a rail that there is not
      {{.kind = Kind::Offer, .offer = {.generation = 1, .mtu = 7}}},  // a packet size that there is not
      {{.kind = Kind::Ready, .offer = {.generation = 1}}},            // before its offer
      {{.kind = Kind::Closed, .offer = {.generation = 9}}},
      {{.kind = Kind::Closed, .offer = {.generation = 1}, .status = 195}},  // a cause that there is not
      {{.kind = Kind::Closed, .offer = {.generation = 1}, .status = 1090}},
      {{.kind = Kind::Memory, .address = 1 << 20, .bytes = 4096}},                     // smaller than its slots
      {{.kind = Kind::Memory, .address = 1 << 20, .bytes = RdmaFifo::kLettersBytes}},  // without any
      {{.kind = Kind::Slots, .address = 1 << 20, .bytes = 4096}},
      {{.kind = Kind::Slots, .address = 0, .bytes = 1 << 20}},
      {{.kind = Kind::Slots, .address = 1 << 20, .bytes = 1 << 20},  // twice
       {.kind = Kind::Slots, .address = 1 << 20, .bytes = 1 << 20}},
      {{.kind = Kind::Slots, .address = 1 << 20, .bytes = 1 << 20},  // and behind the letters
       {.kind = Kind::Memory, .address = 1 << 20, .bytes = RdmaFifo::kLettersBytes + (1 << 20)}},
      {{.kind = Kind::Lost, .rank = 2}},
      {{.kind = Kind::WantTable}, {.kind = Kind::WantTable}},
      {{.kind = Kind::Table, .address = 4096}},  // which nobody has asked for
  };
  for (size_t i = 0; i < forged.size(); ++i) {
    SCOPED_TRACE(i);
    against_a_forger(quick(), forged[i], "impossible word");
  }
}

TEST_F(Rdma, APeerThatIsGoneWithoutAGoodbyeIsNamed) {
  against_a_forger(quick(), {}, "closed its RDMA connection without a goodbye");
}

TEST_F(Rdma, ARankThatSendsToOneThatLeftIsTold) {
  between_two(quick(), [](Player& p) {
    carry_messages(p, 0, 3);
    if (p.me == 1) {
      p.transport.reset();
      p.barrier();
      return;
    }
    p.barrier();
    EXPECT_TRUE(p.failure_within(20).ok());  // it has left in order
    ASSERT_TRUE(out(p).simple.cut(kCut) && out(p).simple.has_room());
    out(p).simple.publish(10, 1);
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_THAT(status.message(), AllOf(HasSubstr("rank 1 (process "), HasSubstr("has left the communicator")));
  });
}

}  // namespace
}  // namespace tutti::test
