// SPDX-License-Identifier: Apache-2.0
// Numbers and lengths in messages, and frames over a socket.
#include "net/wire.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <limits>

#include "base/handle.h"
#include "net/frame.h"
#include "net/socket.h"

namespace tutti {
namespace {

TEST(Wire, NumbersAreLittleEndian) {
  ByteWriter writer;
  writer.number<uint32_t>(0x01020304);
  EXPECT_EQ(writer.bytes()[0], std::byte{4});
  EXPECT_EQ(writer.bytes()[3], std::byte{1});
}

TEST(Wire, NumbersRoundTrip) {
  ByteWriter writer;
  writer.number<int32_t>(-7);
  writer.number<int64_t>(std::numeric_limits<int64_t>::min());
  writer.number<uint8_t>(255);
  writer.sized("text");
  ByteReader reader(writer.bytes());
  EXPECT_EQ(reader.number<int32_t>(), -7);
  EXPECT_EQ(reader.number<int64_t>(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(reader.number<uint8_t>(), 255);
  EXPECT_FALSE(reader.finished());
  EXPECT_EQ(reader.text(4), "text");
  EXPECT_TRUE(reader.finished());
}

TEST(Wire, AReaderThatFailedStaysFailed) {
  ByteWriter writer;
  writer.number<uint32_t>(1000);  // the length of something that is not there
  writer.number<uint32_t>(5);
  ByteReader reader(writer.bytes());
  EXPECT_TRUE(reader.sized(2000).empty());
  EXPECT_EQ(reader.number<uint32_t>(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_FALSE(reader.finished());
  ByteReader bounded(writer.bytes());
  EXPECT_TRUE(bounded.sized(3).empty());
  EXPECT_FALSE(bounded.ok());
}

struct Pair {
  Pair() {
    int fds[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    a.reset(fds[0]);
    b.reset(fds[1]);
  }
  UniqueFd a, b;
};

TEST(Frame, ArrivesWholeInWhateverPieces) {
  Pair pair;
  Bytes body(1 << 20);
  for (size_t i = 0; i < body.size(); ++i) body[i] = static_cast<std::byte>(i * 31);
  FrameWriter writer(make_frame(body));
  FrameReader reader(1 << 20);
  Poll sent = Poll::Pending, received = Poll::Pending;
  while (received == Poll::Pending) {
    if (sent == Poll::Pending) sent = *writer.advance(pair.a.get(), "a");
    received = *reader.advance(pair.b.get(), "b");
  }
  EXPECT_EQ(sent, Poll::Done);
  EXPECT_EQ(reader.take(), body);
}

TEST(Frame, AnEmptyOneArrives) {
  Pair pair;
  FrameWriter writer(make_frame({}));
  FrameReader reader(0);
  EXPECT_EQ(*writer.advance(pair.a.get(), "a"), Poll::Done);
  EXPECT_EQ(*reader.advance(pair.b.get(), "b"), Poll::Done);
  EXPECT_TRUE(reader.take().empty());
}

TEST(Frame, ALengthBeyondTheBoundIsRefusedBeforeMemoryIsTaken) {
  Pair pair;
  const Bytes length(4, std::byte{0xff});
  EXPECT_TRUE(write_full(pair.a.get(), length, Deadline::in_ms(1000), "b").ok());
  FrameReader reader(100);
  const auto received = reader.advance(pair.b.get(), "the peer");
  EXPECT_EQ(received.status().message(),
            "the peer announced a message of 4294967295 bytes, at most 100 are allowed here");
}

TEST(Frame, TheEndOfTheStreamIsAnErrorThatNamesThePeer) {
  Pair pair;
  pair.a.reset();
  FrameReader reader(100);
  EXPECT_EQ(reader.advance(pair.b.get(), "rank 3").status().message(), "rank 3 closed the connection");
}

TEST(Socket, FullReadsAndWritesEndAtTheirDeadline) {
  Pair pair;
  Bytes data(16 << 20);
  EXPECT_EQ(read_full(pair.a.get(), std::span(data).first(1), Deadline::in_ms(20), "rank 3").message(),
            "rank 3 did not answer in time");
  EXPECT_EQ(write_full(pair.a.get(), data, Deadline::in_ms(20), "rank 3").message(), "rank 3 did not answer in time");
}

}  // namespace
}  // namespace tutti
