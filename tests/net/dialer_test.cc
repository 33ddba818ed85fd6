// SPDX-License-Identifier: Apache-2.0
// Dialers and listeners over real sockets: several addresses, several peers, strangers of all kinds.
#include "net/dialer.h"

#include <gtest/gtest.h>

#include <functional>

#include "net/interfaces.h"
#include "net/peer_listener.h"
#include "net/socket.h"

namespace tutti {
namespace {

SocketAddress loopback(uint16_t port) { return SocketAddress::ipv4(in_addr{htonl(INADDR_LOOPBACK)}, port); }

class PeersTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(crypto_ready().ok());
    secret_ = random_secret();
    open(10'000);
  }
  void open(int64_t handshake_ms) {
    auto opened = PeerListener::open(
        {.secret = secret_, .tag = tag_of(secret_), .rank = 0, .size = 8, .handshake_ms = handshake_ms}, {loopback(0)});
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    listener_ = std::move(*opened);
    address_ = listener_->addresses()[0];
  }
  Dialer::Options to(std::vector<SocketAddress> addresses, int from = 1, uint32_t purpose = kFirstFreePurpose) {
    return {.addresses = std::move(addresses),
            .secret = secret_,
            .tag = tag_of(secret_),
            .claim = {from, 0, purpose},
            .peer = "rank 0",
            .deadline = Deadline::in_ms(20'000),
            .remedy = ""};
  }
  // Both sides forward until the dialer is done or failed.
  Status run(Dialer& dialer) {
    while (true) {
      TUTTI_TRY(listener_->poll());
      TUTTI_ASSIGN_OR_RETURN(const Poll dialed, dialer.advance());
      if (dialed == Poll::Done) return listener_->poll();
      std::vector<pollfd> items;
      listener_->add_poll(items);
      dialer.add_poll(items);
      TUTTI_TRY(wait_on(items, dialer.poll_ms(listener_->poll_ms(1000))));
    }
  }
  void poll_until(const std::function<bool()>& done) {
    const Deadline deadline = Deadline::in_ms(10'000);
    while (!done()) {
      ASSERT_FALSE(deadline.passed());
      ASSERT_TRUE(listener_->poll().ok());
      std::vector<pollfd> items;
      listener_->add_poll(items);
      ASSERT_TRUE(wait_on(items, listener_->poll_ms(20)).ok());
    }
  }
  // Whether the other end of this stranger's connection is closed.
  static bool dropped(const UniqueFd& fd) {
    std::byte buffer[256];
    while (true) {
      const auto count = read_some(fd.get(), buffer, "listener");
      if (!count.ok()) return true;
      if (*count == 0) return false;
    }
  }

  Secret secret_;
  std::unique_ptr<PeerListener> listener_;
  SocketAddress address_;
};

TEST_F(PeersTest, AConnectionArrivesUnderItsRankAndPurposeOnce) {
  Dialer dialer(to({address_}, 3, 40));
  ASSERT_TRUE(run(dialer).ok());
  EXPECT_FALSE(listener_->take(3, 41));
  EXPECT_FALSE(listener_->take(2, 40));
  auto mine = listener_->take(3, 40);
  ASSERT_TRUE(mine);
  EXPECT_FALSE(listener_->take(3, 40));
  const UniqueFd theirs = dialer.take();
  Bytes word(5, std::byte{42}), got(5);
  EXPECT_TRUE(write_full(theirs.get(), word, Deadline::in_ms(1000), "rank 0").ok());
  EXPECT_TRUE(read_full(mine->get(), got, Deadline::in_ms(1000), "rank 3").ok());
  EXPECT_EQ(got, word);
}

TEST_F(PeersTest, ManyAtOnce) {
  std::vector<Dialer> dialers;
  for (int from = 1; from < 8; ++from) {
    for (uint32_t purpose = 16; purpose < 24; ++purpose) dialers.emplace_back(to({address_}, from, purpose));
  }
  for (Dialer& dialer : dialers) EXPECT_TRUE(dialer.advance().ok());  // all are under way
  for (Dialer& dialer : dialers) EXPECT_TRUE(run(dialer).ok());
  for (int from = 1; from < 8; ++from) {
    for (uint32_t purpose = 16; purpose < 24; ++purpose) EXPECT_TRUE(listener_->take(from, purpose));
  }
}

TEST_F(PeersTest, ADeadAddressIsPassedOver) {
  const auto closed = listen_tcp(loopback(0));
  const SocketAddress dead = *address_of_socket(closed->get());
  const_cast<UniqueFd&>(*closed).reset();
  Dialer dialer(to({dead, address_}));
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(run(dialer).ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(200));  // without waiting for a stagger
}

TEST_F(PeersTest, ASilentAddressDoesNotHoldUpTheNext) {
  const auto silent = listen_tcp(loopback(0));  // accepts in the kernel, never greets
  auto options = to({*address_of_socket(silent->get()), address_});
  options.stagger_ms = 20;
  Dialer dialer(std::move(options));
  EXPECT_TRUE(run(dialer).ok());
}

TEST_F(PeersTest, AnAddressThatFailsTheProofIsPassedOver) {
  auto other =
      PeerListener::open({.secret = random_secret(), .tag = tag_of(secret_), .rank = 0, .size = 8}, {loopback(0)});
  ASSERT_TRUE(other.ok());
  Dialer dialer(to({(*other)->addresses()[0], address_}));
  while (true) {
    ASSERT_TRUE((*other)->poll().ok());
    ASSERT_TRUE(listener_->poll().ok());
    const auto dialed = dialer.advance();
    ASSERT_TRUE(dialed.ok()) << dialed.status().message();
    if (*dialed == Poll::Done) break;
  }
  poll_until([&] { return listener_->take(1, kFirstFreePurpose).has_value(); });
}

TEST_F(PeersTest, WhenNobodyListensTheErrorNamesPeerAndAddress) {
  listener_.reset();
  Dialer dialer(to({address_}));
  Result<Poll> dialed = Poll::Pending;
  while (dialed.ok()) dialed = dialer.advance();
  EXPECT_EQ(dialed.status().message(),
            fmt::format("rank 0 cannot be reached: connect on {}: Connection refused (errno 111)", address_.text()));
}

TEST_F(PeersTest, ADialerMayWaitForItsPeerToListen) {
  const uint16_t port = address_.port();
  listener_.reset();
  auto options = to({address_});
  options.keep_trying = true;
  Dialer dialer(std::move(options));
  for (int i = 0; i < 50; ++i) ASSERT_EQ(*dialer.advance(), Poll::Pending);
  auto door = Door::open({secret_, tag_of(secret_), "rank 0"}, {loopback(0)}, port);
  ASSERT_TRUE(door.ok()) << door.status().message();
  while (true) {
    ASSERT_TRUE(door->poll().ok());
    const auto dialed = dialer.advance();
    ASSERT_TRUE(dialed.ok()) << dialed.status().message();
    if (*dialed == Poll::Done) break;
  }
}

TEST_F(PeersTest, ADeadlinePasses) {
  const auto silent = listen_tcp(loopback(0));
  auto options = to({*address_of_socket(silent->get())});
  options.deadline = Deadline::in_ms(30);
  Dialer dialer(std::move(options));
  const Status status = run(dialer);
  EXPECT_EQ(status.message(),
            fmt::format("rank 0 did not answer in time: {} is silent", address_of_socket(silent->get())->text()));
}

TEST_F(PeersTest, ThePeerThatIsMeantForAnotherRankIsDropped) {
  auto options = to({address_});
  options.claim.to = 4;
  Dialer dialer(std::move(options));
  ASSERT_TRUE(run(dialer).ok());
  EXPECT_FALSE(listener_->take(1, kFirstFreePurpose));
  options = to({address_}, 8);  // beyond the last rank
  Dialer beyond(std::move(options));
  ASSERT_TRUE(run(beyond).ok());
  EXPECT_FALSE(listener_->take(8, kFirstFreePurpose));
}

TEST_F(PeersTest, SlowAndSilentStrangersAreDroppedAtTheDeadline) {
  open(50);
  const auto silent = begin_connect(address_), slow = begin_connect(address_);
  int rounds = 0;
  poll_until([&] { return ++rounds > 2; });
  EXPECT_TRUE(write_full(slow->get(), Bytes(20), Deadline::in_ms(1000), "listener").ok());
  EXPECT_FALSE(dropped(*silent));
  poll_until([&] { return dropped(*silent) && dropped(*slow); });
}

TEST_F(PeersTest, AStrangersBytesAreDroppedAtOnceAndOthersGoOn) {
  const auto stranger = begin_connect(address_);
  EXPECT_TRUE(write_full(stranger->get(), Bytes(4096, std::byte{'G'}), Deadline::in_ms(1000), "listener").ok());
  Dialer dialer(to({address_}));
  EXPECT_TRUE(run(dialer).ok());
  poll_until([&] { return dropped(*stranger); });
  EXPECT_TRUE(listener_->take(1, kFirstFreePurpose));
}

TEST_F(PeersTest, HalfOpenStrangersCannotFillTheDoor) {
  auto door =
      Door::open({.secret = secret_, .tag = tag_of(secret_), .owner = "rank 0", .most_strangers = 4, .stay_ms = 20},
                 {loopback(0)}, 0);
  ASSERT_TRUE(door.ok());
  std::vector<UniqueFd> strangers;
  for (int i = 0; i < 12; ++i) strangers.push_back(*begin_connect(loopback(door->port())));
  Dialer dialer(to({loopback(door->port())}));
  while (true) {
    ASSERT_TRUE(door->poll().ok());
    const auto dialed = dialer.advance();
    ASSERT_TRUE(dialed.ok()) << dialed.status().message();
    if (*dialed == Poll::Done) break;
    std::vector<pollfd> items;
    door->add_poll(items);
    dialer.add_poll(items);
    ASSERT_TRUE(wait_on(items, dialer.poll_ms(door->poll_ms(1000))).ok());
  }
  EXPECT_TRUE(door->next().has_value());
}

TEST_F(PeersTest, EachLocalAddressReachesTheListener) {
  auto local = local_addresses();
  ASSERT_TRUE(local.ok());
  auto opened = PeerListener::open({.secret = secret_, .tag = tag_of(secret_), .rank = 0, .size = 8}, *local);
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  listener_ = std::move(*opened);
  for (const SocketAddress& address : listener_->addresses()) {
    Dialer dialer(to({address}));
    const Status status = run(dialer);
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

}  // namespace
}  // namespace tutti
