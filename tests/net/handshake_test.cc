// SPDX-License-Identifier: Apache-2.0
// The handshake's two state machines against each other over a socket pair, and against what strangers send.
#include "net/handshake.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cstring>
#include <random>

#include "base/handle.h"
#include "net/socket.h"
#include "net/wire.h"

namespace tutti {
namespace {

using Phase = Handshake::Phase;

class HandshakeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(crypto_ready().ok());
    secret_ = random_secret();
    tag_ = tag_of(secret_);
    reconnect();
  }
  void reconnect() {
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    listener_fd_.reset(fds[0]);
    dialer_fd_.reset(fds[1]);
  }
  Handshake listener() { return Handshake::as_listener(secret_, tag_); }
  Handshake dialer() { return Handshake::as_dialer(secret_, tag_, Claim{3, 5, 77}); }
  // Until both are done or one fails.
  Status run(Handshake& listener, Handshake& dialer) {
    for (int i = 0; i < 10; ++i) {
      TUTTI_ASSIGN_OR_RETURN(const Poll a, listener.advance(listener_fd_.get(), "dialer"));
      TUTTI_ASSIGN_OR_RETURN(const Poll b, dialer.advance(dialer_fd_.get(), "listener"));
      if (a == Poll::Done && b == Poll::Done) return {};
    }
    return system_error("stuck");
  }
  Bytes read_at_dialer(size_t size) {
    Bytes bytes(size);
    EXPECT_TRUE(read_full(dialer_fd_.get(), bytes, Deadline::in_ms(1000), "listener").ok());
    return bytes;
  }
  void write_at_dialer(std::span<const std::byte> bytes) {
    EXPECT_TRUE(write_full(dialer_fd_.get(), bytes, Deadline::in_ms(1000), "listener").ok());
  }

  Secret secret_;
  CommTag tag_;
  UniqueFd listener_fd_, dialer_fd_;
};

TEST_F(HandshakeTest, BothProveAndTheClaimArrives) {
  Handshake a = listener(), b = dialer();
  const Status status = run(a, b);
  ASSERT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(a.phase(), Phase::Done);
  EXPECT_EQ(b.phase(), Phase::Done);
  EXPECT_EQ(a.claim().from, 3);
  EXPECT_EQ(a.claim().to, 5);
  EXPECT_EQ(a.claim().purpose, 77u);
}

TEST_F(HandshakeTest, NothingAfterItIsSwallowed) {
  Handshake a = listener(), b = dialer();
  ASSERT_TRUE(run(a, b).ok());
  write_at_dialer(Bytes(3, std::byte{9}));
  Bytes got(3);
  EXPECT_TRUE(read_full(listener_fd_.get(), got, Deadline::in_ms(100), "dialer").ok());
}

TEST_F(HandshakeTest, AWrongSecretFailsAtTheListener) {
  Handshake a = listener();
  Handshake b = Handshake::as_dialer(random_secret(), tag_, Claim{3, 5, 77});
  EXPECT_EQ(run(a, b).message(), "dialer does not know the secret of this job");
  // The dialer sees a closed connection and knows what that means.
  listener_fd_.reset();
  EXPECT_EQ(b.advance(dialer_fd_.get(), "listener").status().message(),
            "listener refused the connection: it belongs to another job or has another secret");
}

TEST_F(HandshakeTest, AnotherCommunicatorOfTheJobFails) {
  Handshake a = listener();
  Handshake b = Handshake::as_dialer(secret_, tag_of(random_secret()), Claim{3, 5, 77});
  EXPECT_EQ(run(a, b).message(), "dialer belongs to another communicator of this job");
}

TEST_F(HandshakeTest, AListenerWithoutTheSecretFailsAtTheDialer) {
  // It greets, takes the hello, and invents a proof.
  Handshake b = dialer();
  ByteWriter greeting;
  greeting.number(Handshake::kMagic);
  greeting.number(Handshake::kVersion);
  greeting.raw(Bytes(Handshake::kNonceBytes));
  ASSERT_TRUE(write_full(listener_fd_.get(), greeting.bytes(), Deadline::in_ms(100), "dialer").ok());
  EXPECT_EQ(*b.advance(dialer_fd_.get(), "listener"), Poll::Pending);
  ASSERT_TRUE(write_full(listener_fd_.get(), Bytes(sizeof(Mac)), Deadline::in_ms(100), "dialer").ok());
  EXPECT_EQ(b.advance(dialer_fd_.get(), "listener").status().message(),
            "listener does not know the secret of this job");
}

TEST_F(HandshakeTest, ARecordedHelloFailsAgainstANewGreeting) {
  // A good handshake, recorded between two socket pairs.
  Handshake a = listener(), b = dialer();
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  const UniqueFd tap(fds[0]), real_dialer(fds[1]);
  ASSERT_EQ(*a.advance(listener_fd_.get(), "dialer"), Poll::Pending);
  const Bytes greeting = read_at_dialer(Handshake::kGreetingBytes);
  ASSERT_TRUE(write_full(tap.get(), greeting, Deadline::in_ms(100), "dialer").ok());
  ASSERT_EQ(*b.advance(real_dialer.get(), "listener"), Poll::Pending);
  Bytes hello(Handshake::kHelloBytes);
  ASSERT_TRUE(read_full(tap.get(), hello, Deadline::in_ms(100), "dialer").ok());
  write_at_dialer(hello);
  ASSERT_EQ(*a.advance(listener_fd_.get(), "dialer"), Poll::Done);
  const Bytes proof = read_at_dialer(sizeof(Mac));

  // The hello again, to the next listener of the same job.
  reconnect();
  Handshake next = listener();
  ASSERT_EQ(*next.advance(listener_fd_.get(), "stranger"), Poll::Pending);
  write_at_dialer(hello);
  EXPECT_FALSE(next.advance(listener_fd_.get(), "stranger").ok());

  // Greeting and proof again, to the next dialer of the same job.
  reconnect();
  Handshake next_dialer = dialer();
  ASSERT_TRUE(write_full(listener_fd_.get(), greeting, Deadline::in_ms(100), "dialer").ok());
  ASSERT_EQ(*next_dialer.advance(dialer_fd_.get(), "stranger"), Poll::Pending);
  ASSERT_TRUE(write_full(listener_fd_.get(), proof, Deadline::in_ms(100), "dialer").ok());
  EXPECT_FALSE(next_dialer.advance(dialer_fd_.get(), "stranger").ok());
}

TEST_F(HandshakeTest, ADialersOwnWordsAreNoProof) {
  // Reflection: the MAC of the hello comes back as the listener's proof.
  Handshake b = dialer();
  ByteWriter greeting;
  greeting.number(Handshake::kMagic);
  greeting.number(Handshake::kVersion);
  greeting.raw(Bytes(Handshake::kNonceBytes, std::byte{1}));
  ASSERT_TRUE(write_full(listener_fd_.get(), greeting.bytes(), Deadline::in_ms(100), "dialer").ok());
  ASSERT_EQ(*b.advance(dialer_fd_.get(), "listener"), Poll::Pending);
  Bytes hello(Handshake::kHelloBytes);
  ASSERT_TRUE(read_full(listener_fd_.get(), hello, Deadline::in_ms(100), "dialer").ok());
  ASSERT_TRUE(write_full(listener_fd_.get(), std::span(hello).last(sizeof(Mac)), Deadline::in_ms(100), "dialer").ok());
  EXPECT_FALSE(b.advance(dialer_fd_.get(), "listener").ok());
}

TEST_F(HandshakeTest, EveryFlippedByteOfAHelloFails) {
  for (size_t at = 0; at < Handshake::kHelloBytes; ++at) {
    reconnect();
    Handshake a = listener(), b = dialer();
    int fds[2];
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    const UniqueFd tap(fds[0]), real_dialer(fds[1]);
    ASSERT_EQ(*a.advance(listener_fd_.get(), "dialer"), Poll::Pending);
    const Bytes greeting = read_at_dialer(Handshake::kGreetingBytes);
    ASSERT_TRUE(write_full(tap.get(), greeting, Deadline::in_ms(100), "dialer").ok());
    ASSERT_EQ(*b.advance(real_dialer.get(), "listener"), Poll::Pending);
    Bytes hello(Handshake::kHelloBytes);
    ASSERT_TRUE(read_full(tap.get(), hello, Deadline::in_ms(100), "dialer").ok());
    hello[at] ^= std::byte{1};
    write_at_dialer(hello);
    EXPECT_FALSE(a.advance(listener_fd_.get(), "dialer").ok()) << at;
  }
}

TEST_F(HandshakeTest, OtherProtocolsAndVersionsAreNamedByTheDialer) {
  Handshake b = dialer();
  const std::string banner = "SSH-2.0-OpenSSH_9.2p1 and some more text, enough";
  ASSERT_TRUE(write_full(listener_fd_.get(), std::as_bytes(std::span(banner)), Deadline::in_ms(100), "dialer").ok());
  EXPECT_EQ(b.advance(dialer_fd_.get(), "listener").status().message(),
            "listener is not a Tutti rank: another program listens there");
  reconnect();
  Handshake c = dialer();
  ByteWriter greeting;
  greeting.number(Handshake::kMagic);
  greeting.number(Handshake::kVersion + 1);
  greeting.raw(Bytes(Handshake::kNonceBytes));
  ASSERT_TRUE(write_full(listener_fd_.get(), greeting.bytes(), Deadline::in_ms(100), "dialer").ok());
  EXPECT_NE(c.advance(dialer_fd_.get(), "listener").status().message().find("version 2 of the handshake"),
            std::string::npos);
}

TEST_F(HandshakeTest, RandomBytesNeverPass) {
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    reconnect();
    Handshake a = listener();
    ASSERT_EQ(*a.advance(listener_fd_.get(), "stranger"), Poll::Pending);
    Bytes noise(1 + random() % 300);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random());
    write_at_dialer(noise);
    const auto step = a.advance(listener_fd_.get(), "stranger");
    EXPECT_TRUE(!step.ok() || (*step == Poll::Pending && noise.size() < Handshake::kHelloBytes));
    EXPECT_TRUE(a.heard());
  }
}

TEST_F(HandshakeTest, AMessageMayComeByteByByte) {
  Handshake a = listener(), b = dialer();
  ASSERT_EQ(*a.advance(listener_fd_.get(), "dialer"), Poll::Pending);
  ASSERT_EQ(*b.advance(dialer_fd_.get(), "listener"), Poll::Pending);
  Bytes hello(Handshake::kHelloBytes);
  ASSERT_TRUE(read_full(listener_fd_.get(), hello, Deadline::in_ms(100), "dialer").ok());
  // The listener's side of the wire again, a byte at a time.
  int fds[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
  const UniqueFd slow(fds[0]), tap(fds[1]);
  for (size_t i = 0; i < hello.size(); ++i) {
    ASSERT_TRUE(write_full(tap.get(), std::span(hello).subspan(i, 1), Deadline::in_ms(100), "listener").ok());
    EXPECT_EQ(*a.advance(slow.get(), "dialer"), i + 1 == hello.size() ? Poll::Done : Poll::Pending);
  }
}

}  // namespace
}  // namespace tutti
