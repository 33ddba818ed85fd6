// SPDX-License-Identifier: Apache-2.0
// What every transport promises (transports/README.md), run against each row of kinds().
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <thread>

#include "tests/transports/stage.h"

namespace tutti::test {
namespace {

class EveryTransport : public ::testing::TestWithParam<Kind> {
 protected:
  Setting setting(int ranks, ArenaShape shape = {}) const {
    return {.kind = GetParam(), .ranks = ranks, .shape = shape, .members = {}};
  }
  bool mapped() const { return maps(GetParam().medium); }
};
INSTANTIATE_TEST_SUITE_P(Transports, EveryTransport, ::testing::ValuesIn(kinds()),
                         [](const auto& row) { return std::string(row.param.name); });

SendEnd& sender(Player& p, int peer, int channel = 0, Use use = Use::Collective) {
  Result<SendEnd*> end = p.transport->send_end(peer, channel, use);
  EXPECT_TRUE(end.ok()) << end.status().message();
  return **end;
}
ReceiveEnd& receiver(Player& p, int peer, int channel = 0, Use use = Use::Collective) {
  Result<ReceiveEnd*> end = p.transport->receive_end(peer, channel, use);
  EXPECT_TRUE(end.ok()) << end.status().message();
  return **end;
}

// For slices of so many bytes: as many slots as fit, `most` at most.
SlotCut slot_cut(uint64_t capacity, uint64_t slice_bytes, uint64_t most) {
  const uint64_t bytes = (slice_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  return {bytes, std::min({capacity / bytes, SimpleMemory::kMostInFlight, most})};
}

TEST_P(EveryTransport, KnowsItsPeers) {
  Setting three = setting(3);
  three.members = {2, 5, 9};  // ranks of the communicator are not local ranks
  perform(three, [&](Player& p) {
    Transport& t = *p.transport;
    const int mine = three.members[p.me];
    for (int rank : {2, 5, 9}) EXPECT_EQ(t.reaches(rank), rank != mine);
    EXPECT_FALSE(t.reaches(-1));
    EXPECT_FALSE(t.reaches(1000));
    EXPECT_EQ(t.mapped(), mapped());
    EXPECT_GE(t.limits().channels, 1);
    EXPECT_EQ(t.limits().ll_slots != 0, mapped());
    EXPECT_EQ(t.limits().fan_capacity != 0, mapped());
    EXPECT_TRUE(t.flushed());

    const int peer = three.members[(p.me + 1) % 3];
    EXPECT_EQ(&sender(p, peer), &sender(p, peer));
    EXPECT_EQ(&receiver(p, peer), &receiver(p, peer));
    EXPECT_NE(&sender(p, peer), &sender(p, peer, 0, Use::PointToPoint));
    EXPECT_EQ(sender(p, peer).capacity, t.limits().capacity);
    EXPECT_EQ(receiver(p, peer).capacity, t.limits().capacity);
    EXPECT_FALSE(t.send_end(mine, 0, Use::Collective).ok());
    EXPECT_FALSE(t.receive_end(mine, 0, Use::Collective).ok());
    EXPECT_FALSE(t.send_end(1000, 0, Use::Collective).ok());
    EXPECT_FALSE(t.send_end(peer, -1, Use::Collective).ok());
    EXPECT_FALSE(t.send_end(peer, t.limits().channels, Use::Collective).ok());
    EXPECT_FALSE(t.receive_end(peer, 1, Use::PointToPoint).ok());
    EXPECT_EQ(t.fan_send_end(0).ok(), mapped());
    EXPECT_EQ(t.fan_receive_end(peer, 0).ok(), mapped());
    EXPECT_FALSE(t.fan_send_end(t.limits().channels).ok());
    p.barrier();
  });
}

TEST_P(EveryTransport, DeliversInOrderThroughAnyNumberOfSlots) {
  perform(setting(2), [](Player& p) {
    uint64_t seed = 0;
    for (const uint64_t slots : {1, 2, 3, 5, 7, 8, 63, 64}) {
      const SlotCut cut{1024, slots};
      for (uint64_t m = 0; m < 3 * slots + 2; ++m, ++seed) {
        if (p.me == 0)
          ASSERT_TRUE(p.send(sender(p, 1), cut, 1 + mix(seed) % 1024, seed));
        else
          ASSERT_TRUE(p.receive(receiver(p, 0), cut, 1 + mix(seed) % 1024, seed));
      }
    }
    p.flush();
  });
}

TEST_P(EveryTransport, CarriesMessagesOfAnySize) {
  perform(setting(2), [](Player& p) {
    const uint64_t capacity = p.transport->limits().capacity;
    uint64_t seed = 0;
    for (const SlotCut cut : {SlotCut{capacity, 1}, SlotCut{capacity / 2, 2}, SlotCut{64, 64}})
      for (const uint64_t bytes : {uint64_t{0}, uint64_t{1}, uint64_t{63}, uint64_t{64}, uint64_t{4097}, cut.bytes - 1,
                                   cut.bytes, uint64_t{0}}) {
        if (bytes > cut.bytes) continue;
        ++seed;
        if (p.me == 0)
          ASSERT_TRUE(p.send(sender(p, 1), cut, bytes, seed));
        else
          ASSERT_TRUE(p.receive(receiver(p, 0), cut, bytes, seed));
      }
    p.flush();
  });
}

// The drain rule: a sender may ask for a new cut at once; it gets it when the reader is done with the old one.
TEST_P(EveryTransport, ChangesTheCutBetweenMessages) {
  perform(setting(2), [](Player& p) {
    const uint64_t capacity = p.transport->limits().capacity;
    for (uint64_t m = 0; m < 300; ++m) {
      const uint64_t slice = 64 * (1 + mix(m / 3) % (capacity / 128));
      const SlotCut cut = slot_cut(capacity, slice, 1 + mix(m / 3 + 77) % 8);
      const uint64_t bytes = mix(m + 1000) % (cut.bytes + 1);
      if (p.me == 0)
        ASSERT_TRUE(p.send(sender(p, 1), cut, bytes, m));
      else
        ASSERT_TRUE(p.receive(receiver(p, 0), cut, bytes, m));
    }
    p.flush();
  });
}

// As kernels of a GPU have theirs: made of the FIFO's memory, and used while this thread carries the slots.
TEST_P(EveryTransport, CarriesForEndsThatItDoesNotSee) {
  const auto message = [](uint64_t m, uint64_t capacity, SlotCut& cut) {
    cut = slot_cut(capacity, 64 * (1 + mix(m / 5) % (capacity / 128)), 1 + mix(m / 5 + 77) % 8);
    return mix(m + 1000) % (cut.bytes + 1);
  };
  perform(setting(2), [&](Player& p) {
    constexpr uint64_t kMessages = 200;
    const uint64_t capacity = p.transport->limits().capacity;
    const SimpleMemory memory = p.me == 0 ? sender(p, 1).simple.memory() : receiver(p, 0).simple.memory();
    const std::span<std::byte> mapped = p.me == 0 ? sender(p, 1).mapped : receiver(p, 0).mapped;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(mapped.data()) % kPageBytes, 0u);
    for (const void* const at : {static_cast<void*>(memory.tail), static_cast<void*>(memory.heads),
                                 static_cast<void*>(memory.descriptors), static_cast<void*>(memory.slots)}) {
      EXPECT_GE(at, mapped.data());
      EXPECT_LT(at, mapped.data() + mapped.size());
    }
    EXPECT_LE(memory.slots + memory.capacity, mapped.data() + mapped.size());
    std::atomic<bool> done{false}, give_up{false};
    std::thread elsewhere([&] {
      SimpleSender send(memory);
      SimpleReceiver receive(memory, 0);
      const auto await = [&](auto ready) {
        while (!ready() && !give_up.load()) std::this_thread::yield();
        return !give_up.load();
      };
      for (uint64_t m = 0; m < kMessages; ++m) {
        SlotCut cut;
        const uint64_t bytes = message(m, capacity, cut);
        if (p.me == 0) {
          if (!await([&] { return send.cut(cut) && send.has_room(); })) return;
          fill({send.slot(), bytes}, m);
          send.publish(bytes, 7);
        } else {
          receive.cut(cut);
          if (!await([&] { return receive.ready(); })) return;
          EXPECT_TRUE(receive.matches(7)) << m;
          EXPECT_EQ(receive.descriptor().bytes, bytes) << m;
          EXPECT_TRUE(holds({receive.slot(), bytes}, m)) << m;
          receive.release();
        }
      }
      done.store(true);
    });
    give_up.store(!p.until([&] { return done.load(); }, "the other thread is done"));
    elsewhere.join();
    p.flush();
  });
}

TEST_P(EveryTransport, LetsTheSenderRunAheadByTheSlotsAndNoFurther) {
  perform(setting(2), [&](Player& p) {
    const SlotCut cut{4096, 4};
    if (p.me == 0) {
      SendEnd& end = sender(p, 1);
      for (uint64_t m = 0; m < 4; ++m) ASSERT_TRUE(p.send(end, cut, 4096, m));
      if (mapped()) {
        EXPECT_FALSE(end.simple.has_room());
        EXPECT_FALSE(end.simple.drained());
      }
      p.barrier();
      ASSERT_TRUE(p.until([&] { return end.simple.drained(); }, "all slots are released"));
    } else {
      p.barrier();
      for (uint64_t m = 0; m < 4; ++m) ASSERT_TRUE(p.receive(receiver(p, 0), cut, 4096, m));
    }
    p.flush();
  });
}

TEST_P(EveryTransport, CarriesBothDirectionsAtOnce) {
  perform(setting(2), [](Player& p) {
    const int peer = 1 - p.me;
    SendEnd& out = sender(p, peer);
    ReceiveEnd& in = receiver(p, peer);
    const SlotCut cut{16384, 3};
    in.simple.cut(cut);
    uint64_t sent = 0, received = 0;
    constexpr uint64_t kMessages = 400;
    ASSERT_TRUE(p.until(
        [&] {
          if (sent < kMessages && out.simple.cut(cut) && out.simple.has_room()) {
            fill({out.simple.slot(), 10'000}, 2 * sent + p.me);
            out.simple.publish(10'000, 3);
            ++sent;
          }
          if (received < kMessages && in.simple.ready()) {
            EXPECT_TRUE(in.simple.matches(3));
            EXPECT_TRUE(holds({in.simple.slot(), 10'000}, 2 * received + peer)) << received;
            in.simple.release();
            ++received;
          }
          return sent == kMessages && received == kMessages;
        },
        "both directions are done"));
    p.flush();
  });
}

TEST_P(EveryTransport, TellsTheIdentityOfTheCall) {
  perform(setting(2), [](Player& p) {
    const SlotCut cut{256, 2};
    if (p.me == 0) {
      ASSERT_TRUE(p.send(sender(p, 1), cut, 100, 1, 0xABCDEF));
    } else {
      ReceiveEnd& end = receiver(p, 0);
      end.simple.cut(cut);
      ASSERT_TRUE(p.until([&] { return end.simple.ready(); }, "the message has come"));
      EXPECT_TRUE(end.simple.matches(0xABCDEF));
      EXPECT_FALSE(end.simple.matches(0xABCDEE));
      end.simple.release();
    }
    p.flush();
  });
}

// The last message of a rank that leaves must still arrive.
TEST_P(EveryTransport, DeliversWhatWasFlushedAfterTheSenderHasGone) {
  perform(setting(2), [](Player& p) {
    const SlotCut cut{65536, 2};
    if (p.me == 0) {
      for (uint64_t m = 0; m < 2; ++m) ASSERT_TRUE(p.send(sender(p, 1), cut, 65536, m));
      p.flush();
      p.transport.reset();
      p.barrier();
    } else {
      (void)receiver(p, 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      for (uint64_t m = 0; m < 2; ++m) ASSERT_TRUE(p.receive(receiver(p, 0), cut, 65536, m));
      p.barrier();
      // A peer that left in order is no error for those who need nothing of it.
      for (int i = 0; i < 100; ++i) {
        const Result<bool> moved = p.transport->progress();
        ASSERT_TRUE(moved.ok()) << moved.status().message();
      }
    }
  });
}

// Every rank to every other, on every channel and use, in a random order of sizes, cuts and turns that follows from
// a seed which all ranks share.
void storm(Player& p, int n, int channels, int messages, uint64_t most_slice, uint64_t seed) {
  struct Flow {
    int from, to, channel;
    Use use;
    SendEnd* out = nullptr;
    ReceiveEnd* in = nullptr;
    int done = 0;
  };
  std::vector<Flow> flows;
  for (int from = 0; from < n; ++from)
    for (int to = 0; to < n; ++to)
      for (int channel = 0; channel <= channels && from != to; ++channel) {
        const bool collective = channel < channels;
        Flow flow{from, to, collective ? channel : 0, collective ? Use::Collective : Use::PointToPoint};
        if (from == p.me) flow.out = &sender(p, to, flow.channel, flow.use);
        if (to == p.me) flow.in = &receiver(p, from, flow.channel, flow.use);
        if (flow.out != nullptr || flow.in != nullptr) flows.push_back(flow);
      }
  struct Message {
    SlotCut cut;
    uint64_t bytes, seed;
    uint32_t identity;
  };
  const uint64_t capacity = p.transport->limits().capacity;
  const auto message = [&](const Flow& flow, int m) {
    const uint64_t s = mix(seed ^ mix(flow.from * 1009 + flow.to * 31 + flow.channel * 7 + static_cast<int>(flow.use)));
    Message out;
    out.cut = slot_cut(capacity, 1 + mix(s + m / 4) % most_slice, 1 + mix(s + m / 4 + 1) % 6);
    out.bytes = mix(s + m + 2) % (out.cut.bytes + 1);
    out.seed = mix(s + m + 3);
    out.identity = static_cast<uint32_t>(out.seed) & kIdentityMask;
    return out;
  };
  uint64_t dice = mix(seed + p.me);
  size_t left = flows.size();
  ASSERT_TRUE(p.until(
      [&] {
        for (size_t tries = 0; tries < flows.size(); ++tries) {
          dice = mix(dice);
          Flow& flow = flows[dice % flows.size()];
          if (flow.done == messages) continue;
          const Message m = message(flow, flow.done);
          if (flow.out != nullptr) {
            if (!flow.out->simple.cut(m.cut) || !flow.out->simple.has_room()) continue;
            fill({flow.out->simple.slot(), m.bytes}, m.seed);
            flow.out->simple.publish(m.bytes, m.identity);
          } else {
            flow.in->simple.cut(m.cut);
            if (!flow.in->simple.ready()) continue;
            EXPECT_TRUE(flow.in->simple.matches(m.identity));
            EXPECT_EQ(flow.in->simple.descriptor().bytes, m.bytes);
            EXPECT_TRUE(holds({flow.in->simple.slot(), m.bytes}, m.seed));
            flow.in->simple.release();
          }
          if (++flow.done == messages) --left;
          if (::testing::Test::HasFailure()) return true;
        }
        return left == 0;
      },
      "the storm is over"));
  p.flush();
  p.barrier();
}

TEST_P(EveryTransport, SurvivesAStormOnAllConnections) {
  for (const uint64_t seed : {1, 2}) {
    SCOPED_TRACE(seed);
    perform(setting(4, {.channels = 3, .buffer_bytes = 65536}), [&](Player& p) { storm(p, 4, 3, 60, 30'000, seed); });
  }
}

TEST_P(EveryTransport, CarriesManyRanks) {
  perform(setting(9, {.channels = 2}), [&](Player& p) { storm(p, 9, 2, 5, 9'000, 3); });
}

TEST_P(EveryTransport, WaitsNoLongerThanAsked) {
  perform(setting(2), [&](Player& p) {
    (void)receiver(p, 1 - p.me);
    const auto begin = std::chrono::steady_clock::now();
    p.transport->wait(30);
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(20));
    p.barrier();
  });
}

// A process that is killed in the middle: over sockets the others learn of it at once; over mapped memory liveness is
// another layer's matter, and the transport must only not hang.
TEST_P(EveryTransport, OutlivesAKilledPeer) {
  if (GetParam().ranks != Ranks::Processes) GTEST_SKIP() << "ranks are threads of one process";
  Setting three = setting(3);
  three.doomed = 2;
  Shared<std::atomic<int>> survivors;  // who fails first must not leave before the other has seen who died
  perform(three, [&](Player& p) {
    const SlotCut cut{1024, 8};
    SendEnd& out = sender(p, (p.me + 1) % 3);
    ReceiveEnd& in = receiver(p, (p.me + 2) % 3);
    ASSERT_TRUE(p.send(out, cut, 1000, p.me));
    ASSERT_TRUE(p.receive(in, cut, 1000, (p.me + 2) % 3));
    ASSERT_TRUE(p.flush());
    p.barrier();
    if (p.me == 2) ::raise(SIGKILL);
    if (mapped()) {
      EXPECT_TRUE(p.failure_within(100).ok());
      return;
    }
    if (p.me == 1) (void)p.transport->send_end(2, 1, Use::Collective);  // one more, that will never be there
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_EQ(status.code(), Code::RemoteError);
    EXPECT_NE(status.message().find("rank 2 (process "), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("127.0.0.1:"), std::string::npos) << status.message();
    EXPECT_EQ(p.transport->progress().status().message(), status.message());  // it stays failed
    EXPECT_FALSE(p.transport->send_end(2, 0, Use::Collective).ok());
    ++*survivors;
    for (const Deadline deadline = Deadline::in_ms(kPatienceMs); *survivors < 2 && !deadline.passed();)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
}

class EveryMappedTransport : public EveryTransport {};
std::vector<Kind> mapped_kinds() {
  std::vector<Kind> some;
  for (const Kind& kind : kinds())
    if (maps(kind.medium)) some.push_back(kind);
  return some;
}
INSTANTIATE_TEST_SUITE_P(Transports, EveryMappedTransport, ::testing::ValuesIn(mapped_kinds()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_P(EveryMappedTransport, CarriesLLMessagesAndReturnsCreditInBatches) {
  perform(setting(2), [](Player& p) {
    constexpr uint32_t kIdentity = 0x123456;
    const uint64_t slots = p.transport->limits().ll_slots;
    uint64_t sizes[] = {0, 1, 8, 55, 56, 57, 4095, 4096};
    if (p.me == 0) {
      LLSender& out = sender(p, 1).ll;
      for (uint64_t m = 0; m < slots; ++m) {
        ASSERT_TRUE(out.has_room()) << m;
        fill({out.payload(), sizes[m % 8]}, m);
        out.publish(kIdentity);
      }
      EXPECT_FALSE(out.has_room());
      p.barrier();  // the reader releases one less than a batch
      p.barrier();
      EXPECT_FALSE(out.has_room());
      p.barrier();  // and the one that makes it a batch
      p.barrier();
      EXPECT_TRUE(out.has_room());
      for (uint64_t m = slots; m < 5 * slots; ++m) {
        ASSERT_TRUE(p.until([&] { return out.has_room(); }, "an LL slot is free"));
        fill({out.payload(), sizes[m % 8]}, m);
        out.publish(kIdentity);
      }
    } else {
      LLReceiver& in = receiver(p, 0).ll;
      const auto take = [&](uint64_t m) {
        ASSERT_TRUE(p.until([&] { return in.ready(kIdentity); }, "an LL message has come"));
        EXPECT_TRUE(holds({in.payload(), sizes[m % 8]}, m)) << m;
        in.release();
      };
      p.barrier();
      for (uint64_t m = 0; m < slots / 4 - 1; ++m) take(m);
      p.barrier();
      p.barrier();
      take(slots / 4 - 1);
      p.barrier();
      for (uint64_t m = slots / 4; m < 5 * slots; ++m) take(m);
    }
  });
}

TEST_P(EveryMappedTransport, SeesAMismatchInTheFlag) {
  perform(setting(2), [](Player& p) {
    if (p.me == 0) {
      LLSender& out = sender(p, 1).ll;
      out.publish(1);
      p.barrier();
    } else {
      LLReceiver& in = receiver(p, 0).ll;
      EXPECT_FALSE(in.mismatched(2) && in.ready(2));
      p.barrier();
      EXPECT_FALSE(in.ready(2));
      EXPECT_TRUE(in.mismatched(2));
      EXPECT_TRUE(in.ready(1));
      EXPECT_FALSE(in.mismatched(1));
      in.release();
      EXPECT_FALSE(in.ready(1));
      EXPECT_FALSE(in.mismatched(2));
    }
  });
}

// One sender, all others read, one of them slowly: nobody loses a message and nobody sees one twice.
TEST_P(EveryMappedTransport, FansOutAtThePaceOfTheSlowestReader) {
  constexpr int kRanks = 4;
  perform(setting(kRanks, {.channels = 2}), [](Player& p) {
    constexpr uint64_t kMessages = 200;
    const SlotCut cut{8192, 3};
    for (int channel = 0; channel < 2; ++channel)
      for (int root = 0; root < kRanks; root += 3) {
        const uint64_t seed = 1000 * (channel + 1) + root;
        if (p.me == root) {
          Result<SendEnd*> end = p.transport->fan_send_end(channel);
          ASSERT_TRUE(end.ok());
          EXPECT_EQ((*end)->capacity, p.transport->limits().fan_capacity);
          for (uint64_t m = 0; m < kMessages; ++m) {
            ASSERT_TRUE(p.send(**end, cut, mix(m) % 8193, seed + m));
            ASSERT_TRUE(p.until([&] { return (*end)->ll.has_room(); }, "an LL slot is free"));
            fill({(*end)->ll.payload(), 40}, seed + m);
            (*end)->ll.publish(5);
          }
        } else {
          Result<ReceiveEnd*> end = p.transport->fan_receive_end(root, channel);
          ASSERT_TRUE(end.ok());
          EXPECT_EQ(*end, *p.transport->fan_receive_end(root, channel));
          for (uint64_t m = 0; m < kMessages; ++m) {
            if (p.me == (root + 1) % kRanks && m % 16 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            ASSERT_TRUE(p.receive(**end, cut, mix(m) % 8193, seed + m));
            ASSERT_TRUE(p.until([&] { return (*end)->ll.ready(5); }, "an LL message has come"));
            EXPECT_TRUE(holds({(*end)->ll.payload(), 40}, seed + m));
            (*end)->ll.release();
          }
        }
      }
  });
}

// More ranks than cores: the same through either copy of the slots, whatever a reader took last.
TEST_P(EveryMappedTransport, FansOutTwiceWhereRanksShareCores) {
  constexpr int kRanks = 3;
  perform(setting(kRanks, {.share_cores = true}), [](Player& p) {
    constexpr uint64_t kMessages = 1000;
    if (p.me == 1) {
      Result<SendEnd*> end = p.transport->fan_send_end(0);
      ASSERT_TRUE(end.ok());
      ASSERT_TRUE((*end)->has_near);
      for (uint64_t m = 0; m < kMessages; ++m) {
        for (LLSender* out : {&(*end)->ll, &(*end)->ll_near}) {
          ASSERT_TRUE(p.until([&] { return out->has_room(); }, "an LL slot is free"));
          fill({out->payload(), 100}, m);
          out->publish(5);
        }
      }
    } else {
      Result<ReceiveEnd*> end = p.transport->fan_receive_end(1, 0);
      ASSERT_TRUE(end.ok());
      LLReceiver& in = (*end)->ll;
      for (uint64_t m = 0; m < kMessages; ++m) {
        in.take_near((mix(m) + p.me) % 2 == 0);
        ASSERT_TRUE(p.until([&] { return in.ready(5); }, "an LL message has come"));
        ASSERT_TRUE(holds({in.payload(), 100}, m)) << m;
        in.release();
      }
    }
  });
}

TEST_P(EveryMappedTransport, GivesEachRankAPageThatAllRead) {
  perform(setting(3), [](Player& p) {
    auto& mapped = static_cast<MappedTransport&>(*p.transport);
    fill(mapped.control_page(p.me), p.me);
    p.barrier();
    for (int r = 0; r < 3; ++r) {
      ASSERT_EQ(mapped.control_page(r).size(), kPageBytes);
      EXPECT_TRUE(holds(mapped.control_page(r), r));
    }
    EXPECT_TRUE(mapped.control_page(3).empty());
    p.barrier();
  });
}

}  // namespace
}  // namespace tutti::test
