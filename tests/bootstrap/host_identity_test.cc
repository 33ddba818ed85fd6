// SPDX-License-Identifier: Apache-2.0
// Who shares memory with whom.
#include "bootstrap/host_identity.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace tutti {
namespace {

TEST(HostIdentity, BootIdAndNetworkNamespaceBothCount) {
  ASSERT_TRUE(crypto_ready().ok());
  const HostId here = host_id_of("boot", 1);
  EXPECT_EQ(here, host_id_of("boot", 1));
  EXPECT_NE(here, host_id_of("boot", 2));
  EXPECT_NE(here, host_id_of("other", 1));
  EXPECT_NE(host_id_of_text("boot"), here);
}

TEST(HostIdentity, TwoRanksOfAProcessShareAll) {
  const auto a = this_member(0), b = this_member(1);
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_TRUE(a->same_host(*b));
  EXPECT_TRUE(a->same_process(*b));
  EXPECT_EQ(a->pid, getpid());
  EXPECT_FALSE(a->hostname.empty());
}

TEST(HostIdentity, RoundTripAndTruncation) {
  const Member member = *this_member(3);
  ByteWriter writer;
  member.encode(writer);
  for (size_t size = 0; size <= writer.size(); ++size) {
    ByteReader reader(std::span(writer.bytes()).first(size));
    const Member decoded = Member::decode(reader);
    EXPECT_EQ(reader.finished(), size == writer.size());
    if (!reader.finished()) continue;
    EXPECT_EQ(decoded.text(), member.text());
    EXPECT_TRUE(decoded.same_process(member));
  }
}

TEST(HostIdentity, AHostNameCannotWriteToTheTerminal) {
  Member member = *this_member(3);
  member.hostname = "no\x1b[2Jde\n";
  ByteWriter writer;
  member.encode(writer);
  ByteReader reader(writer.bytes());
  EXPECT_EQ(Member::decode(reader).hostname, "no?[2Jde?");
}

}  // namespace
}  // namespace tutti
