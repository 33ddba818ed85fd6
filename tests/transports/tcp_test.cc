// SPDX-License-Identifier: Apache-2.0
// What only a network can do to a transport: streams cut anywhere, forged headers, strangers, peers that leave or never
// come, and buffers that fill up.
#include "transports/tcp/tcp_transport.h"

#include <sys/socket.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <thread>

#include "net/dialer.h"
#include "net/socket.h"
#include "tests/transports/tcp_stage.h"
#include "transports/tcp/tcp_connection.h"

namespace tutti::test {
namespace {

const Setting kTwo{.kind = {"tcp_threads", Medium::Tcp, Ranks::Threads}, .ranks = 2};
constexpr SlotCut kCut{1024, 4};

// Rank 1 with a real transport and a receiving end; rank 0 is whatever `forge` does with a proven socket to rank 1.
void against_a_forger(const std::function<void(int socket)>& forge,
                      const std::function<void(Player&, ReceiveEnd&)>& body) {
  perform_bare(kTwo, [&](Player& p) {
    Result<TcpSetup> setup = meet_over_tcp(p, {0, 1}, "forger");
    ASSERT_TRUE(setup.ok()) << setup.status().message();
    if (p.me == 0) {
      Dialer::Options dial;
      dial.addresses = setup->options.peers[1].addresses;
      dial.secret = setup->options.secret;
      dial.tag = setup->options.tag;
      dial.claim = {.from = 0, .to = 1, .purpose = kFirstFreePurpose};
      dial.deadline = Deadline::in_ms(kPatienceMs);
      Dialer dialer(dial);
      Result<Poll> dialed = dialer.advance();
      for (; dialed.ok() && *dialed == Poll::Pending; dialed = dialer.advance())
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      ASSERT_TRUE(dialed.ok()) << dialed.status().message();
      const UniqueFd socket = dialer.take();
      forge(socket.get());
      p.barrier();
    } else {
      auto made = TcpTransport::create(setup->options);
      ASSERT_TRUE(made.ok()) << made.status().message();
      p.transport = std::move(*made);
      Result<ReceiveEnd*> end = p.transport->receive_end(0, 0, Use::Collective);
      ASSERT_TRUE(end.ok());
      body(p, **end);
      p.barrier();
      p.transport.reset();
    }
  });
}

void say(int socket, const void* data, size_t bytes) {
  ASSERT_TRUE(
      write_full(socket, {static_cast<const std::byte*>(data), bytes}, Deadline::in_ms(kPatienceMs), "rank 1").ok());
}

TEST(Tcp, BelievesNoHeaderThatCannotBe) {
  const uint64_t flag = make_flag(0, 7);
  const uint64_t capacity = 1 << 20, huge = uint64_t{1} << 63;
  const TcpHeader forged[] = {
      {1025, flag, {1024, 4}},                  // more than its slot
      {huge, flag, {1024, 4}},                  //
      {0, flag, {capacity + 1, 1}},             // slots beyond the memory
      {0, flag, {capacity / 4, 5}},             //
      {0, flag, {huge, 2}},                     // a product that overflows to 0
      {8, flag, {~uint64_t{0}, ~uint64_t{0}}},  //
      {0, flag, {1, 65}},                       // more slots than descriptors
      {0, flag, {0, 4}},                        // no bytes
      {0, flag, {1024, 0}},                     // no slots
      {8, make_flag(1, 7), {1024, 4}},          // out of turn
      {8, 0, {1024, 4}},                        // half a goodbye
      {1, 0, {2, 0}},                           // the loss of a rank that there is not
  };
  for (const TcpHeader& header : forged)
    against_a_forger([&](int socket) { say(socket, &header, sizeof header); },
                     [&](Player& p, ReceiveEnd&) {
                       const Status status = p.failure_within(kPatienceMs);
                       EXPECT_EQ(status.code(), Code::RemoteError);
                       EXPECT_NE(status.message().find("rank 0"), std::string::npos) << status.message();
                       EXPECT_NE(status.message().find("impossible header"), std::string::npos) << status.message();
                     });
}

// A stream of messages, and each way of cutting it into pieces.
TEST(Tcp, PutsTogetherAStreamCutAnywhere) {
  std::vector<std::byte> stream;
  const uint64_t sizes[] = {0, 1, 31, 32, 33, 1024, 0, 500, 1000};
  uint64_t position = 0;
  for (const uint64_t bytes : sizes) {
    const TcpHeader header{bytes, make_flag(position, 7), kCut};
    std::vector<std::byte> payload(bytes);
    fill(payload, position++);
    const auto* raw = reinterpret_cast<const std::byte*>(&header);
    stream.insert(stream.end(), raw, raw + sizeof header);
    stream.insert(stream.end(), payload.begin(), payload.end());
  }
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{31}, size_t{33}, size_t{1000}, stream.size()})
    against_a_forger(
        [&](int socket) {
          for (size_t at = 0; at < stream.size(); at += piece) {
            say(socket, stream.data() + at, std::min(piece, stream.size() - at));
            if (piece > 100) std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        },
        [&](Player& p, ReceiveEnd& in) {
          for (uint64_t m = 0; m < std::size(sizes); ++m) ASSERT_TRUE(p.receive(in, kCut, sizes[m], m)) << piece;
        });
}

TEST(Tcp, AStreamThatEndsInAMessageIsAFailureOfThePeer) {
  const TcpHeader header{1000, make_flag(0, 7), kCut};
  const std::byte some[500] = {};
  for (const size_t bytes : {size_t{0}, size_t{10}, sizeof header, sizeof header + 500})
    against_a_forger(
        [&](int socket) {
          say(socket, &header, std::min(bytes, sizeof header));
          if (bytes > sizeof header) say(socket, some, bytes - sizeof header);
          ::shutdown(socket, SHUT_WR);
        },
        [&](Player& p, ReceiveEnd& in) {
          in.simple.cut(kCut);
          const Status status = p.failure_within(kPatienceMs);
          EXPECT_EQ(status.code(), Code::RemoteError);
          EXPECT_NE(status.message().find("rank 0 (process "), std::string::npos) << status.message();
          EXPECT_FALSE(in.simple.ready());
        });
}

TEST(Tcp, ARankThatSendsToOneThatLeftIsTold) {
  perform(kTwo, [](Player& p) {
    if (p.me == 0) {
      ASSERT_TRUE(p.send(**p.transport->send_end(1, 0, Use::Collective), kCut, 10, 1));
      p.flush();
      p.transport.reset();
      p.barrier();
      return;
    }
    ASSERT_TRUE(p.receive(**p.transport->receive_end(0, 0, Use::Collective), kCut, 10, 1));
    p.barrier();
    EXPECT_TRUE(p.failure_within(20).ok());  // it has left in order
    SendEnd* out = *p.transport->send_end(0, 0, Use::Collective);
    ASSERT_TRUE(out->simple.cut(kCut) && out->simple.has_room());
    out->simple.publish(10, 1);
    EXPECT_FALSE(p.transport->flushed());
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_EQ(status.code(), Code::RemoteError);
    EXPECT_NE(status.message().find("rank 0"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("has left"), std::string::npos) << status.message();
  });
}

constexpr SlotCut kLongCut{64 << 10, 4};

TEST(Tcp, ALoanIsSentFromWhereItLies) {
  perform(kTwo, [](Player& p) {
    if (p.me == 1) {
      ReceiveEnd& in = **p.transport->receive_end(0, 0, Use::Collective);
      ASSERT_TRUE(p.receive(in, kLongCut, 50'000, 1));
      ASSERT_TRUE(p.receive(in, kLongCut, 50'000, 2));
      return;
    }
    SendEnd& out = **p.transport->send_end(1, 0, Use::Collective);
    ASSERT_NE(out.loans, nullptr);
    std::vector<std::byte> mine(50'000);
    fill(mine, 1);
    ASSERT_TRUE(out.simple.cut(kLongCut) && out.simple.has_room());
    fill({out.simple.slot(), 50'000}, 99);  // not what is sent
    out.loans->lend(out.simple.place(), mine.data());
    out.simple.publish(50'000, 7);
    // The next one lies in its slot again.
    ASSERT_TRUE(out.simple.has_room());
    out.loans->lend(out.simple.place(), nullptr);
    fill({out.simple.slot(), 50'000}, 2);
    out.simple.publish(50'000, 7);
    p.flush();
  });
}

TEST(Tcp, ASliceLandsWhereItIsWanted) {
  perform(kTwo, [](Player& p) {
    if (p.me == 0) {
      SendEnd& out = **p.transport->send_end(1, 0, Use::Collective);
      for (int i = 0; i < 4; ++i) ASSERT_TRUE(p.send(out, kLongCut, i == 2 ? 100 : 50'000, static_cast<uint64_t>(i)));
      p.flush();
      return;
    }
    ReceiveEnd& in = **p.transport->receive_end(0, 0, Use::Collective);
    ASSERT_NE(in.landing, nullptr);
    std::vector<std::byte> mine(50'000);
    for (int i = 0; i < 4; ++i) {
      in.simple.cut(kLongCut);
      fill(mine, 77);
      // As a lane asks: before it has come. The third is not as long as it says, the fourth of another call.
      *in.landing = {.to = mine.data(),
                     .bytes = 50'000,
                     .flag = in.simple.awaited_flag(i == 3 ? 8 : 7),
                     .landed = in.landing->landed};
      ASSERT_TRUE(p.until([&] { return in.simple.ready(); }, "a slice"));
      const std::byte* landed = in.landing->landed[in.simple.place()];
      const uint64_t bytes = in.simple.descriptor().bytes;
      // The transport may have read ahead of the wish, into the slot.
      if (landed != nullptr) {
        EXPECT_LT(i, 2);
        EXPECT_EQ(landed, mine.data());
      } else {
        EXPECT_TRUE(holds(mine, 77)) << "slice " << i << " was not to land";
      }
      EXPECT_TRUE(holds({landed != nullptr ? landed : in.simple.slot(), bytes}, static_cast<uint64_t>(i))) << i;
      if (i == 0) {
        EXPECT_NE(landed, nullptr) << "nothing had come before it was asked for";
      }
      in.simple.release();
    }
  });
}

// Ranks in a chain: the first has no connection to the last, and is told by the one between whom to blame.
TEST(Tcp, RanksWithoutAConnectionToTheDeadOneLearnWhoItWas) {
  Setting four = kTwo;
  four.kind.ranks = Ranks::Processes;
  four.ranks = 4;
  four.doomed = 3;
  perform(four, [](Player& p) {
    const auto meet = [&](int left, int right) {
      if (p.me == left) {
        ASSERT_TRUE(p.send(**p.transport->send_end(right, 0, Use::Collective), kCut, 10, left));
      } else if (p.me == right) {
        ASSERT_TRUE(p.receive(**p.transport->receive_end(left, 0, Use::Collective), kCut, 10, left));
      }
    };
    for (int left = 0; left < 3; ++left) meet(left, left + 1);
    p.flush();
    p.barrier();
    if (p.me == 3) ::raise(SIGKILL);
    const Status status = p.failure_within(kPatienceMs);
    EXPECT_EQ(status.code(), Code::RemoteError);
    EXPECT_NE(status.message().find("rank 3 (process "), std::string::npos) << status.message();
    EXPECT_EQ(status.message().find("says rank") != std::string::npos, p.me != 2) << status.message();
  });
}

TEST(Tcp, AnUnflushedRankDoesNotSayGoodbye) {
  perform(kTwo, [](Player& p) {
    if (p.me == 0) {
      SendEnd* out = *p.transport->send_end(1, 0, Use::Collective);
      ASSERT_TRUE(p.send(*out, kCut, 10, 1));
      p.flush();
      p.barrier();
      ASSERT_TRUE(out->simple.has_room());
      out->simple.publish(10, 1);
      p.transport.reset();
      return;
    }
    ASSERT_TRUE(p.receive(**p.transport->receive_end(0, 0, Use::Collective), kCut, 10, 1));
    p.barrier();
    EXPECT_EQ(p.failure_within(kPatienceMs).code(), Code::RemoteError);
  });
}

// Rank 1 never asks for its end. Who dials and who waits are both told whom they miss.
TEST(Tcp, NamesAPeerThatNeverComes) {
  for (const int waiting : {0, 1})
    perform_bare(kTwo, [&](Player& p) {
      Result<TcpSetup> setup = meet_over_tcp(p, {0, 1}, "never");
      ASSERT_TRUE(setup.ok());
      setup->options.connect_timeout_ms = 200;
      if (p.me == waiting) {
        auto made = TcpTransport::create(setup->options);
        ASSERT_TRUE(made.ok());
        p.transport = std::move(*made);
        (void)*p.transport->send_end(1 - p.me, 0, Use::Collective);
        EXPECT_FALSE(p.transport->flushed());  // a connection in the making is owed to the peer
        const Status status = p.failure_within(kPatienceMs);
        EXPECT_EQ(status.code(), Code::RemoteError);
        EXPECT_NE(status.message().find(fmt::format("rank {} (process ", 1 - p.me)), std::string::npos)
            << status.message();
        EXPECT_NE(status.message().find("TUTTI_TIMEOUT"), std::string::npos) << status.message();
      }
      p.barrier();
      p.transport.reset();
    });
}

TEST(Tcp, StrangersAtThePortDisturbNothing) {
  perform_bare(kTwo, [](Player& p) {
    Result<TcpSetup> setup = meet_over_tcp(p, {0, 1}, "strangers");
    ASSERT_TRUE(setup.ok());
    auto made = TcpTransport::create(setup->options);
    ASSERT_TRUE(made.ok());
    p.transport = std::move(*made);
    std::vector<UniqueFd> strangers;
    for (int i = 0; i < 20; ++i) {
      Result<UniqueFd> stranger = begin_connect(setup->options.peers[1].addresses.front());
      ASSERT_TRUE(stranger.ok());
      std::vector<std::byte> noise(i * 40);
      fill(noise, i);
      if (i % 4 != 0) (void)::send(stranger->get(), noise.data(), noise.size(), MSG_NOSIGNAL);
      if (i % 4 == 1) stranger->reset();
      if (i % 4 != 1) strangers.push_back(std::move(*stranger));
    }
    for (int channel = 0; channel < 3; ++channel)
      for (uint64_t m = 0; m < 20; ++m) {
        if (p.me == 0) {
          ASSERT_TRUE(p.send(**p.transport->send_end(1, channel, Use::Collective), kCut, 1000, m));
        } else {
          ASSERT_TRUE(p.receive(**p.transport->receive_end(0, channel, Use::Collective), kCut, 1000, m));
        }
      }
    p.flush();
    p.barrier();
    p.transport.reset();
  });
}

// A receiver that does not read stops its sender, by the FIFO and the kernel's buffers; nothing is lost or held twice.
TEST(Tcp, ASlowReceiverStopsItsSender) {
  perform(kTwo, [](Player& p) {
    const SlotCut cut{256 * 1024, 4};
    constexpr uint64_t kMessages = 200;  // 50 MiB: more than any socket buffer here
    if (p.me == 0) {
      SendEnd* out = *p.transport->send_end(1, 0, Use::Collective);
      ASSERT_TRUE(out->simple.cut(cut));
      uint64_t sent = 0;
      const auto offer = [&] {
        if (sent == kMessages || !out->simple.has_room()) return;
        fill({out->simple.slot(), cut.bytes}, sent++);
        out->simple.publish(cut.bytes, 7);
      };
      int idle = 0;
      ASSERT_TRUE(p.until(
          [&] {
            offer();
            const Result<bool> moved = p.transport->progress();
            idle = moved.ok() && !*moved ? idle + 1 : 0;
            if (idle > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return idle > 100;
          },
          "the sender is stuck"));
      EXPECT_LT(sent, kMessages);
      EXPECT_FALSE(out->simple.has_room());
      EXPECT_FALSE(p.transport->flushed());
      p.barrier();
      ASSERT_TRUE(p.until([&] { return offer(), sent == kMessages; }, "all is on its way"));
      p.flush();
    } else {
      ReceiveEnd* in = *p.transport->receive_end(0, 0, Use::Collective);
      in->simple.cut(cut);
      ASSERT_TRUE(p.until([&] { return in->simple.readable() == cut.count; }, "the FIFO is full"));
      p.barrier();
      for (uint64_t m = 0; m < kMessages; ++m) ASSERT_TRUE(p.receive(*in, cut, cut.bytes, m));
    }
  });
}

TEST(Tcp, WaitEndsWhenDataComes) {
  perform(kTwo, [](Player& p) {
    using Clock = std::chrono::steady_clock;
    for (int round = 0; round < 3; ++round) {
      if (p.me == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        ASSERT_TRUE(p.send(**p.transport->send_end(1, 0, Use::Collective), kCut, 100, round));
        p.flush();
      } else {
        ReceiveEnd* in = *p.transport->receive_end(0, 0, Use::Collective);
        in->simple.cut(kCut);
        const auto begin = Clock::now();
        int waits = 0;
        while (!in->simple.ready()) {
          ASSERT_TRUE(p.transport->progress().ok());
          if (in->simple.ready()) break;
          p.transport->wait(30'000);
          ASSERT_LT(++waits, 100) << "wait() returns although nothing came";
        }
        EXPECT_LT(Clock::now() - begin, std::chrono::seconds(20));
        ASSERT_TRUE(p.receive(*in, kCut, 100, round));
      }
      p.barrier();
    }
  });
}

TEST(Tcp, CapacityFollowsTheNumberOfRanks) {
  TcpOptions options;
  for (const auto& [ranks, capacity, channels] : {std::tuple{2, 1 << 20, 8}, {16, 1 << 20, 4}, {17, 256 << 10, 4}}) {
    options.peers.assign(ranks, {});
    const auto made = TcpTransport::create(options);
    ASSERT_TRUE(made.ok());
    EXPECT_EQ((*made)->limits().capacity, static_cast<uint64_t>(capacity));
    EXPECT_EQ((*made)->limits().channels, channels);
    EXPECT_FALSE((*made)->reaches(1));  // no address
    EXPECT_FALSE((*made)->send_end(1, 0, Use::Collective).ok());
  }
  options.buffer_bytes = 100;
  EXPECT_EQ(TcpTransport::create(options).status().code(), Code::InvalidArgument);
  options.buffer_bytes = 10'000;
  EXPECT_EQ((*TcpTransport::create(options))->limits().capacity, 12'288u);
}

}  // namespace
}  // namespace tutti::test
